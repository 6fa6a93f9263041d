//! How long a leader may answer.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::lead::Boot;

/// Until when a server leads. Whoever renews its lease writes it; whoever answers as leader reads it before
/// each answer.
///
/// A process that goes on after it was stopped, or its machine suspended, may find that another server leads.
/// Its own tasks may learn that only after they have answered; the clock tells at once.
#[derive(Clone, Debug)]
pub struct Tenure(Arc<AtomicU64>);

/// In place of a time: it has ended for good.
const ENDED: u64 = 0;

impl Tenure {
    /// Begins, and ends at `end` unless it is extended.
    pub fn until(end: Boot) -> Self {
        Self(Arc::new(AtomicU64::new(end.nanos())))
    }

    /// It ends at `end`, or later if it did so before.
    pub(super) fn extend(&self, end: Boot) {
        let later = |now: u64| (now != ENDED).then(|| now.max(end.nanos()));
        // Fails if it has ended for good.
        let _: Result<u64, u64> = self.0.fetch_update(Relaxed, Relaxed, later);
    }

    /// Ends it for good.
    pub fn end(&self) {
        self.0.store(ENDED, Relaxed);
    }

    /// Whether another server may lead by now.
    pub fn is_over(&self) -> bool {
        self.is_over_at(Boot::now())
    }

    fn is_over_at(&self, now: Boot) -> bool {
        now.nanos() >= self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_over_at_its_end_and_for_good_when_it_was_ended() {
        let at = |s| Boot::after(Duration::from_secs(s));
        let tenure = Tenure::until(at(10));
        let other = tenure.clone();
        assert!(!tenure.is_over_at(at(9)) && tenure.is_over_at(at(10)));
        tenure.extend(at(12));
        tenure.extend(at(11));
        assert!(!other.is_over_at(at(11)) && other.is_over_at(at(12)));
        other.end();
        tenure.extend(at(20));
        assert!(tenure.is_over_at(at(0)));
    }
}

//! Which leaders a router has seen, so that it obeys none of an earlier term.

use std::time::Duration;

use tokio::time::Instant;

/// A server that was cut off leads on for 3.5 s at most. After this time without any stream a lower term is
/// no stale leader: the servers' etcd has been restored from a backup.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// The latest leader that was seen.
#[derive(Debug, Default)]
pub(super) struct Terms {
    epoch: u64,
    term: u64,
    /// When its last stream ended, or began.
    seen: Option<Instant>,
    /// The stream that is now is of that leader.
    obeys: bool,
}

impl Terms {
    /// Whether the server of this term may be obeyed; 0: there is one only. Terms are compared within an
    /// epoch, which is the store's.
    pub(super) fn admits(&mut self, epoch: u64, term: u64, now: Instant) -> bool {
        self.obeys = false;
        let is_recent = self.seen.is_some_and(|seen| now - seen < FORGET_AFTER);
        if term != 0 && is_recent && epoch == self.epoch && term < self.term {
            return false;
        }
        (self.epoch, self.term, self.seen) = (epoch, term, Some(now));
        self.obeys = true;
        true
    }

    /// A stream has ended. One that was refused, or on which nobody said to lead, does not count: after
    /// [`FORGET_AFTER`] of these a lower term is obeyed.
    pub(super) fn left(&mut self, now: Instant) {
        if self.obeys {
            (self.seen, self.obeys) = (Some(now), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_term_is_refused_for_a_while() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut terms = Terms::default();
        assert!(terms.admits(1, 3, start));
        assert!(!terms.admits(1, 2, after(1)), "it leads no more");
        assert!(terms.admits(1, 3, after(1)));
        assert!(terms.admits(1, 4, after(2)));
        assert!(!terms.admits(1, 3, after(3)));
        assert!(terms.admits(2, 1, after(3)), "another store");
        assert!(terms.admits(2, 0, after(3)), "one server only");
        assert!(terms.admits(2, 5, after(3)));
        terms.left(after(100));
        assert!(!terms.admits(2, 4, after(150)));
        terms.left(after(151));
        terms.left(after(152));
        assert!(terms.admits(2, 4, after(161)), "restored from a backup");
    }
}

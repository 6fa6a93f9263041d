//! The engine's clock.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use tokio::time::Instant;

use crate::model::{ids::UnixMs, leases::Moment};

/// Tells the engine the time. Deadlines and leases follow Tokio's monotonic clock, which a test
/// pauses and advances; times of day follow the system's clock, or one that a test sets.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    /// The time of day at `started`, in ms since the Unix epoch; absent: the system's clock.
    set: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The clock of the system.
    pub fn system() -> Self {
        Self {
            started: Instant::now(),
            set: None,
        }
    }

    /// A clock at this time of day, which goes on as Tokio's clock does.
    pub fn at(time: UnixMs) -> Self {
        Self {
            started: Instant::now(),
            set: Some(Arc::new(AtomicI64::new(time.0))),
        }
    }

    /// Sets the time of day of a clock made by [`at`](Self::at), in all its clones.
    pub fn set(&self, time: UnixMs) {
        if let Some(set) = &self.set {
            set.store(time.less(self.started.elapsed()).0, Ordering::Relaxed);
        }
    }

    /// The time of day.
    pub fn unix(&self) -> UnixMs {
        match &self.set {
            Some(set) => UnixMs(set.load(Ordering::Relaxed)).plus(self.started.elapsed()),
            None => UnixMs::now(),
        }
    }

    /// The monotonic time, for deadlines.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// The monotonic time since the clock was made, for leases.
    pub fn moment(&self) -> Moment {
        Moment::after(self.started.elapsed())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_test_sets_both_clocks() {
        let clock = Clock::at(UnixMs(1_000_000));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.unix(), UnixMs(1_005_000));
        assert_eq!(clock.moment(), Moment::after(Duration::from_secs(5)));
        let other = clock.clone();
        clock.set(UnixMs(7));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(other.unix(), UnixMs(1_007));
        assert_eq!(other.moment(), Moment::after(Duration::from_secs(6)));
    }
}

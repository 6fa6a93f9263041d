//! The engine's clock.

#[cfg(test)]
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use tokio::time::Instant;

use crate::model::{ids::UnixMs, leases::Moment};

/// Tells the engine the time. Deadlines and leases follow Tokio's monotonic clock, which a test
/// pauses and advances; times of day follow the system's clock.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    /// In place of the system's time of day, ms since the Unix epoch.
    #[cfg(test)]
    wall: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The clock of the system.
    pub fn system() -> Self {
        Self {
            started: Instant::now(),
            #[cfg(test)]
            wall: None,
        }
    }

    /// One whose time of day a test sets, in ms since the Unix epoch.
    #[cfg(test)]
    pub(crate) fn with_wall(wall: Arc<AtomicI64>) -> Self {
        Self {
            wall: Some(wall),
            ..Self::system()
        }
    }

    /// The time of day.
    pub fn unix(&self) -> UnixMs {
        #[cfg(test)]
        if let Some(wall) = &self.wall {
            return UnixMs(wall.load(Ordering::Relaxed));
        }
        UnixMs::now()
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

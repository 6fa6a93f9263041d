//! The engine's clock.

use tokio::time::Instant;

use crate::model::{ids::UnixMs, leases::Moment};

/// Tells the engine the time. Deadlines and leases follow Tokio's monotonic clock, which a test
/// pauses and advances; times of day follow the system's clock.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// The clock of the system.
    pub fn system() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// The time of day.
    pub fn unix(&self) -> UnixMs {
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

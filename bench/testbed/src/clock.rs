//! One clock for senders and receivers: CLOCK_MONOTONIC, which is what `Instant` reads on Linux.

use std::{
    ops::Add,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// A point in time: nanoseconds since the first use of the clock in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    pub fn now() -> Self {
        static BASE: OnceLock<Instant> = OnceLock::new();
        let since = BASE.get_or_init(Instant::now).elapsed();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// As written by [`Self::nanos`].
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's base.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`, or zero if that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Sleeps until this moment. Returns at once if it is past.
    pub fn sleep(self) {
        self.sleep_at_most(Duration::MAX);
    }

    /// Sleeps until this moment, but no longer than `bound`.
    pub fn sleep_at_most(self, bound: Duration) {
        let left = self.since(Self::now()).min(bound);
        if !left.is_zero() {
            thread::sleep(left);
        }
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// A span of time over which figures are taken: from `from`, up to but without `to`.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub from: Moment,
    /// The first moment after it.
    pub to: Moment,
}

impl Window {
    /// Waits for `length` and returns the window that this was.
    pub fn pass(length: Duration) -> Self {
        let from = Moment::now();
        let to = from + length;
        to.sleep();
        Self { from, to }
    }

    /// Whether `moment` lies in the window.
    pub fn contains(self, moment: Moment) -> bool {
        self.from <= moment && moment < self.to
    }

    /// Its length in seconds.
    pub fn seconds(self) -> f64 {
        self.to.since(self.from).as_secs_f64()
    }
}

/// When the n-th of evenly spaced packets is due. Integers only: nothing drifts.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    start: Moment,
    bits_per_packet: u64,
    bits_per_second: u64,
}

impl Pacer {
    /// Packets of `bytes` bytes at `bits_per_second`, the first one at `start`.
    ///
    /// Returns `None` for a rate or a size of zero.
    pub fn new(start: Moment, bytes: u32, bits_per_second: u64) -> Option<Self> {
        let bits_per_packet = u64::from(bytes) * 8;
        (bits_per_packet > 0 && bits_per_second > 0).then_some(Self {
            start,
            bits_per_packet,
            bits_per_second,
        })
    }

    /// When packet `index` is due.
    pub fn due(&self, index: u64) -> Moment {
        let nanos = u128::from(index) * u128::from(self.bits_per_packet) * 1_000_000_000
            / u128::from(self.bits_per_second);
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pacer_is_exact_over_a_day() {
        // 1,200 B at 20 Mbit/s: 480 us each.
        let start = Moment::from_nanos(5);
        let pacer = Pacer::new(start, 1_200, 20_000_000).unwrap();
        assert_eq!(pacer.due(0), start);
        assert_eq!(pacer.due(1).nanos(), 5 + 480_000);
        assert_eq!(
            pacer.due(180_000_000).since(start),
            Duration::from_secs(86_400)
        );
    }

    #[test]
    fn pacer_keeps_the_remainder() {
        // 64 B at 3 Mbit/s: 170,666.6 ns each, so three of them are 512,000 ns.
        let pacer = Pacer::new(Moment::from_nanos(0), 64, 3_000_000).unwrap();
        assert_eq!(pacer.due(1).nanos(), 170_666);
        assert_eq!(pacer.due(3).nanos(), 512_000);
        assert!(Pacer::new(Moment::from_nanos(0), 64, 0).is_none());
    }

    #[test]
    fn a_window_has_no_end_of_its_own() {
        let window = Window {
            from: Moment::from_nanos(10),
            to: Moment::from_nanos(20),
        };
        assert!(window.contains(Moment::from_nanos(10)));
        assert!(!window.contains(Moment::from_nanos(20)));
    }
}

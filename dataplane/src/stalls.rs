use std::time::Duration;

use crate::{
    counters::StallReport,
    seconds::Seconds,
    units::{TickRate, Ticks},
};

/// For how long the loop stood still: see [`StallReport`].
#[derive(Debug)]
pub(crate) struct Stalls {
    /// When the last turn should have been over at the latest.
    expected: Ticks,
    /// Of the second that has begun, and of all before it.
    current: Ticks,
    before: Ticks,
    seconds: Seconds<Ticks>,
}

impl Stalls {
    pub(crate) fn new(clock: TickRate, now: Ticks) -> Self {
        Self {
            expected: now,
            current: Ticks(0),
            before: Ticks(0),
            seconds: Seconds::new(clock, now),
        }
    }

    /// A turn begins.
    #[inline]
    pub(crate) fn turn(&mut self, now: Ticks) {
        if self.seconds.is_over(now) {
            self.before = self.before.max(self.current);
            self.seconds.keep(self.current, now);
            self.current = Ticks(0);
        }
        self.current = self.current.max(now.since(self.expected));
        self.expected = now;
    }

    /// The loop has slept as it meant to.
    pub(crate) fn slept(&mut self, meant: Duration, clock: TickRate) {
        let nanoseconds = u64::try_from(meant.as_nanos()).unwrap_or(u64::MAX);
        self.expected = self.expected + clock.ticks(nanoseconds);
    }

    pub(crate) fn report(&self, into: &mut StallReport) {
        into.longest = self.before.max(self.current);
        self.seconds.report(self.current, &mut into.seconds);
    }
}

use std::time::Duration;

use crate::{
    stats::History,
    stats::StallReport,
    units::{TickRate, Ticks},
};

/// For how long the loop stood still: see [`StallReport`].
#[derive(Debug)]
pub(super) struct Stalls {
    /// When the last turn should have been over at the latest.
    expected: Ticks,
    /// Of the second that has begun, and of all before it.
    current: Ticks,
    before: Ticks,
    seconds: History<Ticks>,
}

impl Stalls {
    pub(super) fn new(clock: TickRate, now: Ticks) -> Self {
        Self {
            expected: now,
            current: Ticks(0),
            before: Ticks(0),
            seconds: History::new(clock, now),
        }
    }

    #[inline]
    pub(super) fn turn(&mut self, now: Ticks) {
        if self.seconds.is_over(now) {
            self.before = self.before.max(self.current);
            self.seconds.keep(self.current, now);
            self.current = Ticks(0);
        }
        self.current = self.current.max(now.since(self.expected));
        self.expected = now;
    }

    /// The loop has slept as it meant to.
    pub(super) fn slept(&mut self, meant: Duration, clock: TickRate) {
        let nanoseconds = u64::try_from(meant.as_nanos()).unwrap_or(u64::MAX);
        self.expected = self.expected + clock.ticks(nanoseconds);
    }

    pub(super) fn report(&self, into: &mut StallReport) {
        into.longest = self.before.max(self.current);
        self.seconds.report(self.current, &mut into.seconds);
    }
}

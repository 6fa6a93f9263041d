//! What was noted in each of the last seconds.

use crate::units::{TickRate, Ticks};

/// How many seconds are remembered, the one that has begun included.
pub const SECONDS: usize = 64;

/// A ring of the last seconds' notes. The note of the second that has begun is the owner's.
#[derive(Debug)]
pub(crate) struct History<T> {
    ring: Box<[T; SECONDS]>,
    /// Of the second that has begun.
    index: usize,
    ends: Ticks,
    second: Ticks,
}

impl<T: Copy + Default> History<T> {
    pub(crate) fn new(clock: TickRate, now: Ticks) -> Self {
        let second = Ticks(clock.hz());
        Self {
            ring: Box::new([T::default(); SECONDS]),
            index: 0,
            ends: now + second,
            second,
        }
    }

    /// Whether the second that had begun is over.
    #[inline]
    pub(crate) fn is_over(&self, now: Ticks) -> bool {
        now >= self.ends
    }

    /// Keeps the note of the second that is over, and begins the one of `now`.
    #[cold]
    pub(crate) fn keep(&mut self, note: T, now: Ticks) {
        self.ring[self.index] = note;
        let steps = now.since(self.ends).0 / self.second.0 + 1;
        for _ in 0..steps.min(SECONDS as u64) {
            self.index = (self.index + 1) % SECONDS;
            self.ring[self.index] = T::default();
        }
        let gone = self.second.0.saturating_mul(steps);
        self.ends = self.ends + Ticks(gone);
    }

    /// Writes all notes down, from the second that has begun backwards.
    pub(crate) fn report(&self, note: T, into: &mut [T; SECONDS]) {
        for (back, to) in into.iter_mut().enumerate() {
            *to = self.ring[(self.index + SECONDS - back) % SECONDS];
        }
        into[0] = note;
    }
}

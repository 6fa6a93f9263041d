use crate::{
    diffserv::{BucketProfile, TokenBucket},
    units::{BitRate, TickRate, Ticks},
};

/// A rate that something is held to.
#[derive(Debug)]
pub(super) struct Limiter {
    pub(super) profile: BucketProfile,
    pub(super) bucket: TokenBucket,
}

impl Limiter {
    pub(super) fn new(rate: BitRate, burst_bytes: u64, clock: TickRate, now: Ticks) -> Self {
        let profile = BucketProfile::clamped(rate, burst_bytes, clock);
        let bucket = TokenBucket::full(&profile, now);
        Self { profile, bucket }
    }

    #[inline]
    pub(super) fn refill(&mut self, now: Ticks) {
        self.bucket.refill(&self.profile, now);
    }

    /// Pays for what is sent, into deficit; the cost is the same for all limiters of a clock.
    #[inline]
    pub(super) fn take(&mut self, cost: i64) {
        self.bucket.take(cost);
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.bucket.is_open()
    }

    /// How many packets of one cost it lets go, one after the other, of at most so many.
    #[inline]
    pub(super) fn lets(&self, cost: i64, most: u32) -> u32 {
        self.bucket.lets(cost, most)
    }

    pub(super) fn opens_at(&self) -> Ticks {
        self.bucket.opens_at(&self.profile)
    }
}

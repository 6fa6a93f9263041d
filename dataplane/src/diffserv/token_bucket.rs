use thiserror::Error;

use crate::units::{BitRate, TickRate, Ticks};

/// A rate and a depth, in the clock's ticks.
///
/// Credit is counted in bit·ticks per second: a tick adds exactly `rate`, and a bit costs exactly
/// the clock's frequency. Nothing is ever divided, so there is no remainder to carry and no token
/// drifts, whatever the rate and the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketProfile {
    rate: u64,
    /// Credit of a byte.
    byte: u64,
    /// The most credit that can be saved up.
    depth: i64,
}

/// A depth that does not fit the clock.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum BucketError {
    /// Nothing would ever conform.
    #[error("a burst of 0 bytes lets nothing through")]
    EmptyBurst,
    /// The credit would overflow.
    #[error("a burst of {bytes} bytes is over the limit of {max} at this clock")]
    BurstTooLarge { bytes: u64, max: u64 },
}

impl BucketProfile {
    /// `rate`, with up to `burst_bytes` at once.
    pub fn new(rate: BitRate, burst_bytes: u64, clock: TickRate) -> Result<Self, BucketError> {
        let byte = clock.hz() * 8;
        let max = Self::max_burst(byte);
        if burst_bytes == 0 {
            return Err(BucketError::EmptyBurst);
        }
        if burst_bytes > max {
            return Err(BucketError::BurstTooLarge {
                bytes: burst_bytes,
                max,
            });
        }
        let depth = (byte * burst_bytes).cast_signed();
        Ok(Self {
            rate: rate.bps(),
            byte,
            depth,
        })
    }

    /// The nearest possible profile: a burst is at least 1 byte and at most what fits the clock.
    pub(crate) fn clamped(rate: BitRate, burst_bytes: u64, clock: TickRate) -> Self {
        let byte = clock.hz() * 8;
        let burst_bytes = burst_bytes.clamp(1, Self::max_burst(byte));
        Self {
            rate: rate.bps().max(1),
            byte,
            depth: (byte * burst_bytes).cast_signed(),
        }
    }

    /// What a packet costs. Packets are shorter than 2^24 bytes and a byte costs at most 2^36.
    #[inline]
    pub(crate) fn cost(&self, bytes: u32) -> i64 {
        debug_assert!(bytes < 1 << 24, "no packet is that long");
        (self.byte * u64::from(bytes)).cast_signed()
    }

    /// The largest burst; half of the range is left for deficits.
    fn max_burst(byte: u64) -> u64 {
        (i64::MAX / 2).cast_unsigned() / byte
    }

    /// The same as [`Self::new`] of a rate and burst that it has accepted at this clock: without
    /// the checks, for each packet.
    #[inline]
    pub(crate) fn of_admitted(rate: BitRate, burst_bytes: u32, clock: TickRate) -> Self {
        let byte = clock.hz() * 8;
        let depth = byte.wrapping_mul(burst_bytes.into()).cast_signed();
        Self {
            rate: rate.bps(),
            byte,
            depth,
        }
    }

    /// The largest burst, in bytes.
    #[must_use]
    pub fn burst_bytes(&self) -> u64 {
        self.depth.cast_unsigned() / self.byte
    }
}

/// A token bucket. Time is an argument; it may stand still, and going back counts as standing still.
/// The default is empty at time 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenBucket {
    credit: i64,
    last: Ticks,
}

impl TokenBucket {
    /// A bucket with a whole burst of credit.
    #[must_use]
    pub fn full(profile: &BucketProfile, now: Ticks) -> Self {
        Self {
            credit: profile.depth,
            last: now,
        }
    }

    /// Adds what has come in since the last call.
    #[inline]
    pub fn refill(&mut self, profile: &BucketProfile, now: Ticks) {
        let last = self.last.max(now);
        let elapsed = last.0 - self.last.0;
        self.last = last;
        // Credit and gain are at most i64::MAX / 2 each, so that their sum does not overflow.
        let most = (i64::MAX / 2).cast_unsigned();
        let gain = elapsed.saturating_mul(profile.rate).min(most);
        self.credit = (self.credit + gain.cast_signed()).min(profile.depth);
    }

    /// As [`Self::refill`]; returns the credit for which there was no room. For buckets that are
    /// never in deficit.
    #[inline]
    pub(super) fn refill_with_overflow(&mut self, profile: &BucketProfile, now: Ticks) -> u64 {
        // Even when it saturates this is more than two bursts, so whoever gets the rest is full.
        let gain = now.since(self.last).0.saturating_mul(profile.rate);
        self.last = self.last.max(now);
        self.take_in(profile, gain)
    }

    /// Adds credit that comes from elsewhere.
    #[inline]
    pub(super) fn pour(&mut self, profile: &BucketProfile, now: Ticks, credit: u64) {
        self.last = self.last.max(now);
        self.take_in(profile, credit);
    }

    /// Adds what there is room for; returns the rest. A profile that has become smaller cuts what
    /// was saved up.
    #[inline]
    fn take_in(&mut self, profile: &BucketProfile, credit: u64) -> u64 {
        self.credit = self.credit.min(profile.depth);
        let room = profile.depth.abs_diff(self.credit);
        let taken = credit.min(room);
        self.credit = self.credit.saturating_add_unsigned(taken);
        credit - taken
    }

    /// The credit that a packet would leave; negative when there is not enough for it.
    #[inline]
    pub(super) fn left_after(&self, profile: &BucketProfile, bytes: u32) -> i64 {
        self.credit.saturating_sub(profile.cost(bytes))
    }

    /// Whether a packet conforms, as a meter asks: its whole length must be covered. Takes the
    /// tokens if so.
    #[inline]
    pub fn conforms(&mut self, profile: &BucketProfile, bytes: u32) -> bool {
        let cost = profile.cost(bytes);
        let fits = self.credit >= cost;
        if fits {
            self.credit -= cost;
        }
        fits
    }

    /// In what [`BucketProfile::cost`] counts.
    #[inline]
    pub(crate) fn credit(&self) -> i64 {
        self.credit
    }

    /// Whether a packet may go, as a shaper asks: some credit must be left from the one before.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.credit > 0
    }

    /// How many packets of one cost may go one after the other, each as [`Self::is_open`] says, of at
    /// most `most`.
    #[inline]
    pub(crate) fn lets(&self, cost: i64, most: u32) -> u32 {
        if self.credit <= 0 {
            return 0;
        }
        // Packets cost under 2^60, and there are not many: without the cap nothing overflows.
        if cost.saturating_mul(i64::from(most)) < self.credit {
            return most;
        }
        let packets = self
            .credit
            .unsigned_abs()
            .div_ceil(cost.unsigned_abs().max(1));
        u32::try_from(packets).map_or(most, |packets| packets.min(most))
    }

    /// Takes a packet's tokens, into deficit if need be: the long-term rate is exact and a packet
    /// longer than the depth is no special case.
    #[inline]
    pub fn charge(&mut self, profile: &BucketProfile, bytes: u32) {
        self.take(profile.cost(bytes));
    }

    /// Takes what [`BucketProfile::cost`] has said.
    #[inline]
    pub(crate) fn take(&mut self, cost: i64) {
        self.credit = self.credit.saturating_sub(cost);
    }

    /// The first time at which it is open again, after the last refill.
    #[must_use]
    pub fn opens_at(&self, profile: &BucketProfile) -> Ticks {
        if self.credit > 0 {
            return self.last;
        }
        let missing = self.credit.unsigned_abs() + 1;
        self.last + Ticks(missing.div_ceil(profile.rate))
    }

    /// Checks what must hold between calls.
    pub fn invariants(&self, profile: &BucketProfile) {
        debug_assert!(self.credit <= profile.depth, "credit is over the depth");
    }

    /// Time of the last refill.
    #[must_use]
    pub fn last(&self) -> Ticks {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The meter of RFC 2697 section 3 with one bucket, in exact rational numbers: credit is a
    /// fraction of bits over the clock's frequency, held as a numerator of unlimited range.
    struct Model {
        credit: i128,
        last: u64,
    }

    impl Model {
        fn conforms(&mut self, rate: u64, burst: u64, hz: u64, now: u64, bytes: u32) -> bool {
            let depth = i128::from(burst) * 8 * i128::from(hz);
            if now > self.last {
                self.credit += i128::from(now - self.last) * i128::from(rate);
                self.last = now;
            }
            self.credit = self.credit.min(depth);
            let cost = i128::from(bytes) * 8 * i128::from(hz);
            let fits = cost <= self.credit;
            if fits {
                self.credit -= cost;
            }
            fits
        }
    }

    proptest! {
        /// Exact from 8 kbit/s to 400 Gbit/s, over long times.
        #[test]
        fn agrees_with_exact_arithmetic(
            rate in prop_oneof![8_000_u64..100_000_000, 100_000_000_u64..400_000_000_000],
            burst in 1_u64..50_000_000,
            hz in prop_oneof![Just(1_000_000_000_u64), 1_000_000_000_u64..5_000_000_000],
            start in 0..1_u64 << 60,
            steps in prop::collection::vec(
                (prop_oneof![4 => 0_u64..10_000, 2 => 0..1_u64 << 32, 1 => 0..1_u64 << 50], 0_u32..100_000),
                1..200,
            ),
        ) {
            let clock = TickRate::from_hz(hz);
            let profile = BucketProfile::new(BitRate::from_bps(rate).unwrap(), burst, clock).unwrap();
            let mut bucket = TokenBucket::full(&profile, Ticks(start));
            let mut model = Model { credit: i128::from(burst) * 8 * i128::from(hz), last: start };
            let mut now = start;
            for (elapsed, bytes) in steps {
                now += elapsed;
                bucket.refill(&profile, Ticks(now));
                let conforms = bucket.conforms(&profile, bytes);
                bucket.invariants(&profile);
                prop_assert_eq!(conforms, model.conforms(rate, burst, hz, now, bytes));
            }
        }

        /// A shaper that sends whenever it is open sends at its rate: to the packet, and for ever.
        #[test]
        fn shapes_exactly(
            rate in 8_000_u64..400_000_000_000,
            bytes in 20_u32..9_000,
            hz in 1_000_000_000_u64..5_000_000_000,
        ) {
            let clock = TickRate::from_hz(hz);
            let profile = BucketProfile::new(BitRate::from_bps(rate).unwrap(), 1, clock).unwrap();
            let mut bucket = TokenBucket::full(&profile, Ticks(0));
            let mut now = Ticks(0);
            let packets = 2_000_u64;
            for _ in 0..packets {
                now = now.max(bucket.opens_at(&profile));
                bucket.refill(&profile, now);
                prop_assert!(bucket.is_open());
                bucket.charge(&profile, bytes);
            }
            let ideal = u128::from(packets - 1) * u128::from(bytes) * 8 * u128::from(hz) / u128::from(rate);
            // The bucket's byte of depth may come first, and each wait is rounded up to a tick.
            let early = 8 * hz / rate + 1;
            prop_assert!(u128::from(now.0) + u128::from(early) >= ideal, "{} {ideal}", now.0);
            prop_assert!(u128::from(now.0) <= ideal + 2 * u128::from(packets), "{} {ideal}", now.0);
        }
    }

    #[test]
    fn impossible_bursts_are_refused() {
        let clock = TickRate::from_hz(2_300_000_000);
        let rate = BitRate::from_bps(1_000).unwrap();
        assert_eq!(
            BucketProfile::new(rate, 0, clock),
            Err(BucketError::EmptyBurst)
        );
        assert!(matches!(
            BucketProfile::new(rate, u64::MAX, clock),
            Err(BucketError::BurstTooLarge { .. })
        ));
        let profile = BucketProfile::new(rate, 1500, clock).unwrap();
        assert_eq!(profile.burst_bytes(), 1500);
    }

    #[test]
    fn time_that_goes_back_stands_still() {
        let clock = TickRate::from_hz(1_000_000_000);
        let profile = BucketProfile::new(BitRate::from_bps(8_000).unwrap(), 100, clock).unwrap();
        let mut bucket = TokenBucket::full(&profile, Ticks(1_000_000_000));
        assert!(bucket.conforms(&profile, 100));
        bucket.refill(&profile, Ticks(0));
        bucket.refill(&profile, Ticks(1_000_000_000));
        assert!(!bucket.conforms(&profile, 1));
        bucket.refill(&profile, Ticks(1_001_000_000));
        assert!(bucket.conforms(&profile, 1), "one byte a millisecond");
    }
}

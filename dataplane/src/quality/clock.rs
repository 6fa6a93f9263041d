use std::array;

use super::payload::{CLOCK_RATES, Payload};
use crate::units::{TickRate, Ticks};

/// Bits behind the point in an RTP clock's time.
pub(super) const FRACTION_BITS: u32 = 8;
/// Bits of that time that count: RTP's timestamp has 32.
const TIME_BITS: u32 = 32 + FRACTION_BITS;
/// A packet is late when it has been on its way for longer than the quickest by this: what a fixed
/// playout buffer would throw away.
const LATE_MS: u32 = 60;

/// How a worker's time becomes that of an RTP clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// 1/256 RTP ticks a tick, times 2^64.
    scale: u64,
    /// A second, in 1/256 RTP ticks.
    pub(super) second: u64,
    /// [`LATE_MS`], in RTP ticks.
    pub(super) late: u32,
}

impl Clock {
    /// Without a known rate: what is measured with it has no meaning, and never jumps or is late.
    const UNKNOWN: Self = Self {
        scale: 0,
        second: u64::MAX,
        late: u32::MAX,
    };

    fn new(rate_hz: u32, ticks: TickRate) -> Self {
        let second = u64::from(rate_hz) << FRACTION_BITS;
        let scale = (u128::from(second) << 64) / u128::from(ticks.hz().max(1));
        Self {
            scale: u64::try_from(scale).unwrap_or(u64::MAX),
            second,
            late: rate_hz * LATE_MS / 1_000,
        }
    }

    /// Time on the way and an unknown constant, in 1/256 RTP ticks modulo 2^40.
    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a 64-bit time is scaled down"
    )]
    pub(super) fn transit(&self, now: Ticks, timestamp: u32) -> u64 {
        let arrival = ((u128::from(now.0) * u128::from(self.scale)) >> 64) as u64;
        arrival.wrapping_sub(u64::from(timestamp) << FRACTION_BITS)
    }
}

/// How much two transits differ, in 1/256 RTP ticks.
#[inline(always)]
#[allow(
    clippy::cast_possible_wrap,
    reason = "the sign is extended from bit 39"
)]
pub(super) fn difference(transit: u64, before: u64) -> u64 {
    const UNUSED: u32 = u64::BITS - TIME_BITS;
    let difference = (transit.wrapping_sub(before) << UNUSED) as i64 >> UNUSED;
    difference.unsigned_abs()
}

/// The clocks of all payloads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks([Clock; Payload::CLOCKS]);

impl Clocks {
    pub(super) fn new(ticks: TickRate) -> Self {
        Self(array::from_fn(|index| {
            let rate = index.checked_sub(1).and_then(|it| CLOCK_RATES.get(it));
            rate.map_or(Clock::UNKNOWN, |&rate| Clock::new(rate, ticks))
        }))
    }

    #[inline(always)]
    pub(super) fn of(&self, payload: Payload) -> &Clock {
        &self.0[payload.clock_index()]
    }
}

use std::array;

use super::payload::{CLOCK_RATES, Payload};
use crate::units::{TickRate, Ticks};

/// Bits behind the point in a difference of transits.
pub(super) const FRACTION_BITS: u32 = 8;
/// Of a transit's 64 bits, those behind the point: RTP's timestamp has 32.
const TRANSIT_BITS: u32 = 32;
/// A packet is late when it has been on its way for longer than the quickest by this: what a fixed
/// playout buffer would throw away.
const LATE_MS: u32 = 60;

/// How a worker's time becomes that of an RTP clock. A power of two bytes: its place is found quickest.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Clock {
    /// RTP ticks a tick, times 2^64.
    scale: u64,
    /// What counts of a packet's time.
    mask: u64,
    /// A second, as [`difference`] has it.
    pub(super) second: u64,
    /// [`LATE_MS`], in RTP ticks.
    pub(super) late: u32,
}

impl Clock {
    /// Without a known rate every transit is the same.
    const UNKNOWN: Self = Self {
        scale: 0,
        mask: 0,
        second: u64::MAX,
        late: u32::MAX,
    };

    fn new(rate_hz: u32, ticks: TickRate) -> Self {
        let scale = (u128::from(rate_hz) << 64) / u128::from(ticks.hz().max(1));
        Self {
            scale: u64::try_from(scale).unwrap_or(u64::MAX),
            mask: u64::MAX,
            second: u64::from(rate_hz) << FRACTION_BITS,
            late: rate_hz * LATE_MS / 1_000,
        }
    }

    /// A moment, in 2^-32 RTP ticks, around their end.
    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a 64-bit time is scaled down"
    )]
    fn arrival(&self, now: Ticks) -> u64 {
        ((u128::from(now.0) * u128::from(self.scale)) >> (64 - TRANSIT_BITS)) as u64
    }

    /// Time on the way and a constant of the stream, in 2^-32 RTP ticks, around their end.
    /// `sent` is the header's timestamp and SSRC as one number: the latter is part of the constant.
    #[inline(always)]
    pub(super) fn transit(&self, now: Ticks, sent: u64) -> u64 {
        self.transit_at(self.arrival(now), sent)
    }

    #[inline(always)]
    pub(super) fn transit_at(&self, arrival: u64, sent: u64) -> u64 {
        arrival.wrapping_sub(sent & self.mask)
    }
}

/// How much two transits differ, in 1/256 RTP ticks.
#[inline(always)]
pub(super) fn difference(transit: u64, before: u64) -> u64 {
    let difference = transit.wrapping_sub(before).cast_signed();
    difference.unsigned_abs() >> (TRANSIT_BITS - FRACTION_BITS)
}

/// RTP ticks of a transit.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "timestamps have 32 bits")]
pub(super) fn whole(transit: u64) -> u32 {
    (transit >> TRANSIT_BITS) as u32
}

/// When a burst came, and what that is by the clock that was asked last: nearly all have the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(super) now: Ticks,
    index: usize,
    arrival: u64,
}

impl Moment {
    pub(crate) fn new(now: Ticks) -> Self {
        let (index, arrival) = (usize::MAX, 0);
        Self {
            now,
            index,
            arrival,
        }
    }
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

    /// A payload's clock, and a moment as its [`Clock::transit_at`] takes it.
    #[inline(always)]
    pub(super) fn at(&self, payload: Payload, moment: &mut Moment) -> (&Clock, u64) {
        let (index, clock) = (payload.clock_index(), self.of(payload));
        if index != moment.index {
            (moment.index, moment.arrival) = (index, clock.arrival(moment.now));
        }
        (clock, moment.arrival)
    }
}

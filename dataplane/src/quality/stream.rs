use super::{
    blocks::{BLOCK, Blocks},
    clock::{Clocks, FRACTION_BITS, Moment, difference, whole},
    detail::{Detail, Held, increment},
    kind::Rtp,
    payload::Payload,
};
use crate::units::Ticks;

/// How far forward a number may jump; what lies between is lost (RFC 3550 appendix A.1).
const MAX_DROPOUT: i16 = 3_000;
/// How far back one may be, less than the window's length (RFC 3550 appendix A.1).
const MAX_MISORDER: i16 = 100;
/// Numbers in the window.
const WINDOW: u32 = u128::BITS;
/// The most numbers from the lowest one to the highest; those before count as a former stream's.
const MAX_NUMBERS: u32 = 1 << 30;
/// The quickest transit is that of so many numbers, and of those so many before: clocks drift.
const FLOOR_NUMBERS: u32 = 1_024;

/// What each packet of a flow touches: one cache line.
///
/// Numbers are RTP's, extended to 32 bits (RFC 3550 appendix A.1); they begin at 65,536 and the first
/// packet's.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Stream {
    /// Which numbers have been seen: bit `i` is that of `highest - i`, and set before the lowest. Empty: no
    /// packet has come.
    window: u128,
    /// The last packet's, as [`Clocks`] has it.
    transit: u64,
    /// What the next packet's first four bytes should be: without padding, extension and sources, and
    /// with the number after `highest`. [`Self::UNLIKE_ANY`]: each packet is to be looked at.
    expected: u32,
    pub(super) ssrc: u32,
    highest: u32,
    /// The shortest transit lately, in RTP ticks.
    floor: u32,
    /// Distinct packets of the flow, of former streams, too.
    pub(super) received: u32,
    /// The shortest since `highest` was a multiple of [`FLOOR_NUMBERS`].
    next_floor: u32,
    /// RFC 3550 appendix A.8, in 1/4096 RTP ticks.
    jitter: u32,
    jitter_max: u32,
    pub(super) late: u32,
    /// The last packet's that was neither event nor noise, or [`Self::NO_TYPE`].
    payload_type: u8,
    payload: Payload,
    flags: u8,
}

const _: () = assert!(size_of::<Stream>() == 64, "one cache line");

impl Stream {
    /// RTP's version in its place of the first four bytes.
    const VERSION: u32 = 0x8000_0000;
    /// Of these, the bits that must be as expected: version, marker, payload type, number.
    const COMPARED: u32 = 0xc0ff_ffff;
    const UNLIKE_ANY: u32 = u32::MAX;
    const NO_TYPE: u8 = u8::MAX;

    /// A packet is held.
    const HELD: u8 = 1;
    /// The last number that left the window was lost.
    const IN_RUN: u8 = 2;
    /// No transit yet.
    const NO_TRANSIT: u8 = 4;
    /// No transit yet for `next_floor`.
    const NO_NEXT_FLOOR: u8 = 8;

    /// Takes a packet if it is the next one of its stream, with nothing that is to be noted; says whether
    /// it was.
    #[inline(always)]
    pub(super) fn take_next(
        &mut self,
        header: &[u8; Rtp::LENGTH],
        moment: &mut Moment,
        clocks: &Clocks,
    ) -> bool {
        let [a, b, c, d, sent @ ..] = *header;
        let start = u32::from_be_bytes([a, b, c, d]);
        let sent = u64::from_be_bytes(sent);
        // Mostly nothing is missing: what would be shifted in and out is alike.
        let all_seen = self.window == u128::MAX;
        if start & Self::COMPARED != self.expected
            || low_half(sent) != self.ssrc
            || !all_seen && self.window >> (WINDOW - 1) == 0
            || start.is_multiple_of(BLOCK)
        {
            return false;
        }
        let (clock, arrival) = clocks.at(self.payload, moment);
        let transit = clock.transit_at(arrival, sent);
        let difference = difference(transit, self.transit);
        let ticks = whole(transit);
        let jitter = self.varied(difference);
        if difference > clock.second
            || is_before(ticks, self.next_floor)
            || ticks.wrapping_sub(self.floor) > clock.late
        {
            return false;
        }
        if !all_seen {
            self.window = self.window << 1 | 1;
        }
        self.highest = self.highest.wrapping_add(1);
        // The number after the last one is a multiple of [`BLOCK`], so that no carry counts.
        self.expected = self.expected.wrapping_add(1);
        self.received = self.received.wrapping_add(1);
        self.transit = transit;
        self.jitter = jitter;
        self.jitter_max = self.jitter_max.max(jitter);
        true
    }

    /// Takes any other packet; says whether its number is a new one of the stream.
    pub(super) fn take(
        &mut self,
        rtp: &Rtp,
        now: Ticks,
        detail: &mut Detail,
        clocks: &Clocks,
    ) -> bool {
        let held = self.flags & Self::HELD != 0;
        self.flags &= !Self::HELD;
        let of_stream = self.window != 0 && rtp.ssrc() == self.ssrc;
        let step = self.step(rtp.number).filter(|_| of_stream);
        let is_new = if let Some(step) = step {
            if held {
                increment(&mut detail.foreign);
            }
            self.take_step(step, rtp, now, detail, clocks)
        } else {
            self.take_foreign(held, &Held { rtp: *rtp, now }, detail, clocks)
        };
        self.expect();
        is_new
    }

    /// Takes a packet that is not of this stream: if it follows the one that is held, another has begun.
    /// Says whether the stream that is now has it.
    fn take_foreign(
        &mut self,
        holds: bool,
        held: &Held,
        detail: &mut Detail,
        clocks: &Clocks,
    ) -> bool {
        let first = detail.held;
        detail.held = *held;
        let rtp = &held.rtp;
        if self.window == 0 {
            self.start(held, detail, clocks);
            true
        } else if holds
            && first.rtp.ssrc() == rtp.ssrc()
            && first.rtp.number.wrapping_add(1) == rtp.number
        {
            increment(match rtp.ssrc() == self.ssrc {
                true => &mut detail.restarts,
                false => &mut detail.ssrc_changes,
            });
            self.end(detail);
            self.start(&first, detail, clocks);
            self.take_step(1, rtp, held.now, detail, clocks)
        } else {
            if holds {
                increment(&mut detail.foreign);
            }
            self.flags |= Self::HELD;
            false
        }
    }

    /// What the next packet is to look like, for [`Self::take_next`].
    fn expect(&mut self) {
        let next = low(self.highest.wrapping_add(1));
        self.expected = match self.flags == 0 && self.payload_type != Self::NO_TYPE {
            true => Self::VERSION | u32::from(self.payload_type) << 16 | u32::from(next),
            false => Self::UNLIKE_ANY,
        };
    }

    /// How far a number is from the highest; `None`: it is not of this stream.
    fn step(&self, number: u16) -> Option<i16> {
        let step = number.wrapping_sub(low(self.highest)).cast_signed();
        (-MAX_MISORDER..=MAX_DROPOUT)
            .contains(&step)
            .then_some(step)
    }

    fn start(&mut self, &Held { rtp, now }: &Held, detail: &mut Detail, clocks: &Clocks) {
        let number = 1 << 16 | u32::from(rtp.number);
        *self = Self {
            window: u128::MAX,
            ssrc: rtp.ssrc(),
            highest: number,
            received: self.received.wrapping_add(1),
            late: self.late,
            payload_type: Self::NO_TYPE,
            flags: Self::NO_TRANSIT,
            ..Self::default()
        };
        detail.base = number;
        detail.blocks = Blocks::default();
        detail.blocks.pass(number.wrapping_sub(1), number, now);
        self.time(&rtp, now, detail, clocks);
    }

    /// What is missing now will not come.
    fn end(&mut self, detail: &mut Detail) {
        let numbers = self.numbers(detail);
        self.leave(WINDOW, detail);
        detail.bursts.close();
        detail.expected_before = detail.expected_before.wrapping_add(numbers);
    }

    /// Takes a packet of this stream; says whether it is no duplicate.
    fn take_step(
        &mut self,
        step: i16,
        rtp: &Rtp,
        now: Ticks,
        detail: &mut Detail,
        clocks: &Clocks,
    ) -> bool {
        let distance = u32::from(step.unsigned_abs());
        if step > 0 {
            let before = self.highest;
            self.advance(distance, detail);
            detail.blocks.pass(before, self.highest, now);
        } else {
            let number = self.highest.wrapping_sub(distance);
            if is_before(number, detail.base) {
                // What lies between is missing.
                let between = detail.base.wrapping_sub(number).wrapping_sub(1);
                self.window &= !(((1 << between) - 1) << (distance - between));
                detail.base = number;
            } else if self.window >> distance & 1 != 0 {
                increment(&mut detail.duplicates);
                return false;
            }
            self.window |= 1 << distance;
            increment(&mut detail.reordered);
        }
        self.received = self.received.wrapping_add(1);
        self.time(rtp, now, detail, clocks);
        true
    }

    /// The window goes on: what leaves it unseen is lost.
    fn advance(&mut self, by: u32, detail: &mut Detail) {
        self.leave(by, detail);
        let before = self.highest;
        // Numbers are compared around their end: the lowest must not be too far behind.
        if self.numbers(detail) > MAX_NUMBERS {
            let base = before.wrapping_sub(WINDOW - 1);
            let passed = base.wrapping_sub(detail.base);
            detail.expected_before = detail.expected_before.wrapping_add(passed);
            detail.base = base;
        }
        self.highest = before.wrapping_add(by);
        self.window = self.window.checked_shl(by).unwrap_or_default() | 1;
        if before / FLOOR_NUMBERS != self.highest / FLOOR_NUMBERS {
            if self.flags & Self::NO_NEXT_FLOOR == 0 {
                self.floor = self.next_floor;
            }
            self.flags |= Self::NO_NEXT_FLOOR;
        }
    }

    /// Counts what is lost of the oldest numbers of the window, and of those that it passes over.
    fn leave(&mut self, by: u32, detail: &mut Detail) {
        let (mut window, mut left) = (self.window, by.min(WINDOW));
        let mut number = self.highest.wrapping_sub(WINDOW - 1);
        while left > 0 {
            let seen = window.leading_ones().min(left);
            if seen > 0 {
                self.flags &= !Self::IN_RUN;
            }
            let lost = match window.checked_shl(seen) {
                Some(rest) => rest.leading_zeros().min(left - seen),
                None => 0,
            };
            self.lose(number.wrapping_add(seen), lost, detail);
            window = window.checked_shl(seen + lost).unwrap_or_default();
            left -= seen + lost;
            number = number.wrapping_add(seen + lost);
        }
        self.lose(
            self.highest.wrapping_add(1),
            by.saturating_sub(WINDOW),
            detail,
        );
    }

    /// So many numbers have not been seen, from one on; those before the first packet do not count.
    fn lose(&mut self, number: u32, count: u32, detail: &mut Detail) {
        let before = match is_before(number, detail.base) {
            true => detail.base.wrapping_sub(number).min(count),
            false => 0,
        };
        let (number, count) = (number.wrapping_add(before), count - before);
        if count == 0 {
            return;
        }
        if self.flags & Self::IN_RUN == 0 {
            increment(&mut detail.runs);
        }
        self.flags |= Self::IN_RUN;
        detail.bursts.add(number, count);
        detail.blocks.lose(number, count);
    }

    /// What a packet's time and payload type say; of a packet that is no duplicate.
    fn time(&mut self, rtp: &Rtp, now: Ticks, detail: &mut Detail, clocks: &Clocks) {
        let payload = detail.types.meaning(rtp.payload_type);
        if payload.is_event() {
            return increment(&mut detail.events);
        }
        if payload.is_noise() {
            increment(&mut detail.noise);
        }
        detail.spurts = detail.spurts.saturating_add(rtp.marker.into());
        if payload.clock_index() != self.payload.clock_index() {
            self.change_clock(payload);
            (self.payload, self.payload_type) = (payload, Self::NO_TYPE);
        }
        // Each packet of noise is counted, and speech that goes on after it is as expected.
        if !payload.is_noise() {
            (self.payload, self.payload_type) = (payload, rtp.payload_type);
        }

        let clock = clocks.of(payload);
        let transit = clock.transit(now, rtp.sent);
        let difference = difference(transit, self.transit);
        let ticks = whole(transit);
        let jumps = difference > clock.second;
        if self.flags & Self::NO_TRANSIT != 0 || jumps {
            let begun = self.flags & Self::NO_TRANSIT == 0;
            detail.timestamp_jumps = detail.timestamp_jumps.saturating_add(begun.into());
            self.flags &= !Self::NO_TRANSIT;
            (self.floor, self.next_floor) = (ticks, ticks);
        } else {
            self.jitter = self.varied(difference);
            self.jitter_max = self.jitter_max.max(self.jitter);
        }
        self.transit = transit;
        if self.flags & Self::NO_NEXT_FLOOR != 0 {
            self.flags &= !Self::NO_NEXT_FLOOR;
            self.next_floor = ticks;
        }
        for floor in [&mut self.floor, &mut self.next_floor] {
            if is_before(ticks, *floor) {
                *floor = ticks;
            }
        }
        let late = ticks.wrapping_sub(self.floor) > clock.late;
        self.late = self.late.wrapping_add(late.into());
    }

    /// Jitter goes over to another clock, transits begin anew.
    fn change_clock(&mut self, to: Payload) {
        let rates = self.payload.clock_hz().zip(to.clock_hz());
        let convert = |jitter: u32| match rates {
            Some((from, to)) => u64::from(jitter) * u64::from(to) / u64::from(from),
            None => 0,
        };
        self.jitter = u32::try_from(convert(self.jitter)).unwrap_or(u32::MAX);
        self.jitter_max = u32::try_from(convert(self.jitter_max)).unwrap_or(u32::MAX);
        self.flags |= Self::NO_TRANSIT;
    }

    /// Jitter with another packet: RFC 3550 appendix A.8, `jitter += d - ((jitter + 8) >> 4)`. Of use if
    /// the difference is at most a second.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "else it is not used")]
    fn varied(&self, difference: u64) -> u32 {
        let jitter = self.jitter.wrapping_add(difference as u32);
        jitter.wrapping_sub((self.jitter + 8) >> 4)
    }

    /// Its payload types mean something else from now on.
    pub(super) fn forget_payload(&mut self) {
        self.payload_type = Self::NO_TYPE;
        self.expect();
    }

    /// How many numbers there are from the lowest to the highest.
    fn numbers(&self, detail: &Detail) -> u32 {
        self.highest.wrapping_sub(detail.base).wrapping_add(1)
    }

    /// The lowest number and the highest; `None` before the first.
    pub(super) fn range(&self, detail: &Detail) -> Option<(u32, u32)> {
        (self.window != 0).then_some((detail.base, self.highest))
    }

    /// How many are missing that may still come.
    pub(super) fn missing(&self, detail: &Detail) -> u32 {
        if self.window == 0 {
            return 0;
        }
        let numbers = self.numbers(detail).min(WINDOW);
        let within = u128::MAX.checked_shr(WINDOW - numbers).unwrap_or_default();
        (!self.window & within).count_ones()
    }

    /// The first number that may still come.
    pub(super) fn settled(&self) -> u32 {
        self.highest.wrapping_sub(WINDOW - 1)
    }

    pub(super) fn is_holding(&self) -> bool {
        self.flags & Self::HELD != 0
    }

    /// What the last packet carried: payload type, and what that means.
    pub(super) fn payload(&self) -> Option<(u8, Payload)> {
        let known = self.window != 0 && self.payload_type != Self::NO_TYPE;
        known.then_some((self.payload_type, self.payload))
    }

    /// Jitter now and at most, in nanoseconds; `None` where the clock is not known.
    pub(super) fn jitter_ns(&self) -> Option<[u64; 2]> {
        let rate = u128::from(self.payload.clock_hz()?) << (FRACTION_BITS + 4);
        let ns = |jitter: u32| {
            let ns = u128::from(jitter) * 1_000_000_000 / rate;
            u64::try_from(ns).unwrap_or(u64::MAX)
        };
        Some([self.jitter, self.jitter_max].map(ns))
    }

    /// Ends a copy, so that all that is missing is in what `detail` has.
    pub(super) fn ended(&self, detail: &Detail) -> Detail {
        let (mut stream, mut detail) = (*self, *detail);
        if stream.window != 0 {
            stream.end(&mut detail);
        }
        detail
    }
}

/// RTP's 16 bits of an extended number.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "RTP has 16 bits of it")]
fn low(number: u32) -> u16 {
    number as u16
}

#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "the lower half")]
fn low_half(sent: u64) -> u32 {
    sent as u32
}

/// Whether one number, or time, is before another, around their end.
#[inline(always)]
pub(super) fn is_before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

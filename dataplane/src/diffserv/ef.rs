use std::collections::VecDeque;

use crate::{
    stats::{History, SECONDS},
    units::{BitRate, TickRate, Ticks},
};

/// How well a port has served the EF aggregate: the error terms of RFC 3246 section 2.2, which say
/// by how much departures were later than those of an ideal server at the configured EF rate.
///
/// Packet times are those of last bits. A packet arrives when its burst is taken from the device,
/// and has departed one wire time at the port's rate after it was handed to the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EfError {
    /// Packets that departed.
    pub packets: u64,
    /// E_a, which knows the aggregate only, in ticks.
    pub aggregate: Ticks,
    /// E_p, which knows each packet, in ticks.
    pub packet: Ticks,
}

impl EfError {
    #[inline]
    fn raise(&mut self, aggregate: Ticks, packet: Ticks) {
        self.aggregate = self.aggregate.max(aggregate);
        self.packet = self.packet.max(packet);
    }

    /// Both together: the worse terms.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            aggregate: self.aggregate.max(other.aggregate),
            packet: self.packet.max(other.packet),
        }
    }
}

/// How well a port served the EF aggregate.
#[derive(Clone, Debug)]
pub struct EfReport {
    /// Since the start.
    pub total: EfError,
    /// Second by second, from the one that has begun backwards.
    pub seconds: Box<[EfError; SECONDS]>,
}

impl Default for EfReport {
    fn default() -> Self {
        Self {
            total: EfError::default(),
            seconds: Box::new([EfError::default(); SECONDS]),
        }
    }
}

impl EfReport {
    /// Over this many seconds, with the one that has begun.
    #[must_use]
    pub fn last(&self, seconds: usize) -> EfError {
        let last = self.seconds.iter().take(seconds);
        last.copied().fold(EfError::default(), EfError::with)
    }
}

/// The recursion of RFC 3246: the target departure time, and the last departure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Target {
    f: Ticks,
    d: Ticks,
}

impl Target {
    /// "f_j = max(a_j, min(d_j-1, f_j-1)) + l_j/R"; gives d_j - f_j.
    #[inline]
    fn depart(&mut self, arrival: Ticks, length: Ticks, departure: Ticks) -> Ticks {
        self.f = arrival.max(self.d.min(self.f)) + length;
        self.d = departure;
        departure.since(self.f)
    }

    /// The same `packets` times, which is at least once; gives the largest of what each would give.
    #[inline]
    fn depart_together(
        &mut self,
        packets: u32,
        arrival: Ticks,
        length: Ticks,
        departure: Ticks,
    ) -> Ticks {
        // f never goes back while a and d stay, so the first packet's error is the largest.
        let error = self.depart(arrival, length, departure);
        if packets > 1 {
            // From the second on d is what it stays, and f grows by a length until it is past d.
            let last = Ticks(
                self.f
                    .0
                    .saturating_add(length.0.saturating_mul(u64::from(packets - 2))),
            );
            self.f = arrival.max(departure.min(last)) + length;
        }
        error
    }
}

/// The time that bytes take at a rate, in 2^-32 ticks a byte.
#[derive(Clone, Copy, Debug)]
struct ByteTime(u64);

impl ByteTime {
    fn at(rate: BitRate, clock: TickRate) -> Self {
        let time = (u128::from(clock.hz()) << 35) / u128::from(rate.bps());
        Self(u64::try_from(time).unwrap_or(u64::MAX))
    }

    /// Rounded down to a tick.
    #[inline]
    fn of(self, bytes: u32) -> Ticks {
        let time = (u128::from(self.0) * u128::from(bytes)) >> 32;
        Ticks(u64::try_from(time).unwrap_or(u64::MAX))
    }
}

/// Packets of the aggregate that depart together: they came together, one after the other, and are
/// equally long.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// What [`EfMeter::arrive`] gave for the first; those of the others follow it.
    pub number: u32,
    /// How many packets, at least one.
    pub packets: u32,
    /// What each takes of the wire, in bytes.
    pub wire_bytes: u32,
    /// When they came.
    pub arrival: Ticks,
}

/// A packet that has departed while one that came before it has not.
#[derive(Clone, Copy, Debug)]
struct Early {
    arrival: Ticks,
    at_ef_rate: Ticks,
    departed: Ticks,
}

/// The times that a length takes, kept as most packets are as long as the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Lengths {
    wire_bytes: u32,
    at_ef_rate: Ticks,
    at_port_rate: Ticks,
}

/// Measures [`EfError`] over the whole run and for each of the last [`SECONDS`].
///
/// Packets bring their times of arrival with them. As long as they depart in the order in which they
/// came, nothing is kept of them.
#[derive(Debug)]
pub struct EfMeter {
    ef_rate: ByteTime,
    port_rate: ByteTime,
    lengths: Lengths,
    /// How many packets have come.
    arrived: u32,
    /// How many have departed.
    departed: u32,
    /// How many packets at the front of the order of arrival have departed.
    settled: u32,
    /// Of the packets from `settled` on, those that have departed; the first has not.
    early: VecDeque<Option<Early>>,
    aggregate: Target,
    packet: Target,
    /// Of the second that has begun, and of all before it.
    current: EfError,
    before: EfError,
    seconds: History<EfError>,
}

impl EfMeter {
    /// At a port of `port_rate` whose EF aggregate is configured with `ef_rate`, both on the wire.
    #[must_use]
    pub fn new(ef_rate: BitRate, port_rate: BitRate, clock: TickRate, now: Ticks) -> Self {
        Self {
            ef_rate: ByteTime::at(ef_rate, clock),
            port_rate: ByteTime::at(port_rate, clock),
            lengths: Lengths::default(),
            arrived: 0,
            departed: 0,
            settled: 0,
            early: VecDeque::new(),
            aggregate: Target::default(),
            packet: Target::default(),
            current: EfError::default(),
            before: EfError::default(),
            seconds: History::new(clock, now),
        }
    }

    /// Packets have joined the aggregate; gives the number by which the first departs. The others
    /// have the following ones.
    #[inline]
    pub fn arrive(&mut self, packets: u32) -> u32 {
        let number = self.arrived;
        self.arrived = number.wrapping_add(packets);
        number
    }

    /// Packets have been handed to the device. `waiting` gives the time of arrival of a packet that
    /// has not been, by its number.
    #[inline]
    pub fn depart(
        &mut self,
        departure: Departure,
        now: Ticks,
        waiting: impl Fn(u32) -> Option<Ticks>,
    ) {
        let Departure {
            number,
            packets,
            wire_bytes,
            arrival,
        } = departure;
        if wire_bytes != self.lengths.wire_bytes {
            self.lengths = Lengths {
                wire_bytes,
                at_ef_rate: self.ef_rate.of(wire_bytes),
                at_port_rate: self.port_rate.of(wire_bytes),
            };
        }
        if self.seconds.is_over(now) {
            self.next_second(now);
        }
        let departed = now + self.lengths.at_port_rate;
        let length = self.lengths.at_ef_rate;
        self.current.packets += u64::from(packets);
        // As long as packets depart as they came, both terms are one.
        if number == self.settled && self.departed == self.settled && self.aggregate == self.packet
        {
            self.settled = number.wrapping_add(packets);
            self.departed = self.settled;
            let error = (self.aggregate).depart_together(packets, arrival, length, departed);
            self.packet = self.aggregate;
            self.current.raise(error, error);
            return;
        }
        let waiting = |other: u32| {
            let of_these = other.wrapping_sub(number) < packets;
            of_these.then_some(arrival).or_else(|| waiting(other))
        };
        for place in 0..packets {
            let early = Early {
                arrival,
                at_ef_rate: length,
                departed,
            };
            self.depart_out_of_order(number.wrapping_add(place), early, &waiting);
        }
    }

    /// One packet, where not all that came before it have departed, or lately had not.
    #[inline(never)]
    fn depart_out_of_order(
        &mut self,
        number: u32,
        packet: Early,
        waiting: &impl Fn(u32) -> Option<Ticks>,
    ) {
        // E_p: packets in the order of their arrival, each with its own departure.
        let place = number.wrapping_sub(self.settled) as usize;
        if self.early.len() <= place {
            self.early.resize(place + 1, None);
        }
        if let Some(free) = self.early.get_mut(place) {
            *free = Some(packet);
        }

        // E_a: the j-th departure against the j-th arrival, whichever packets these are.
        let nth = self.departed.wrapping_sub(self.settled) as usize;
        let arrival = match self.early.get(nth) {
            Some(Some(early)) => Some(early.arrival),
            _ => waiting(self.departed),
        };
        debug_assert!(arrival.is_some(), "an arrival is lost");
        let arrival = arrival.unwrap_or(packet.arrival);
        self.departed = self.departed.wrapping_add(1);
        let aggregate = (self.aggregate).depart(arrival, packet.at_ef_rate, packet.departed);

        let mut worst = Ticks(0);
        while let Some(&Some(first)) = self.early.front() {
            self.early.pop_front();
            self.settled = self.settled.wrapping_add(1);
            let error = (self.packet).depart(first.arrival, first.at_ef_rate, first.departed);
            worst = worst.max(error);
        }
        self.current.raise(aggregate, worst);
    }

    #[cold]
    fn next_second(&mut self, now: Ticks) {
        self.before = self.before.with(self.current);
        self.seconds.keep(self.current, now);
        self.current = EfError::default();
    }

    /// Fills in what was measured.
    pub fn report(&mut self, into: &mut EfReport, now: Ticks) {
        if self.seconds.is_over(now) {
            self.next_second(now);
        }
        into.total = self.before.with(self.current);
        self.seconds.report(self.current, &mut into.seconds);
    }

    /// Checks what must hold between calls.
    pub fn invariants(&self, waiting: usize) {
        let here = self.arrived.wrapping_sub(self.departed);
        assert_eq!(here as usize, waiting, "packets of the aggregate");
        let early = self.early.iter().flatten().count();
        let ahead = self.departed.wrapping_sub(self.settled);
        assert_eq!(ahead as usize, early, "packets that departed early");
        assert!(
            !matches!(self.early.front(), Some(Some(_))),
            "a departed packet is not settled"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HZ: u64 = 1_000_000_000;

    fn one(number: u32, arrival: u64, wire_bytes: u32) -> Departure {
        Departure {
            number,
            packets: 1,
            wire_bytes,
            arrival: Ticks(arrival),
        }
    }

    fn total(meter: &mut EfMeter) -> EfError {
        let mut report = EfReport::default();
        meter.report(&mut report, Ticks(0));
        report.total
    }

    /// Both recursions over all packets at once, in 2^-20 ticks: what the definition says.
    /// Packets are (arrival, departure, bytes).
    fn model(packets: &[(u64, u64, u32)], rate: u64) -> (u64, u64) {
        let worst = |rows: Vec<(u64, u64, u32)>| {
            let (mut f, mut d, mut worst) = (0_u128, 0_u128, 0_u128);
            for (arrival, departure, bytes) in rows {
                let length = ((u128::from(bytes) * 8 * u128::from(HZ)) << 20) / u128::from(rate);
                f = (u128::from(arrival) << 20).max(d.min(f)) + length;
                d = u128::from(departure) << 20;
                worst = worst.max(d.saturating_sub(f));
            }
            u64::try_from(worst >> 20).unwrap()
        };
        let mut by_departure = packets.to_vec();
        by_departure.sort_by_key(|&(_, departure, _)| departure);
        let mut arrivals: Vec<_> = packets.iter().map(|&(arrival, ..)| arrival).collect();
        arrivals.sort_unstable();
        let aggregate = arrivals
            .into_iter()
            .zip(by_departure)
            .map(|(arrival, (_, departure, bytes))| (arrival, departure, bytes))
            .collect();
        let mut by_arrival = packets.to_vec();
        by_arrival.sort_by_key(|&(arrival, ..)| arrival);
        (worst(aggregate), worst(by_arrival))
    }

    proptest! {
        /// Two queues, served in any order that keeps each queue's own: what a strict aggregate of
        /// EF and VOICE-ADMIT is.
        #[test]
        fn agrees_with_the_definition(
            rate in 64_000_u64..100_000_000_000,
            steps in prop::collection::vec(
                (
                    any::<bool>(),
                    any::<bool>(),
                    prop_oneof![40_u32..9_000, Just(238_u32)],
                    prop_oneof![1_u64..3_000_000, Just(0_u64)],
                ),
                1..300,
            ),
        ) {
            let ef_rate = BitRate::from_bps(rate).unwrap();
            let port_rate = BitRate::from_bps(rate * 2).unwrap();
            let mut meter = EfMeter::new(ef_rate, port_rate, TickRate::from_hz(HZ), Ticks(0));
            let mut queues = [VecDeque::new(), VecDeque::new()];
            let mut done = Vec::new();
            let (mut now, mut free) = (0, 0);
            let mut depart = |queues: &mut [VecDeque<(u32, u64, u32)>; 2], which: usize, meter: &mut EfMeter, now: &mut u64| {
                let Some((number, arrival, bytes)) = queues[which].pop_front() else {
                    return;
                };
                // What came together goes together; else one packet after the other on the wire.
                let mut packets = 1;
                while queues[which].front() == Some(&(number + packets, arrival, bytes)) {
                    queues[which].pop_front();
                    packets += 1;
                }
                *now = free.max(*now);
                let waiting = |number| {
                    let mut waiting = queues.iter().flatten();
                    waiting.find(|packet| packet.0 == number).map(|packet| Ticks(packet.1))
                };
                let departure = Departure { packets, ..one(number, arrival, bytes) };
                meter.depart(departure, Ticks(*now), waiting);
                let on_the_wire = u128::from(bytes) * 8 * u128::from(HZ) / u128::from(rate * 2);
                free = *now + u64::try_from(on_the_wire).unwrap() + 1;
                done.extend((number..number + packets).map(|number| (number, (arrival, free - 1, bytes))));
            };
            for (departs, which, bytes, step) in steps {
                now += step;
                let which = usize::from(which);
                if departs {
                    depart(&mut queues, which, &mut meter, &mut now);
                } else {
                    queues[which].push_back((meter.arrive(1), now, bytes));
                }
                meter.invariants(queues.iter().map(VecDeque::len).sum());
            }
            for which in 0..2 {
                while !queues[which].is_empty() {
                    depart(&mut queues, which, &mut meter, &mut now);
                }
            }
            meter.invariants(0);
            let total = total(&mut meter);
            prop_assert_eq!(total.packets, done.len() as u64);
            // What came at once is in the order of its numbers.
            done.sort_by_key(|&(number, _)| number);
            let done: Vec<_> = done.into_iter().map(|(_, packet)| packet).collect();
            let (aggregate, packet) = model(&done, rate);
            // Lengths are rounded down to ticks, packet by packet.
            let rounding = done.len() as u64 + 1;
            prop_assert!(total.aggregate.0.abs_diff(aggregate) <= rounding, "{:?} {}", total, aggregate);
            prop_assert!(total.packet.0.abs_diff(packet) <= rounding, "{:?} {}", total, packet);
        }

        /// Packets that depart together are what the same ones are that depart one by one.
        #[test]
        fn together_is_as_one_by_one(
            runs in prop::collection::vec((1_u32..70, 40_u32..9_000, 0_u64..300_000, 0_u64..300_000), 1..60),
        ) {
            let rate = BitRate::from_bps(1_000_000_000).unwrap();
            let meter = || EfMeter::new(rate, rate.percent(150), TickRate::from_hz(HZ), Ticks(0));
            let (mut together, mut single, mut now) = (meter(), meter(), 0);
            let none = |_| None;
            for (packets, bytes, gap, wait) in runs {
                let arrival = now + gap;
                now = arrival + wait;
                let first = one(together.arrive(packets), arrival, bytes);
                single.arrive(packets);
                together.depart(Departure { packets, ..first }, Ticks(now), none);
                for place in 0..packets {
                    single.depart(one(first.number + place, arrival, bytes), Ticks(now), none);
                }
                prop_assert_eq!(together.aggregate, single.aggregate);
                prop_assert_eq!(together.current, single.current);
            }
            together.invariants(0);
        }

        /// A server at the EF rate, without rests, has no error but the wire time that it saves.
        #[test]
        fn an_ideal_server_has_no_error(
            gaps in prop::collection::vec(0_u64..2_000_000, 1..200),
        ) {
            let rate = BitRate::from_bps(10_000_000).unwrap();
            let mut meter = EfMeter::new(rate, rate, TickRate::from_hz(HZ), Ticks(0));
            let (mut now, mut free) = (0, 0);
            for gap in gaps {
                now += gap;
                let number = meter.arrive(1);
                let start = now.max(free);
                meter.depart(one(number, now, 238), Ticks(start), |_| None);
                free = start + 238 * 800;
            }
            let total = total(&mut meter);
            prop_assert_eq!((total.aggregate, total.packet), (Ticks(0), Ticks(0)));
        }
    }

    /// RFC 3246 section 2.2, by hand: 1,000 bits at 1 Mbit/s take 1 ms; the second packet is late.
    #[test]
    fn a_late_packet_is_an_error_of_its_lateness() {
        let rate = BitRate::from_bps(1_000_000).unwrap();
        let mut meter = EfMeter::new(rate, rate, TickRate::from_hz(HZ), Ticks(0));
        let ms = |ms: u64| Ticks(ms * 1_000_000);
        let [first, second] =
            [meter.arrive(1), meter.arrive(1)].map(|number| one(number, 10_000_000, 125));
        meter.depart(first, ms(10), |_| None); // f = 11, d = 11
        meter.depart(second, ms(14), |_| None); // f = 12, d = 15
        let total = total(&mut meter);
        assert_eq!(
            (total.packets, total.aggregate, total.packet),
            (2, ms(3), ms(3))
        );
        let mut report = EfReport::default();
        for (now, last, expected) in [
            (20, 1, total),
            (60_000, 59, EfError::default()),
            (60_000, 61, total),
            (62_999, 64, total),
            (64_000, 64, EfError::default()),
        ] {
            meter.report(&mut report, ms(now));
            assert_eq!(
                (report.total, report.last(last)),
                (total, expected),
                "{now}"
            );
        }
    }
}

use std::collections::VecDeque;

use crate::{
    counters::EfReport,
    seconds::Seconds,
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
    fn add(&mut self, aggregate: Ticks, packet: Ticks) {
        self.packets += 1;
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

/// A packet of the aggregate, from its arrival until it has departed and all before it.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    at: Ticks,
    /// 0 bytes: it is still here.
    wire_bytes: u32,
    departed: Ticks,
}

/// The times that a length takes, kept as most packets are as long as the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Lengths {
    wire_bytes: u32,
    at_ef_rate: Ticks,
    at_port_rate: Ticks,
}

/// Measures [`EfError`] over the whole run and for each of the last [`crate::seconds::SECONDS`].
#[derive(Debug)]
pub struct EfMeter {
    ef_rate: ByteTime,
    port_rate: ByteTime,
    lengths: Lengths,
    /// In the order of arrival; the first has not departed, or is about to be settled.
    arrivals: VecDeque<Arrival>,
    /// How many arrivals came before the first of `arrivals`.
    settled: u32,
    /// How many packets have departed.
    departed: u32,
    aggregate: Target,
    packet: Target,
    /// Of the second that has begun, and of all before it.
    current: EfError,
    before: EfError,
    seconds: Seconds<EfError>,
}

impl EfMeter {
    /// At a port of `port_rate` whose EF aggregate is configured with `ef_rate`, both on the wire.
    #[must_use]
    pub fn new(ef_rate: BitRate, port_rate: BitRate, clock: TickRate, now: Ticks) -> Self {
        Self {
            ef_rate: ByteTime::at(ef_rate, clock),
            port_rate: ByteTime::at(port_rate, clock),
            lengths: Lengths::default(),
            arrivals: VecDeque::new(),
            settled: 0,
            departed: 0,
            aggregate: Target::default(),
            packet: Target::default(),
            current: EfError::default(),
            before: EfError::default(),
            seconds: Seconds::new(clock, now),
        }
    }

    /// A packet has joined the aggregate; gives the number by which it departs.
    #[inline]
    pub fn arrive(&mut self, at: Ticks) -> u32 {
        let number = self.settled.wrapping_add(len(&self.arrivals));
        self.arrivals.push_back(Arrival {
            at,
            wire_bytes: 0,
            departed: Ticks(0),
        });
        number
    }

    /// A packet has been handed to the device.
    #[inline]
    pub fn depart(&mut self, number: u32, wire_bytes: u32, now: Ticks) {
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
        let departure = now + self.lengths.at_port_rate;
        // As long as packets depart as they came, both terms are one.
        let in_order = number == self.settled
            && self.departed == self.settled
            && self.aggregate == self.packet;
        if in_order && let Some(arrival) = self.arrivals.pop_front() {
            self.settled = self.settled.wrapping_add(1);
            self.departed = self.settled;
            let length = self.lengths.at_ef_rate;
            let error = self.aggregate.depart(arrival.at, length, departure);
            self.packet = self.aggregate;
            self.current.add(error, error);
        } else {
            self.depart_out_of_order(number, departure);
        }
    }

    fn depart_out_of_order(&mut self, number: u32, departure: Ticks) {
        // E_a: the j-th departure against the j-th arrival, whichever packets these are.
        let nth = self.departed.wrapping_sub(self.settled) as usize;
        self.departed = self.departed.wrapping_add(1);
        let Some(arrival) = self.arrivals.get(nth) else {
            debug_assert!(false, "more departures than arrivals");
            return;
        };
        let Lengths {
            wire_bytes,
            at_ef_rate,
            ..
        } = self.lengths;
        let aggregate = self.aggregate.depart(arrival.at, at_ef_rate, departure);

        // E_p: packets in the order of their arrival, each with its own departure.
        let own = number.wrapping_sub(self.settled) as usize;
        if let Some(arrival) = self.arrivals.get_mut(own) {
            arrival.wire_bytes = wire_bytes.max(1);
            arrival.departed = departure;
        }
        let mut packet = Ticks(0);
        while let Some(&Arrival {
            at,
            wire_bytes: bytes @ 1..,
            departed,
        }) = self.arrivals.front()
        {
            self.arrivals.pop_front();
            self.settled = self.settled.wrapping_add(1);
            packet = packet.max(self.packet.depart(at, self.ef_rate.of(bytes), departed));
        }
        self.current.add(aggregate, packet);
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
        let here = self.arrivals.iter().filter(|packet| packet.wire_bytes == 0);
        assert_eq!(here.count(), waiting, "packets of the aggregate");
        if let Some(first) = self.arrivals.front() {
            assert_eq!(first.wire_bytes, 0, "a departed packet is not settled");
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "queues are shorter; numbers wrap"
)]
fn len(arrivals: &VecDeque<Arrival>) -> u32 {
    arrivals.len() as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HZ: u64 = 1_000_000_000;

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
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), 40_u32..9_000, 1_u64..3_000_000), 1..300),
        ) {
            let ef_rate = BitRate::from_bps(rate).unwrap();
            let port_rate = BitRate::from_bps(rate * 2).unwrap();
            let mut meter = EfMeter::new(ef_rate, port_rate, TickRate::from_hz(HZ), Ticks(0));
            let mut queues = [VecDeque::new(), VecDeque::new()];
            let mut done = Vec::new();
            let (mut now, mut free) = (0, 0);
            let mut depart = |queue: &mut VecDeque<(u32, u64, u32)>, meter: &mut EfMeter, now: &mut u64| {
                if let Some((number, arrival, bytes)) = queue.pop_front() {
                    // One packet after the other on the wire.
                    *now = free.max(*now);
                    meter.depart(number, bytes, Ticks(*now));
                    let on_the_wire = u128::from(bytes) * 8 * u128::from(HZ) / u128::from(rate * 2);
                    free = *now + u64::try_from(on_the_wire).unwrap() + 1;
                    done.push((arrival, free - 1, bytes));
                }
            };
            for (departs, which, bytes, step) in steps {
                now += step;
                let queue = &mut queues[usize::from(which)];
                if departs {
                    depart(queue, &mut meter, &mut now);
                } else {
                    queue.push_back((meter.arrive(Ticks(now)), now, bytes));
                }
                meter.invariants(queues.iter().map(VecDeque::len).sum());
            }
            for queue in &mut queues {
                while !queue.is_empty() {
                    depart(queue, &mut meter, &mut now);
                }
            }
            meter.invariants(0);
            let total = total(&mut meter);
            prop_assert_eq!(total.packets, done.len() as u64);
            let (aggregate, packet) = model(&done, rate);
            // Lengths are rounded down to ticks, packet by packet.
            let rounding = done.len() as u64 + 1;
            prop_assert!(total.aggregate.0.abs_diff(aggregate) <= rounding, "{:?} {}", total, aggregate);
            prop_assert!(total.packet.0.abs_diff(packet) <= rounding, "{:?} {}", total, packet);
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
                let number = meter.arrive(Ticks(now));
                let start = now.max(free);
                meter.depart(number, 238, Ticks(start));
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
        let first = meter.arrive(ms(10));
        let second = meter.arrive(ms(10));
        meter.depart(first, 125, ms(10)); // f = 11, d = 11
        meter.depart(second, 125, ms(14)); // f = 12, d = 15
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

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
    /// Packets that departed, and so were measured.
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
    /// Over all packets since the start.
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
    /// When the packets arrived, all at once.
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
mod tests;

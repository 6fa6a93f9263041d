mod admit;
mod bounds;
mod bypass;
mod limiter;
mod queue;
mod shared_room;

use std::{array, mem};

use arrayvec::ArrayVec;

use bounds::Bounds;
use bypass::Bypass;
use limiter::Limiter;
use queue::{Queue, Run};
use shared_room::SharedRoom;

use crate::{
    device::{BURST, Buffer},
    diffserv::{Departure, EfMeter, EfReport, Phb, Service},
    settings::PortSettings,
    stats::QueueCounters,
    trace::Lengths,
    units::{BitRate, TickRate, Ticks},
};

/// Bytes of the wire in a round of deficit round robin over all weighted queues, or as many as are sent
/// in [`ROUND_US`] if these are more. Small, so that no class waits long for its turn; but to go on to the
/// next queue takes its time, too.
const ROUND_BYTES: u64 = 10_000;
const ROUND_US: u64 = 50;

/// The shortest Ethernet frame, without FCS.
const SHORTEST_FRAME: u16 = 60;

/// The depth of the cap on strict priority and of the classes' bounds, as time.
const CLASS_BURST_MS: u64 = 10;

/// A set of queues: a bit for each.
type Queues = u16;

/// Why a queue is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Strict priority, under its cap or alone.
    Strict,
    /// A class's guaranteed minimum.
    Minimum,
    /// Its turn by weight.
    Weight,
    /// What all other classes leave.
    Rest,
}

/// One port's queues, its scheduler and its shaper.
///
/// In this order:
/// 1. strict priority (telephony before admitted telephony), while its cap has tokens, which it
///    takes only while others wait;
/// 2. classes that have not had their guaranteed minimum;
/// 3. weighted classes by deficit round robin (Shreedhar and Varghese, SIGCOMM 1995);
/// 4. strict priority that is over its cap, so that nothing is left unused;
/// 5. lower effort.
///
/// A class that has had its maximum does not take part. Then the shaper: a packet goes when its
/// token bucket is not in deficit, and is charged in full, with the wire's overhead.
#[derive(Debug)]
pub(crate) struct PortScheduler<B> {
    queues: [Queue<B>; Phb::COUNT],
    shared: SharedRoom,
    /// Those that are not empty.
    waiting: Queues,
    strict: Queues,
    weighted: Queues,
    bounds: Bounds,
    /// Bytes that a round adds to a weighted queue's deficit.
    quanta: [i64; Phb::COUNT],
    deficits: [i64; Phb::COUNT],
    round: i64,
    /// The weighted queue whose turn it is; one bit.
    turn: Queues,
    shaper: Limiter,
    strict_cap: Limiter,
    ef: EfMeter,
    bypass: Bypass,
    overhead_bytes: u32,
    longest: i64,
    clock: TickRate,
}

impl<B: Buffer> PortScheduler<B> {
    /// Its queues draw from `seed` on, each its own.
    pub(crate) fn new(port: &PortSettings, clock: TickRate, now: Ticks, seed: u64) -> Self {
        // A VLAN's tag is the last thing that a frame gets.
        let longest = u64::from(port.mtu) + 18 + u64::from(port.overhead_bytes);
        let limiter = |rate: BitRate, milliseconds: u64, least: u64| {
            Limiter::new(rate, rate.bytes_in_ms(milliseconds).max(least), clock, now)
        };
        let class_limiter = |rate: BitRate| limiter(rate, CLASS_BURST_MS, 1);
        let services = port.classes.each_ref().map(|class| class.service);
        let weight = |service| match service {
            Service::Weighted(weight) => i64::from(weight.max(1)),
            Service::Strict | Service::LowerEffort => 0,
        };
        let weights = services.map(weight);
        let all = weights.iter().sum::<i64>().max(1);
        let round = (port.rate.bytes_in_ms(1) * ROUND_US / 1_000).max(ROUND_BYTES);
        // A weight is less than 2^16.
        let round = i64::try_from(round).unwrap_or(i64::MAX).min(1 << 40);
        let shaper = limiter(port.rate, port.shaper_burst_ms.into(), 1);
        let longest_packet = u32::try_from(longest).unwrap_or(u32::MAX);
        Self {
            bypass: Bypass::new(&port.classes, longest_packet, &shaper.profile),
            queues: array::from_fn(|index| {
                let seed = seed.wrapping_add(index as u64);
                Queue::new(&port.classes[index], (port.rate, longest), clock, seed)
            }),
            shared: SharedRoom::new(&port.classes),
            waiting: 0,
            strict: set(&services.map(|service| service == Service::Strict)),
            weighted: set(&weights.map(|weight| weight > 0)),
            bounds: Bounds::new(&port.classes, class_limiter),
            quanta: weights.map(|weight| (weight * round / all).max(i64::from(weight > 0))),
            deficits: [0; Phb::COUNT],
            round,
            turn: 1,
            shaper,
            strict_cap: limiter(port.strict_cap, CLASS_BURST_MS, 2 * longest),
            ef: EfMeter::new(port.strict_cap, port.rate, clock, now),
            overhead_bytes: port.overhead_bytes,
            longest: i64::try_from(longest).unwrap_or(i64::MAX),
            clock,
        }
    }

    /// Counts what has gone past the queues as sent.
    #[inline]
    fn settle_passed(&mut self, now: Ticks) {
        self.shaper.take(mem::take(&mut self.bypass.cost));
        for place in 0..self.bypass.passed.len() {
            let (phb, run) = self.bypass.passed[place];
            let queue = &mut self.queues[phb.index()];
            queue.passed(&run);
            Sent::of(&run).record(&mut queue.counters, self.clock, now);
            if self.strict >> phb.index() & 1 == 1 {
                self.settle(&run, now);
            }
        }
        self.bypass.passed.clear();
    }

    /// Takes packets that may go now, as many as there is room for.
    #[inline(never)]
    pub(crate) fn schedule(&mut self, into: &mut ArrayVec<B, BURST>, now: Ticks) {
        if !self.bypass.passed.is_empty() {
            self.settle_passed(now);
        }
        if self.waiting == 0 {
            return;
        }
        self.shaper.refill(now);
        self.strict_cap.refill(now);
        self.bounds.refill(self.waiting, now);
        while !into.is_full() && self.shaper.is_open() {
            let Some((index, turn)) = self.pick() else {
                break;
            };
            match turn {
                Turn::Strict => self.serve_strict(index, into, now),
                _ => self.serve(index, turn, into, now),
            }
        }
    }

    /// The queue that is to be served next.
    #[inline]
    fn pick(&mut self) -> Option<(usize, Turn)> {
        let waiting = self.waiting & !self.bounds.at_maximum();
        let strict = waiting & self.strict;
        let others = waiting & !self.strict;
        if strict != 0 && (others == 0 || self.strict_cap.is_open()) {
            return Some((first(strict), Turn::Strict));
        }
        let guaranteed = others & self.bounds.under_minimum();
        if guaranteed != 0 {
            return Some((first(guaranteed), Turn::Minimum));
        }
        let weighted = others & self.weighted;
        if weighted != 0 {
            return Some((self.next_weighted(weighted), Turn::Weight));
        }
        if strict != 0 {
            return Some((first(strict), Turn::Strict));
        }
        (others != 0).then(|| (first(others), Turn::Rest))
    }

    /// Deficit round robin: the queue whose turn it is sends while its deficit covers its first
    /// packet; then the turn goes on, and the next queue gets its quantum.
    #[inline]
    fn next_weighted(&mut self, weighted: Queues) -> usize {
        // Each round adds to every waiting queue's deficit, so the first packet is covered after
        // a bounded number of rounds.
        loop {
            if self.turn & weighted != 0 {
                let index = first(self.turn);
                // Alone, a queue needs no credit.
                if weighted == self.turn
                    || self.deficits[index] >= self.queues[index].first_wire_bytes()
                {
                    return index;
                }
            }
            // The next waiting queue after this one, in a circle.
            let after = weighted & !(self.turn | (self.turn - 1));
            let candidates = if after == 0 { weighted } else { after };
            self.turn = candidates & candidates.wrapping_neg();
            let index = first(self.turn);
            self.deficits[index] += self.quanta[index];
        }
    }

    /// Sends from a strict queue for as long as the same choice would be made again, run by run.
    #[inline]
    fn serve_strict(&mut self, index: usize, into: &mut ArrayVec<B, BURST>, now: Ticks) {
        let bit = 1 << index;
        // The cap protects minima and weighted classes; lower effort gets what all of them leave. Without
        // any of them waiting, strict priority is not charged.
        let next = self.bounds.under_minimum() | self.weighted;
        let capped = self.waiting & !self.bounds.at_maximum() & !self.strict & next != 0;
        loop {
            let queue = &mut self.queues[index];
            let Some(&run) = queue.first_run() else {
                self.waiting &= !bit;
                return;
            };
            let cost = self.shaper.profile.cost(run.wire_bytes);
            let mut packets = run.packets.min(self.shaper.lets(cost, run.packets));
            if capped {
                packets = self.strict_cap.lets(cost, packets);
            }
            packets = self.bounds.lets(index, cost, packets).min(room(into));
            if packets == 0 {
                return;
            }
            for buffer in queue.take(packets) {
                into.push(buffer);
            }
            let cost = cost * i64::from(packets);
            self.shaper.take(cost);
            if capped {
                self.strict_cap.take(cost);
            }
            self.bounds.charge_maximum(index, cost);
            let sent = Run { packets, ..run };
            Sent::of(&sent).record(&mut queue.counters, self.clock, now);
            self.settle(&sent, now);
        }
    }

    /// Tells the EF aggregate's meter what has left a strict queue.
    #[inline(never)]
    fn settle(&mut self, sent: &Run, now: Ticks) {
        let departure = Departure {
            number: sent.number,
            packets: sent.packets,
            wire_bytes: sent.wire_bytes,
            arrival: sent.since,
        };
        let (queues, strict) = (&self.queues, self.strict);
        self.ef.depart(departure, now, |number| {
            let mut strict = (0..Phb::COUNT).filter(|index| strict >> index & 1 == 1);
            strict.find_map(|index| queues[index].since(number))
        });
    }

    /// Sends from one queue for as long as the same choice would be made again, run by run.
    #[inline]
    fn serve(&mut self, index: usize, turn: Turn, into: &mut ArrayVec<B, BURST>, now: Ticks) {
        let bit = 1 << index;
        // Alone, a queue needs no credit.
        let others = self.waiting & !self.bounds.at_maximum() & self.weighted & !bit;
        let by_weight = turn == Turn::Weight && others != 0;
        let mut sent = Sent::default();
        let before = self.queues[index].len();
        loop {
            let queue = &mut self.queues[index];
            let Some(&run) = queue.first_run() else {
                self.waiting &= !bit;
                self.deficits[index] = 0;
                break;
            };
            let cost = self.shaper.profile.cost(run.wire_bytes);
            let mut packets = self.shaper.lets(cost, run.packets.min(room(into)));
            packets = self.bounds.lets(index, cost, packets);
            if by_weight {
                packets = covered(self.deficits[index], run.wire_bytes, packets);
            } else if turn == Turn::Minimum {
                packets = self.bounds.minimum_lets(index, cost, packets);
            }
            if packets == 0 {
                // Credit is not saved up by being alone.
                self.deficits[index] = self.deficits[index].max(0);
                break;
            }
            let packets = queue.send(packets, into, now);
            if run.since != sent.since {
                sent.record(&mut queue.counters, self.clock, now);
                sent = Sent::of(&Run { packets: 0, ..run });
            }
            let wire_bytes = u64::from(packets) * u64::from(run.wire_bytes);
            sent.packets += u64::from(packets);
            sent.wire_bytes += wire_bytes;
            let cost = cost * i64::from(packets);
            self.shaper.take(cost);
            if by_weight {
                self.deficits[index] -= wire_bytes.cast_signed();
            } else if turn == Turn::Minimum {
                self.bounds.charge_minimum(index, cost);
            }
            self.bounds.charge_maximum(index, cost);
        }
        self.shared.give(before - self.queues[index].len());
        sent.record(&mut self.queues[index].counters, self.clock, now);
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// When the next packet may go; `None` when none waits.
    pub(crate) fn next_departure(&self) -> Option<Ticks> {
        if self.waiting == 0 {
            return None;
        }
        let shaper = self.shaper.opens_at();
        if self.waiting & !self.bounds.at_maximum() != 0 {
            return Some(shaper);
        }
        // All that wait have had their maximum.
        let opens = self.bounds.open_at(self.waiting);
        opens.map(|opens| opens.max(shaper))
    }

    /// How many packets each queue has.
    pub(crate) fn lengths(&self) -> Lengths {
        self.queues.each_ref().map(Queue::len)
    }

    pub(crate) fn queue_counters(&mut self) -> impl Iterator<Item = &QueueCounters> {
        self.queues.iter_mut().map(Queue::counters)
    }

    /// How well the EF aggregate was served.
    pub(crate) fn report_ef(&mut self, into: &mut EfReport, now: Ticks) {
        self.ef.report(into, now);
    }

    /// Checks what must hold between calls.
    pub(crate) fn invariants(&self) {
        for (index, queue) in self.queues.iter().enumerate() {
            let waiting = self.waiting >> index & 1 == 1;
            assert_eq!(
                waiting,
                !queue.is_empty(),
                "the waiting bit of queue {index}"
            );
            queue.invariants();
            let deficit = self.deficits[index];
            assert!(
                deficit >= -self.longest && deficit <= self.longest + self.round,
                "the deficit of queue {index}: {deficit}"
            );
        }
        let waiting = |strict| -> usize {
            let indices = (0..Phb::COUNT).filter(|index| self.strict >> index & 1 == strict);
            indices.map(|index| self.queues[index].len()).sum()
        };
        self.ef.invariants(waiting(1));
        self.shared.invariants(waiting(0));
        for limiter in [&self.shaper, &self.strict_cap]
            .into_iter()
            .chain(self.bounds.limiters())
        {
            limiter.bucket.invariants(&limiter.profile);
        }
    }
}

/// The first queue of a set that is not empty.
#[inline]
fn first(queues: Queues) -> usize {
    queues.trailing_zeros() as usize
}

fn set(members: &[bool; Phb::COUNT]) -> Queues {
    array::from_fn::<Queues, { Phb::COUNT }, _>(|index| Queues::from(members[index]) << index)
        .iter()
        .sum()
}

#[inline]
fn with(queues: Queues, bit: Queues, member: bool) -> Queues {
    if member { queues | bit } else { queues & !bit }
}

/// How many packets, of at most so many, a deficit covers.
#[inline]
fn covered(deficit: i64, wire_bytes: u32, most: u32) -> u32 {
    if i64::from(most) * i64::from(wire_bytes) <= deficit {
        return most;
    }
    let packets = deficit.max(0) / i64::from(wire_bytes.max(1));
    u32::try_from(packets).map_or(most, |packets| packets.min(most))
}

/// How many packets there is room for.
fn room<B>(into: &ArrayVec<B, BURST>) -> u32 {
    u32::try_from(into.remaining_capacity()).unwrap_or(u32::MAX)
}

/// Packets that left one queue one after the other, and came in one burst: counted together, as they
/// have waited for the same time.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    since: Ticks,
    packets: u64,
    wire_bytes: u64,
}

impl Sent {
    fn of(run: &Run) -> Self {
        Self {
            since: run.since,
            packets: run.packets.into(),
            wire_bytes: u64::from(run.packets) * u64::from(run.wire_bytes),
        }
    }

    /// Counts them, with the time that they waited.
    fn record(&self, counters: &mut QueueCounters, clock: TickRate, now: Ticks) {
        if self.packets > 0 {
            counters.sent_packets += self.packets;
            counters.sent_bytes += self.wire_bytes;
            let waited = clock.nanoseconds(now.since(self.since));
            counters
                .delay_ns
                .saturating_record_n(waited.max(1), self.packets);
        }
    }
}

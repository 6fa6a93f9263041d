use std::collections::VecDeque;

use crate::{
    counters::{DropReason, QueueCounters},
    device::Buffer,
    diffserv::{ClassSettings, Codel, Colour, Dscp, FULL, Fill, Management, Service, Wred},
    units::{BitRate, TickRate, Ticks},
    wire::mark_congestion_experienced,
};

/// A packet that waits in a queue.
#[derive(Debug)]
pub(crate) struct Queued<B> {
    pub(crate) buffer: B,
    /// What it will take of the wire.
    pub(crate) wire_bytes: u32,
    /// Its number in the EF aggregate; 0 if it is not of that.
    pub(super) number: u32,
    /// When its burst came in.
    pub(crate) since: Ticks,
}

/// So many packets may wait, however slowly they go: without them there is no queue.
const FEW: usize = 8;
/// More than any queue holds.
const NEVER: usize = usize::MAX;

/// One class's packets, and what keeps them few.
#[derive(Debug)]
pub(super) struct Queue<B> {
    packets: VecDeque<Queued<B>>,
    wire_bytes: u64,
    limit_packets: usize,
    limit_wire_bytes: u64,
    /// A first packet that has waited for so long says that the class gets less than the queue is
    /// long for.
    limit_wait: Ticks,
    /// From how many packets on that is asked at all.
    limit_wait_from: usize,
    /// The longest packet.
    longest: u64,
    manager: Manager,
    pub(super) counters: QueueCounters,
}

#[derive(Debug)]
enum Manager {
    TailDrop,
    Wred(Box<Wred>),
    Codel { codel: Codel, ecn: bool },
}

impl<B: Buffer> Queue<B> {
    /// An empty queue at a port of `rate`, whose longest packet takes `longest` bytes of the wire.
    pub(super) fn new(class: &ClassSettings, rate: BitRate, longest: u64, clock: TickRate) -> Self {
        let limit_packets = class.limit_packets.max(1);
        // Room for a few packets, however slow the port.
        let limit_wire_bytes = rate.bytes_in_ms(class.limit_ms.into()).max(4 * longest);
        let manager = match &class.management {
            Management::TailDrop => Manager::TailDrop,
            Management::Wred(profile) => {
                let packets = (limit_wire_bytes / longest.max(1)).min(limit_packets as u64);
                let packet_ns = u128::from(longest) * 8 * 1_000_000_000 / u128::from(rate.bps());
                let packet = clock.ticks(u64::try_from(packet_ns).unwrap_or(u64::MAX));
                let wred = Wred::new(profile, packets, packet, rand::random());
                Manager::Wred(Box::new(wred))
            }
            Management::Codel(profile) => Manager::Codel {
                codel: Codel::new(profile, clock),
                ecn: profile.ecn,
            },
        };
        // What is served at once waits for the worker only, and random early detection has a
        // measure of its own for what waits too long.
        let limit_wait_from = match (class.service, &class.management) {
            (Service::Strict, _) | (_, Management::Wred(_)) => NEVER,
            _ => FEW,
        };
        Self {
            packets: VecDeque::with_capacity(limit_packets.min(1 << 16)),
            wire_bytes: 0,
            limit_packets,
            limit_wire_bytes,
            limit_wait: clock.ticks(u64::from(class.limit_ms) * 1_000_000),
            limit_wait_from,
            longest,
            manager,
            counters: QueueCounters::default(),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The packet that is next, before controlled delay has looked at it.
    #[inline]
    pub(super) fn first(&self) -> Option<&Queued<B>> {
        self.packets.front()
    }

    /// What the first packet will take of the wire.
    #[inline]
    pub(super) fn first_wire_bytes(&self) -> i64 {
        self.first()
            .map_or(0, |packet| i64::from(packet.wire_bytes))
    }

    /// When a packet of the EF aggregate came, if it is here.
    pub(super) fn since(&self, number: u32) -> Option<Ticks> {
        // Numbers grow by one or more from packet to packet, and wrap.
        let first = self.first()?.number;
        let offset = number.wrapping_sub(first);
        let place = self
            .packets
            .partition_point(|packet| packet.number.wrapping_sub(first) < offset);
        let packet = self.packets.get(place)?;
        (packet.number == number).then_some(packet.since)
    }

    /// Whether a packet may join; if not, that is counted.
    #[inline]
    pub(super) fn admit(&mut self, dscp: Dscp, now: Ticks) -> Result<(), DropReason> {
        // A queue is full or not, whoever asks: were the packet's own length added here, the last
        // gap would stay open to short packets only.
        let packets = self.packets.len();
        if packets >= self.limit_packets
            || self.wire_bytes >= self.limit_wire_bytes
            || packets >= self.limit_wait_from && self.waited(now) >= self.limit_wait
        {
            self.counters.full_packets[Colour::of(dscp).index()] += 1;
            return Err(DropReason::QueueFull);
        }
        if let Manager::Wred(_) = self.manager {
            return self.admit_early(dscp, now);
        }
        Ok(())
    }

    fn admit_early(&mut self, dscp: Dscp, now: Ticks) -> Result<(), DropReason> {
        let (fill, colour) = (self.fill(now), Colour::of(dscp));
        if let Manager::Wred(wred) = &mut self.manager
            && wred.drops(colour, fill, now)
        {
            self.counters.early_packets[colour.index()] += 1;
            return Err(DropReason::EarlyDrop);
        }
        Ok(())
    }

    /// How long the first packet has waited.
    #[inline]
    fn waited(&self, now: Ticks) -> Ticks {
        let first = self.packets.front();
        first.map_or(Ticks(0), |first| now.since(first.since))
    }

    /// By that of its limits which is nearest.
    fn fill(&self, now: Ticks) -> Fill {
        let full = u64::from(FULL);
        let packets = self.packets.len() as u64;
        let by_bytes = self.wire_bytes * full / self.limit_wire_bytes;
        let by_packets = packets * full / self.limit_packets as u64;
        let waited = self.waited(now).0.min(self.limit_wait.0);
        let by_time = u128::from(waited) * u128::from(full) / u128::from(self.limit_wait.0.max(1));
        // A few packets are no queue yet, however slowly they go.
        let by_time = u64::try_from(by_time).unwrap_or(full) * packets.min(FEW as u64) / FEW as u64;
        Fill::try_from(by_bytes.max(by_packets).max(by_time)).unwrap_or(FULL)
    }

    #[inline]
    pub(super) fn push(&mut self, packet: Queued<B>) {
        self.wire_bytes += u64::from(packet.wire_bytes);
        self.counters.enqueued_packets += 1;
        self.packets.push_back(packet);
    }

    /// The next packet that goes on its way, after those that controlled delay drops.
    #[inline]
    pub(super) fn pop(&mut self, now: Ticks) -> Option<Queued<B>> {
        loop {
            let mut packet = self.packets.pop_front()?;
            self.wire_bytes -= u64::from(packet.wire_bytes);
            match &mut self.manager {
                Manager::TailDrop => {}
                Manager::Wred(wred) => {
                    if self.packets.is_empty() {
                        wred.emptied(now);
                    }
                }
                Manager::Codel { codel, ecn } => {
                    let waited = now.since(packet.since);
                    if codel.signals(now, waited, self.wire_bytes > self.longest) {
                        if !(*ecn && mark_congestion_experienced(packet.buffer.bytes_mut())) {
                            self.counters.delay_dropped_packets += 1;
                            continue;
                        }
                        self.counters.ecn_marked_packets += 1;
                    }
                }
            }
            return Some(packet);
        }
    }

    pub(super) fn counters(&mut self) -> &QueueCounters {
        self.counters.depth_packets = self.packets.len() as u64;
        &self.counters
    }

    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Checks what must hold between calls.
    pub(super) fn invariants(&self) {
        let sum = self
            .packets
            .iter()
            .map(|packet| u64::from(packet.wire_bytes))
            .sum::<u64>();
        assert_eq!(self.wire_bytes, sum, "the bytes of a queue");
        assert!(self.packets.len() <= self.limit_packets, "too many packets");
        let last = self
            .packets
            .back()
            .map_or(0, |last| u64::from(last.wire_bytes));
        assert!(
            sum == 0 || sum - last < self.limit_wire_bytes,
            "too many bytes"
        );
        let counters = &self.counters;
        assert_eq!(
            counters.enqueued_packets,
            counters.sent_packets + counters.delay_dropped_packets + self.packets.len() as u64,
            "a packet is lost"
        );
    }
}

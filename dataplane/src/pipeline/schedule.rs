use std::collections::VecDeque;

use arrayvec::ArrayVec;
use voicelane_dpdk::BURST;

use super::Queued;
use crate::{
    counters::QueueCounters,
    device::Buffer,
    diffserv::{BucketProfile, Phb, TokenBucket, Treatment},
    settings::PortSettings,
    units::{BitRate, TickRate, Ticks},
};

/// Bytes that a weight of 1 % adds to a queue's deficit in a round. Small, so that a round of all
/// queues takes about 10 kB of the wire.
const QUANTUM_BYTES: i64 = 100;

/// The shortest Ethernet frame, without FCS.
const SHORTEST_FRAME: usize = 60;

/// A queue that has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

#[derive(Debug)]
struct Queue<B> {
    packets: VecDeque<Queued<B>>,
    wire_bytes: u64,
    /// Bytes added in a round; strict queues have none.
    quantum: i64,
    deficit: i64,
    counters: QueueCounters,
}

/// One port's queues, its scheduler and its shaper.
///
/// Strict priority first (telephony before admitted telephony), as long as its cap has tokens;
/// then the weighted queues by deficit round robin (Shreedhar and Varghese, SIGCOMM 1995); then
/// strict priority that is over its cap, so that nothing is left unused. Then the shaper: a packet
/// goes when the token bucket is not in deficit, and is charged in full, with the wire's overhead.
#[derive(Debug)]
pub(crate) struct PortScheduler<B> {
    queues: [Queue<B>; Phb::COUNT],
    /// A bit for each queue that is not empty.
    waiting: u16,
    /// The weighted queue whose turn it is; one bit.
    turn: u16,
    shaper: (BucketProfile, TokenBucket),
    strict_cap: (BucketProfile, TokenBucket),
    overhead_bytes: u32,
    limit_packets: usize,
    limit_wire_bytes: u64,
    clock: TickRate,
}

const STRICT: u16 = mask_of_strict();

const fn mask_of_strict() -> u16 {
    let mut mask = 0;
    let mut index = 0;
    while index < Phb::COUNT {
        if matches!(Phb::ALL[index].treatment(), Treatment::Strict) {
            mask |= 1 << index;
        }
        index += 1;
    }
    mask
}

impl<B: Buffer> PortScheduler<B> {
    pub(super) fn new(port: &PortSettings, clock: TickRate, now: Ticks) -> Self {
        let queue = |phb: Phb| Queue {
            packets: VecDeque::with_capacity(port.queue_limit_packets.min(1 << 16)),
            wire_bytes: 0,
            quantum: match phb.treatment() {
                Treatment::Strict => 0,
                Treatment::Weighted(percent) => i64::from(percent) * QUANTUM_BYTES,
            },
            deficit: 0,
            counters: QueueCounters::default(),
        };
        let longest = u64::from(port.mtu) + 18 + u64::from(port.overhead_bytes);
        let bucket = |rate: BitRate, milliseconds: u64, least: u64| {
            let depth = rate.bytes_in_ms(milliseconds).max(least);
            let profile = BucketProfile::clamped(rate, depth, clock);
            (profile, TokenBucket::full(&profile, now))
        };
        let limit_wire_bytes = port.rate.bytes_in_ms(port.queue_limit_ms.into());
        Self {
            queues: Phb::ALL.map(queue),
            waiting: 0,
            turn: 1,
            shaper: bucket(port.rate, PortSettings::SHAPER_BURST_MS, 1),
            strict_cap: bucket(port.strict_cap, 10, 2 * longest),
            overhead_bytes: port.overhead_bytes,
            limit_packets: port.queue_limit_packets.max(1),
            // Room for a few packets, however slow the port.
            limit_wire_bytes: limit_wire_bytes.max(4 * longest),
            clock,
        }
    }

    /// Adds a packet to a queue; a full queue counts it and gives it up.
    #[inline]
    pub(super) fn enqueue(&mut self, phb: Phb, buffer: B, now: Ticks) -> Result<(), QueueFull> {
        let frame = buffer.bytes().len().max(SHORTEST_FRAME);
        let wire_bytes = u32::try_from(frame)
            .unwrap_or(u32::MAX)
            .saturating_add(self.overhead_bytes);
        let queue = &mut self.queues[phb.index()];
        // A queue is full or not, whoever asks: were the packet's own length added here, the last
        // gap would stay open to short packets only.
        if queue.packets.len() >= self.limit_packets || queue.wire_bytes >= self.limit_wire_bytes {
            queue.counters.dropped_packets += 1;
            return Err(QueueFull);
        }
        queue.packets.push_back(Queued {
            buffer,
            wire_bytes,
            since: now,
        });
        queue.wire_bytes += u64::from(wire_bytes);
        queue.counters.enqueued_packets += 1;
        self.waiting |= 1 << phb.index();
        Ok(())
    }

    /// Takes packets that may go now, as many as there is room for.
    #[inline(never)]
    pub(super) fn schedule(&mut self, into: &mut ArrayVec<B, BURST>, now: Ticks) {
        if self.waiting == 0 {
            return;
        }
        let (profile, bucket) = &mut self.shaper;
        bucket.refill(profile, now);
        let (cap_profile, cap) = &mut self.strict_cap;
        cap.refill(cap_profile, now);
        // Packets of one burst have waited for the same time: counted together.
        let mut run = DelayRun::default();
        while self.waiting != 0 && !into.is_full() && self.shaper.1.is_open() {
            let Some(packet) = self.next() else { break };
            let (profile, bucket) = &mut self.shaper;
            bucket.charge(profile, packet.wire_bytes);
            if (run.index, run.since) != (packet.index, packet.since) {
                self.record(&run, now);
                run = DelayRun {
                    index: packet.index,
                    since: packet.since,
                    ..DelayRun::default()
                };
            }
            run.packets += 1;
            run.wire_bytes += u64::from(packet.wire_bytes);
            into.push(packet.buffer);
        }
        self.record(&run, now);
    }

    /// Counts a run of packets as sent, with the time that they waited.
    #[inline]
    fn record(&mut self, run: &DelayRun, now: Ticks) {
        if run.packets > 0 {
            let counters = &mut self.queues[run.index].counters;
            counters.sent_packets += run.packets;
            counters.sent_wire_bytes += run.wire_bytes;
            let waited = self.clock.nanoseconds(now.since(run.since));
            counters
                .delay_ns
                .saturating_record_n(waited.max(1), run.packets);
        }
    }

    /// When the shaper lets the next packet go; nothing when none waits.
    pub(super) fn next_departure(&self) -> Option<Ticks> {
        let (profile, bucket) = &self.shaper;
        (self.waiting != 0).then(|| bucket.opens_at(profile))
    }

    /// Of each queue.
    pub(crate) fn queue_counters(&mut self) -> impl Iterator<Item = &QueueCounters> {
        self.queues.iter_mut().map(|queue| {
            queue.counters.depth_packets = queue.packets.len() as u64;
            &queue.counters
        })
    }

    /// The next packet in the order of service.
    #[inline]
    fn next(&mut self) -> Option<Departing<B>> {
        let strict = self.waiting & STRICT;
        let weighted = self.waiting & !STRICT;
        if strict != 0 && (weighted == 0 || self.strict_cap.1.is_open()) {
            let index = strict.trailing_zeros() as usize;
            let departing = self.pop(index)?;
            let (profile, cap) = &mut self.strict_cap;
            cap.charge(profile, departing.wire_bytes);
            return Some(departing);
        }
        self.next_weighted(weighted)
    }

    /// Deficit round robin: the queue whose turn it is sends while its deficit covers its first
    /// packet; then the turn goes on, and the next queue gets its quantum.
    #[inline]
    fn next_weighted(&mut self, weighted: u16) -> Option<Departing<B>> {
        if weighted == 0 {
            return None;
        }
        // Each round adds to every waiting queue's deficit, so the first packet is covered after
        // a bounded number of rounds.
        loop {
            if self.turn & weighted != 0 {
                let index = self.turn.trailing_zeros() as usize;
                let queue = &mut self.queues[index];
                let first = queue
                    .packets
                    .front()
                    .map_or(0, |packet| i64::from(packet.wire_bytes));
                // Alone, a queue needs no credit.
                if queue.deficit >= first || weighted == self.turn {
                    queue.deficit = (queue.deficit - first).max(0);
                    let departing = self.pop(index)?;
                    if self.waiting & self.turn == 0 {
                        self.queues[index].deficit = 0;
                    }
                    return Some(departing);
                }
            }
            // The next waiting queue after this one, in a circle.
            let after = weighted & !(self.turn | (self.turn - 1));
            let candidates = if after == 0 { weighted } else { after };
            self.turn = candidates & candidates.wrapping_neg();
            let queue = &mut self.queues[self.turn.trailing_zeros() as usize];
            queue.deficit += queue.quantum;
        }
    }

    #[inline]
    fn pop(&mut self, index: usize) -> Option<Departing<B>> {
        let queue = &mut self.queues[index];
        let Queued {
            buffer,
            wire_bytes,
            since,
        } = queue.packets.pop_front()?;
        queue.wire_bytes -= u64::from(wire_bytes);
        if queue.packets.is_empty() {
            self.waiting &= !(1 << index);
        }
        Some(Departing {
            buffer,
            wire_bytes,
            since,
            index,
        })
    }

    /// Checks what must hold between calls.
    pub(crate) fn invariants(&self) {
        for (index, queue) in self.queues.iter().enumerate() {
            let waiting = self.waiting >> index & 1 == 1;
            assert_eq!(
                waiting,
                !queue.packets.is_empty(),
                "the waiting bit of queue {index}"
            );
            let bytes: u64 = queue
                .packets
                .iter()
                .map(|packet| u64::from(packet.wire_bytes))
                .sum();
            assert_eq!(queue.wire_bytes, bytes, "the bytes of queue {index}");
            assert!(
                queue.packets.len() <= self.limit_packets,
                "queue {index} is over its limit"
            );
            let before_last = queue
                .packets
                .back()
                .map_or(0, |last| bytes - u64::from(last.wire_bytes));
            assert!(
                before_last < self.limit_wire_bytes,
                "queue {index} is over its limit"
            );
            assert!(queue.deficit >= 0, "the deficit of queue {index}");
            let counters = &queue.counters;
            assert_eq!(
                counters.enqueued_packets,
                counters.sent_packets + queue.packets.len() as u64,
                "a packet of queue {index} is lost"
            );
        }
        self.shaper.1.invariants(&self.shaper.0);
        self.strict_cap.1.invariants(&self.strict_cap.0);
    }
}

/// A packet on its way out of a queue.
struct Departing<B> {
    buffer: B,
    wire_bytes: u32,
    since: Ticks,
    index: usize,
}

/// Packets that left one queue one after the other, of the same burst.
#[derive(Clone, Copy, Debug, Default)]
struct DelayRun {
    index: usize,
    since: Ticks,
    packets: u64,
    wire_bytes: u64,
}

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use crate::{
    device::{BURST, Buffer},
    diffserv::{
        ClassSettings, Codel, Colour, Dscp, EfMeter, FEW, FULL, Fill, Management, Service, Wred,
    },
    packet_mask::{PacketMask, first_packets},
    stats::{DropReason, Drops, QueueCounters},
    units::{BitRate, TickRate, Ticks},
    wire::mark_congestion_experienced,
};

/// Packets that wait one behind the other, came in one burst and are equally long: what is the same
/// for all is kept once. Those of the EF aggregate have come one after the other in it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// When their burst came in.
    pub(super) since: Ticks,
    pub(super) packets: u32,
    /// What each will take of the wire.
    pub(super) wire_bytes: u32,
    /// The first one's number in the EF aggregate, whose followers have the following ones; of no
    /// meaning for others.
    pub(super) number: u32,
}

impl Run {
    #[inline]
    pub(super) fn of(wire_bytes: u32, since: Ticks) -> Self {
        Self {
            since,
            packets: 0,
            wire_bytes,
            number: 0,
        }
    }

    /// Whether another run can be added to this one; of the EF aggregate (`strict`), it must be the
    /// next there.
    #[inline]
    pub(super) fn goes_on_with(&self, next: &Self, strict: bool) -> bool {
        (self.since, self.wire_bytes) == (next.since, next.wire_bytes)
            && (!strict || next.number.wrapping_sub(self.number) == self.packets)
    }
}

/// Bits behind the point of [`Queue::byte_fill`]: dividing for each packet takes too long.
const FRACTION: u32 = 32;
/// More than any queue holds.
const NEVER: usize = usize::MAX;

/// One class's packets, and what keeps them few.
#[derive(Debug)]
pub(super) struct Queue<B> {
    packets: VecDeque<B>,
    /// Of them, in the same order; none is empty.
    runs: VecDeque<Run>,
    wire_bytes: u64,
    limit_packets: usize,
    limit_wire_bytes: u64,
    /// What a byte, a packet, and a tick that the first packet has waited fill of it, with so many bits of
    /// [`FRACTION`].
    byte_fill: u64,
    packet_fill: u64,
    tick_fill: u64,
    /// When the first packet came, if there is one; a copy, as the packet's own record is in another cache line.
    first_since: Ticks,
    /// If the first packet has waited for longer, the class is served at a lower rate than the queue's limit
    /// was computed for.
    limit_wait: Ticks,
    /// How many may wait then.
    limit_wait_from: usize,
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
    pub(super) fn new(
        class: &ClassSettings,
        (rate, longest): (BitRate, u64),
        clock: TickRate,
        seed: u64,
    ) -> Self {
        let limit_packets = class.limit_packets.max(1);
        // Room for a few packets, however slow the port.
        let limit_wire_bytes = rate.bytes_in_ms(class.limit_ms.into()).max(4 * longest);
        let manager = match &class.management {
            Management::TailDrop => Manager::TailDrop,
            Management::Wred(profile) => {
                let packets = (limit_wire_bytes / longest.max(1)).min(limit_packets as u64);
                let packet_ns = u128::from(longest) * 8 * 1_000_000_000 / u128::from(rate.bps());
                let packet = clock.ticks(u64::try_from(packet_ns).unwrap_or(u64::MAX));
                let wred = Wred::new(profile, packets, packet, seed);
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
        let limit_wait = clock.ticks(u64::from(class.limit_ms) * 1_000_000);
        Self {
            packets: VecDeque::with_capacity(limit_packets.min(1 << 16)),
            runs: VecDeque::with_capacity(limit_packets.min(1 << 16)),
            wire_bytes: 0,
            limit_packets,
            limit_wire_bytes,
            byte_fill: (u64::from(FULL) << FRACTION).div_ceil(limit_wire_bytes),
            packet_fill: (u64::from(FULL) << FRACTION).div_ceil(limit_packets as u64),
            tick_fill: (u64::from(FULL) << FRACTION).div_ceil(limit_wait.0.max(1)),
            first_since: Ticks(0),
            limit_wait,
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

    /// What the first packet will take of the wire.
    #[inline]
    pub(super) fn first_wire_bytes(&self) -> i64 {
        self.first_run().map_or(0, |run| run.wire_bytes.into())
    }

    #[inline]
    pub(super) fn first_run(&self) -> Option<&Run> {
        self.runs.front()
    }

    /// When a packet of the EF aggregate came, if it is here.
    pub(super) fn since(&self, number: u32) -> Option<Ticks> {
        // Numbers grow from run to run, and wrap.
        let first = self.first_run()?.number;
        let offset = number.wrapping_sub(first);
        let after = |run: &Run| run.number.wrapping_sub(first);
        let behind = self.runs.partition_point(|run| after(run) <= offset);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        (offset - after(run) < run.packets).then_some(run.since)
    }

    /// Which of so many packets of one code point may join, where others leave it so much room: for how
    /// many packets in all, and for how many more. Those that may not are counted. `run` says what they
    /// have in common.
    #[inline]
    pub(super) fn admit(
        &mut self,
        dscp: Dscp,
        run: &Run,
        (packets, (limit, more)): (usize, (usize, usize)),
        drops: &mut Drops,
    ) -> PacketMask {
        let room = self.room(run).min(more);
        let (admitted, full) = match self.manager {
            Manager::Wred(_) => self.admit_early(dscp, run, (packets, room, limit), drops),
            _ => (
                first_packets(packets.min(room)),
                packets.saturating_sub(room),
            ),
        };
        if full > 0 {
            self.counters.full_packets[Colour::of(dscp).index()] += full as u64;
            drops[DropReason::QueueFull.index()] += full as u64;
        }
        admitted
    }

    /// For how many packets of a run there is room.
    #[inline]
    fn room(&self, run: &Run) -> usize {
        let by_packets = self
            .most_packets(run.since)
            .saturating_sub(self.packets.len());
        let left = self.limit_wire_bytes.saturating_sub(self.wire_bytes);
        // A queue is full or not, whoever asks: were the packet's own length added here, the last gap
        // would stay open to short packets only.
        if u64::from(run.wire_bytes) * BURST as u64 <= left {
            by_packets
        } else {
            let by_bytes = left.div_ceil(run.wire_bytes.max(1).into());
            by_packets.min(usize::try_from(by_bytes).unwrap_or(usize::MAX))
        }
    }

    /// Adds packets that may join, says how many. `ef` numbers the packets of the EF aggregate.
    #[inline]
    pub(super) fn join(
        &mut self,
        mut run: Run,
        buffers: impl Iterator<Item = B>,
        ef: Option<&mut EfMeter>,
    ) -> usize {
        let before = self.packets.len();
        for buffer in buffers {
            self.packets.push_back(buffer);
        }
        let joined = self.packets.len() - before;
        run.packets = u32::try_from(joined).unwrap_or(u32::MAX);
        self.wire_bytes += u64::from(run.packets) * u64::from(run.wire_bytes);
        self.append(run, ef);
        joined
    }

    /// Writes down what packets that have joined have in common.
    #[inline]
    fn append(&mut self, mut run: Run, ef: Option<&mut EfMeter>) {
        if run.packets == 0 {
            return;
        }
        self.counters.enqueued_packets += u64::from(run.packets);
        let strict = ef.is_some();
        if let Some(ef) = ef {
            run.number = ef.arrive(run.packets);
        }
        if let Some(last) = self.runs.back_mut()
            && last.goes_on_with(&run, strict)
        {
            last.packets += run.packets;
        } else {
            if self.runs.is_empty() {
                self.first_since = run.since;
            }
            self.runs.push_back(run);
        }
    }

    /// How many packets there may be now.
    #[inline]
    fn most_packets(&self, now: Ticks) -> usize {
        if self.waited(now) >= self.limit_wait {
            self.limit_packets.min(self.limit_wait_from)
        } else {
            self.limit_packets
        }
    }

    /// Which packets random early detection lets join, each beside those before it, as long as there is
    /// room, where others leave room for `limit` in all; and how many found none.
    fn admit_early(
        &mut self,
        dscp: Dscp,
        run: &Run,
        (packets, mut room, limit): (usize, usize, usize),
        drops: &mut Drops,
    ) -> (PacketMask, usize) {
        let now = run.since;
        let (by_time, colour) = (self.fill_by_time(now), Colour::of(dscp));
        let packet_fill = if limit < self.limit_packets {
            (u64::from(FULL) << FRACTION).div_ceil(limit as u64)
        } else {
            self.packet_fill
        };
        let (mut waiting, mut wire_bytes) = (self.packets.len() as u64, self.wire_bytes);
        let (mut admitted, mut early): (PacketMask, usize) = (0, 0);
        for place in 0..packets {
            if room == 0 {
                break;
            }
            let fill = self.fill(waiting, wire_bytes, (packet_fill, by_time));
            let Manager::Wred(wred) = &mut self.manager else {
                break;
            };
            if wred.drops(colour, fill, now) {
                early += 1;
                continue;
            }
            admitted |= 1 << place;
            room -= 1;
            waiting += 1;
            wire_bytes += u64::from(run.wire_bytes);
        }
        if early > 0 {
            self.counters.early_packets[colour.index()] += early as u64;
            drops[DropReason::EarlyDrop.index()] += early as u64;
        }
        // Where there is room for one more, all were asked.
        let full = if room == 0 {
            packets - early - admitted.count_ones() as usize
        } else {
            0
        };
        (admitted, full)
    }

    /// How long the first packet has waited.
    #[inline]
    fn waited(&self, now: Ticks) -> Ticks {
        if self.packets.is_empty() {
            return Ticks(0);
        }
        now.since(self.first_since)
    }

    /// By that of its limits which is nearest.
    #[inline]
    fn fill(&self, packets: u64, wire_bytes: u64, (packet_fill, by_time): (u64, u64)) -> Fill {
        let by_bytes = wire_bytes.saturating_mul(self.byte_fill) >> FRACTION;
        let by_packets = packets.saturating_mul(packet_fill) >> FRACTION;
        // A few packets are no queue yet, however slowly they go.
        let by_time = by_time * packets.min(FEW as u64) / FEW as u64;
        let fill = by_bytes.max(by_packets).max(by_time).min(FULL.into());
        Fill::try_from(fill).unwrap_or(FULL)
    }

    /// By its limit in time, if it is more than a few packets.
    fn fill_by_time(&self, now: Ticks) -> u64 {
        let waited = self.waited(now).min(self.limit_wait).0;
        waited.saturating_mul(self.tick_fill) >> FRACTION
    }

    /// Whether packets may go past this queue when it is empty.
    #[inline]
    pub(super) fn lets_pass(&self) -> bool {
        match &self.manager {
            Manager::TailDrop | Manager::Codel { .. } => true,
            Manager::Wred(wred) => wred.is_calm(),
        }
    }

    /// Counts packets that have gone past this queue, which is empty.
    #[inline]
    pub(super) fn passed(&mut self, run: &Run) {
        self.counters.enqueued_packets += u64::from(run.packets);
        if let Manager::Codel { codel, .. } = &mut self.manager {
            codel.emptied();
        }
    }

    /// Sends packets of the first run, at most as many as are asked for; says how many. Controlled delay
    /// may drop the first one in their place.
    #[inline]
    pub(super) fn send(&mut self, packets: u32, into: &mut ArrayVec<B, BURST>, now: Ticks) -> u32 {
        let Some(&Run {
            since, wire_bytes, ..
        }) = self.first_run()
        else {
            return 0;
        };
        if let Manager::Codel { codel, .. } = &mut self.manager {
            let rest = self.wire_bytes - u64::from(wire_bytes);
            let waited = now.since(since);
            if codel.signals(now, waited, rest > self.longest) {
                return self.signal(into);
            }
            if !codel.accepts(waited) {
                // The next one may be dropped.
                return self.move_on(1, into);
            }
        }
        let sent = self.move_on(packets, into);
        if let Manager::Wred(wred) = &mut self.manager
            && self.packets.is_empty()
        {
            wred.emptied(now);
        }
        sent
    }

    /// Marks the first packet, where ECN is understood, or drops it; says how many are sent.
    fn signal(&mut self, into: &mut ArrayVec<B, BURST>) -> u32 {
        let ecn = matches!(self.manager, Manager::Codel { ecn: true, .. });
        let first = self.take(1).next();
        let Some(mut buffer) = first else {
            return 0;
        };
        if ecn && mark_congestion_experienced(buffer.bytes_mut()) {
            self.counters.ecn_marked_packets += 1;
            into.push(buffer);
            return 1;
        }
        self.counters.delay_dropped_packets += 1;
        0
    }

    #[inline]
    fn move_on(&mut self, packets: u32, into: &mut ArrayVec<B, BURST>) -> u32 {
        let before = into.len();
        into.extend(self.take(packets));
        u32::try_from(into.len() - before).unwrap_or(u32::MAX)
    }

    /// Takes packets of the first run off the queue, at most as many as it has, whatever manages
    /// the queue.
    #[inline]
    pub(super) fn take(&mut self, packets: u32) -> impl Iterator<Item = B> {
        let mut count = 0;
        if let Some(run) = self.runs.front_mut() {
            count = packets.min(run.packets);
            run.packets -= count;
            run.number = run.number.wrapping_add(count);
            self.wire_bytes -= u64::from(count) * u64::from(run.wire_bytes);
            if run.packets == 0 {
                self.runs.pop_front();
                if let Some(next) = self.runs.front() {
                    self.first_since = next.since;
                }
            }
        }
        (0..count).map_while(|_| self.packets.pop_front())
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
        let packets: u64 = self.runs.iter().map(|run| u64::from(run.packets)).sum();
        assert_eq!(packets, self.packets.len() as u64, "the packets of a queue");
        assert!(self.runs.iter().all(|run| run.packets > 0), "an empty run");
        let bytes = |run: &Run| u64::from(run.packets) * u64::from(run.wire_bytes);
        let sum: u64 = self.runs.iter().map(bytes).sum();
        assert_eq!(self.wire_bytes, sum, "the bytes of a queue");
        assert!(self.packets.len() <= self.limit_packets, "too many packets");
        if let Some(first) = self.runs.front() {
            assert_eq!(self.first_since, first.since, "when the first packet came");
        }
        let last = self.runs.back();
        let last = last.map_or(0, |last| u64::from(last.wire_bytes));
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

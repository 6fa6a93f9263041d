//! Writes down what became of the traced packets of a burst. None of it runs while nobody traces.

use arrayvec::ArrayVec;
use voicelane_machine::equal_bytes;

use crate::{
    device::Buffer,
    packet_mask::{PacketMask, packets_in},
    pipeline::{burst::Burst, headers::fields, outlet::RunKey},
    policy::Policy,
    routing::Routes,
    session::{FiveTuple, FlowId, Sessions},
    stats::{DropReason, Drops, PuntReason},
    trace::{Fate, Stage, TRACED_BYTES, TraceRecord, TracedExit, TracedHeader, Tracer},
    units::Ticks,
};

/// The packets of a full burst that are compared with the flows which they may be near to; of the next one those that
/// follow them, as the same flows may come at the same places of all bursts.
const EVERY_EIGHTH: PacketMask = 0x0101_0101_0101_0101;

/// Says which packets of a burst are traced, when `classify` has been there.
#[cold]
pub(super) fn choose<B: Buffer>(tracer: &mut Tracer, burst: &mut Burst<B>, sessions: &Sessions) {
    burst.readable = burst.verdicts.judged();
    let mut traced = burst.all();
    if let Some(interface) = tracer.filter.interface {
        traced &= equal_bytes(&burst.ingress.map(|it| it.0), interface.0);
    }
    if !tracer.filter.flows.is_empty() {
        for place in packets_in(traced) {
            let flow = session(burst, place, sessions).or_else(|| flow(burst, place));
            let takes = |flow| tracer.filter.flows.iter().any(|it| it.takes(&flow));
            if !flow.is_some_and(takes) {
                traced &= !(1 << place);
            }
        }
    }
    if !tracer.filter.near.is_empty() {
        traced &= !burst.sessions.all();
        if burst.buffers.is_full() {
            traced &= EVERY_EIGHTH << (tracer.sampled % 8);
            tracer.sampled = tracer.sampled.wrapping_add(1);
        }
        for place in packets_in(traced) {
            let is_near = |flow| tracer.filter.near.iter().any(|it| it.is_near(&flow));
            if !flow(burst, place).is_some_and(is_near) {
                traced &= !(1 << place);
            }
        }
    }
    if tracer.is_full() && !tracer.filter.drops_only {
        tracer.missed += u64::from(traced.count_ones());
        traced = 0;
    }
    burst.traced = traced;
}

/// The flow of a packet's session.
fn session<B>(burst: &Burst<B>, place: usize, sessions: &Sessions) -> Option<FiveTuple> {
    let (hits, slot) = (&burst.sessions, burst.sessions.slots[place]);
    if hits.ipv4 >> place & 1 == 1 {
        Some(sessions.five_tuple(FlowId::V4(slot)))
    } else if hits.ipv6 >> place & 1 == 1 {
        Some(sessions.five_tuple(FlowId::V6(slot)))
    } else {
        None
    }
}

/// A packet's own five-tuple, if it shows ports.
fn flow<B: Buffer>(burst: &Burst<B>, place: usize) -> Option<FiveTuple> {
    let header = header(burst, place, burst.frame(place))?;
    header.has_ports.then_some(header.flow)
}

/// What the headers say of a packet that `parse` has let go on, or that the kernel gets.
fn header<B>(burst: &Burst<B>, place: usize, frame: &[u8]) -> Option<TracedHeader> {
    if burst.readable >> place & 1 == 0 {
        return None;
    }
    let header = burst.headers.at(place);
    let fields = fields::fields(frame, burst.ingress[place], header)?;
    Some(TracedHeader {
        flow: fields.five_tuple(),
        has_ports: fields.ports.is_some(),
        dscp: header.class.dscp(),
        ttl: header.ttl,
        ip_bytes: header.ip_bytes,
    })
}

/// What a record has of a frame.
pub(super) fn start(frame: &[u8]) -> ArrayVec<u8, TRACED_BYTES> {
    frame.iter().copied().take(TRACED_BYTES).collect()
}

/// What `queue` needs to write records.
pub(super) struct Tracing<'a> {
    pub(super) tracer: &'a mut Tracer,
    pub(super) sessions: &'a Sessions,
    pub(super) policy: &'a Policy,
    pub(super) routes: &'a Routes,
    pub(super) now: Ticks,
}

impl Tracing<'_> {
    /// Writes down a packet that a verdict has ended, before it is carried out.
    pub(super) fn ended<B>(&mut self, burst: &Burst<B>, place: usize, frame: &[u8], fate: Fate) {
        if burst.traced >> place & 1 == 1 && self.wants(fate) {
            if self.tracer.is_full() {
                self.tracer.missed += 1;
                return;
            }
            let record = self.record(burst, place, frame, fate);
            self.tracer.records.push(record);
        }
    }

    /// Whether packets with this end are asked for.
    fn wants(&self, fate: Fate) -> bool {
        !self.tracer.filter.drops_only || fate.drop_reason().is_some()
    }

    /// Writes down a packet that was given to the kernel, or refused; `before` are the drops before that.
    pub(super) fn punted<B>(
        &mut self,
        burst: &Burst<B>,
        (place, reason): (usize, PuntReason),
        frame: &[u8],
        (before, drops): (&Drops, &Drops),
    ) {
        let mut reasons = DropReason::ALL.iter().zip(before.iter().zip(drops));
        let refused = reasons.find(|(_, (before, after))| after > before);
        let fate = match refused {
            Some((&refusal, _)) => Fate::Refused(reason, refusal),
            None => Fate::Punted(reason),
        };
        self.ended(burst, place, frame, fate);
    }

    /// Writes down packets of a run that have been admitted or refused; `before` are the drops before that.
    pub(super) fn admitted<'b, B>(
        &mut self,
        burst: &Burst<B>,
        (run, admitted): (PacketMask, PacketMask),
        frame: impl Fn(usize) -> &'b [u8],
        (before, drops): (&Drops, &Drops),
    ) {
        // Where a queue drops early and is full then, those that find it full come last.
        let early = DropReason::EarlyDrop.index();
        let mut early = drops[early] - before[early];
        let ring = DropReason::RingFull.index();
        let full = match drops[ring] - before[ring] {
            0 => DropReason::QueueFull,
            _ => DropReason::RingFull,
        };
        for place in packets_in(run) {
            let fate = if admitted >> place & 1 == 1 {
                Fate::Queued
            } else if early > 0 {
                early -= 1;
                Fate::Dropped(DropReason::EarlyDrop)
            } else {
                Fate::Dropped(full)
            };
            self.ended(burst, place, frame(place), fate);
        }
    }

    /// Corrects the record of a packet that could not leave its queue's door, as its headers could not be written.
    pub(super) fn unwritten<B>(&mut self, burst: &Burst<B>, place: usize, frame: &[u8]) {
        let fate = Fate::Dropped(DropReason::NoHeadroom);
        if self.tracer.filter.drops_only {
            return self.ended(burst, place, frame, fate);
        }
        let (mut records, ingress) = (self.tracer.records.iter_mut().rev(), burst.ingress[place]);
        let is_its =
            |it: &&mut TraceRecord| (it.at, it.ingress, it.place) == (self.now, ingress, place);
        if let Some(record) = records.find(is_its) {
            record.fate = fate;
        }
    }

    /// Writes down that packets of a run have joined their queue behind so many others, the first ones of them past
    /// it.
    pub(super) fn queued<B: Buffer>(
        &mut self,
        burst: &Burst<B>,
        run: &RunKey,
        admitted: PacketMask,
        (ahead, passing): (usize, usize),
        buffers: &[Option<B>],
    ) {
        if self.tracer.filter.drops_only {
            return;
        }
        for (number, place) in packets_in(admitted).enumerate() {
            if burst.traced >> place & 1 == 1
                && let Some(Some(buffer)) = buffers.get(place)
            {
                let ahead = number.checked_sub(passing).map(|behind| ahead + behind);
                let queue = (run.egress, run.phb);
                let place = (self.now, burst.ingress[place], place);
                self.tracer.queued(place, queue, ahead, buffer);
            }
        }
    }

    fn record<B>(&self, burst: &Burst<B>, place: usize, frame: &[u8], fate: Fate) -> TraceRecord {
        let header = header(burst, place, frame);
        let session = session(burst, place, self.sessions);
        let spoofed = (burst.sessions.spoofed >> place & 1 == 1).then(|| {
            let slot = burst.sessions.slots[place];
            let flow = FlowId::of(burst.headers.family(place), slot);
            self.sessions.five_tuple(flow)
        });
        let rule = header.and(burst.rules[place]).filter(|_| session.is_none());
        let reaches_mark = header.is_some() && !ends_before_mark(fate);
        let exit = self
            .routes
            .neighbour(burst.next_hops[place])
            .filter(|_| burst.verdicts.forwarded >> place & 1 == 1);
        TraceRecord {
            at: self.now,
            ingress: burst.ingress[place],
            frame: start(frame),
            frame_bytes: burst.frame_bytes[place],
            header,
            session,
            spoofed,
            rule: rule.map(|rule| (rule, self.policy.generation())),
            marked: reaches_mark.then(|| (burst.dscps[place], burst.phbs[place])),
            exit: exit.map(|neighbour| TracedExit {
                port: neighbour.exit.port(),
                vlan: neighbour.vlan,
                neighbour: neighbour.destination(),
            }),
            fate,
            queue_end: None,
            place,
        }
    }
}

/// Whether such packets have no class: their end is before `mark`.
fn ends_before_mark(fate: Fate) -> bool {
    match fate {
        Fate::Dropped(reason) => reason.stage() < Stage::Mark,
        Fate::Punted(reason) | Fate::Refused(reason, _) => !reason.is_ip(),
        Fate::Queued => false,
    }
}

use std::array;

use arrayvec::ArrayVec;
use voicelane_machine::{equal_places, scatter};

use crate::{
    device::{BURST, Buffer},
    diffserv::TrafficClass,
    packet_mask::{PacketMask, first_packets, packets_in},
    pipeline::{
        burst::Burst,
        burst::Verdict,
        headers::rewrite::rewrite,
        interface::Interface,
        outlet::{Outlet, RunKey},
        punt::{Punted, Punts},
        trace::{Tracing, start},
    },
    policy::Routing,
    routing::Routes,
    stats::{Drops, InterfaceCounters},
    trace::Fate,
    units::Ticks,
    wire::IpVersion,
};

/// Carries the verdicts out: each packet of the burst goes to a queue, to the kernel, or is
/// dropped and counted. Returns which are dropped.
#[inline(never)]
pub(crate) fn queue<B: Buffer, O: Outlet<B>>(
    burst: &mut Burst<B>,
    routes: &Routes,
    queues: &mut O,
    interfaces: &mut [Interface],
    kernel: (&mut Punts<B>, &Routing),
    tracing: Option<Tracing<'_>>,
    now: Ticks,
) -> PacketMask {
    let dropped = if burst.traced != 0
        && let Some(mut tracing) = tracing
    {
        let tracing = Some(&mut tracing);
        queue_mixed::<B, O, true>(burst, routes, queues, interfaces, kernel, tracing, now)
    } else if burst.is_alike() {
        // As in most bursts of calls' packets.
        let run = run(burst, 0, now);
        let counters = &mut interfaces[burst.ingress[0].index()].counters;
        queue_alike(burst, &run, routes, queues, counters)
    } else {
        queue_mixed::<B, O, false>(burst, routes, queues, interfaces, kernel, None, now)
    };
    queues.flush();
    dropped
}

/// Packets of one kind.
#[inline]
fn queue_alike<B: Buffer, O: Outlet<B>>(
    burst: &mut Burst<B>,
    run: &RunKey,
    routes: &Routes,
    queues: &mut O,
    counters: &mut InterfaceCounters,
) -> PacketMask {
    let (all, frame_bytes) = (burst.all(), burst.frame_bytes[0]);
    if burst.unwritten == 0 && queues.pass(run, &mut burst.buffers) {
        counters.queued(run.phb, all.count_ones(), frame_bytes);
        return 0;
    }
    let drops = &mut counters.drops;
    let admission = queues.admit(run, burst.buffers.len(), drops);
    let mut admitted = admission.mask;
    for place in packets_in(admitted & burst.unwritten) {
        let header = Unwritten::at(burst, place);
        if !header.write(burst.buffers.get_mut(place), routes, drops) {
            admitted &= !(1 << place);
        }
    }
    let mut dropped = ArrayVec::new();
    let arrived = burst.buffers.drain(..).enumerate();
    let buffers = arrived.filter_map(|(place, buffer)| {
        if admitted >> place & 1 == 1 {
            return Some(buffer);
        }
        dropped.push(buffer);
        None
    });
    queues.enqueue(run, admission, buffers);
    B::free_all(&mut dropped);
    if admission.is_here {
        counters.queued(run.phb, admitted.count_ones(), frame_bytes);
    }
    all & !admitted
}

/// What is still to be written into a packet that a queue has let in.
struct Unwritten {
    family: IpVersion,
    class: TrafficClass,
    next_hop: u16,
}

impl Unwritten {
    #[inline]
    fn at<B>(burst: &Burst<B>, place: usize) -> Self {
        Self {
            family: burst.headers.family(place),
            class: burst.marked[place],
            next_hop: burst.next_hops[place],
        }
    }

    /// Writes it; returns whether the packet can leave, else it is counted.
    #[inline]
    fn write<B: Buffer>(&self, buffer: Option<&mut B>, routes: &Routes, drops: &mut Drops) -> bool {
        let (Some(buffer), Some(neighbour)) = (buffer, routes.neighbour(self.next_hop)) else {
            return true;
        };
        let written = rewrite(buffer, self.family, self.class, neighbour);
        if let Err(reason) = written {
            drops[reason.index()] += 1;
        }
        written.is_ok()
    }
}

/// What a packet that goes on has in common with those of its run.
#[inline]
fn run<B>(burst: &Burst<B>, place: usize, now: Ticks) -> RunKey {
    let exit = burst.exits[place];
    RunKey {
        since: now,
        egress: exit.port(),
        phb: burst.phbs[place],
        dscp: burst.dscps[place],
        frame_bytes: burst.frame_bytes[place].saturating_add(exit.tag_bytes().into()),
        tag_bytes: exit.tag_bytes(),
        ingress: Some(burst.ingress[place]),
    }
}

/// Packets of several kinds, class by class, so that runs are long; each class's in order. Two functions,
/// so that nothing looks for traced packets while there are none.
#[inline(never)]
fn queue_mixed<B: Buffer, O: Outlet<B>, const TRACED: bool>(
    burst: &mut Burst<B>,
    routes: &Routes,
    queues: &mut O,
    interfaces: &mut [Interface],
    (punts, routing): (&mut Punts<B>, &Routing),
    tracing: Option<&mut Tracing<'_>>,
    now: Ticks,
) -> PacketMask {
    let mut tracing = tracing.filter(|_| TRACED);
    let (all, forwarded) = (burst.all(), burst.verdicts.forwarded);
    let mut arrived = burst.buffers.drain(..);
    let mut buffers: [Option<B>; BURST] = array::from_fn(|_| arrived.next());
    drop(arrived);
    let mut ended = 0;
    for place in packets_in(all & !forwarded) {
        let Some(buffer) = buffers[place].take() else {
            break;
        };
        let ingress = burst.ingress[place];
        let counters = &mut interfaces[ingress.index()].counters;
        match burst.verdicts.verdict(place) {
            Verdict::Punt(reason) => {
                let family = burst.headers.family(place);
                let packet = Punted {
                    ingress,
                    reason,
                    class: reason.is_ip().then(|| (family, burst.marked[place])),
                    flow: burst.lookups.detour(place),
                };
                let is_traced = TRACED && burst.traced >> place & 1 == 1;
                let before = is_traced.then(|| (start(buffer.bytes()), counters.drops));
                punts.punt(packet, buffer, counters, (routes, routing), now);
                if let (Some(tracing), Some((frame, before))) = (&mut tracing, before) {
                    let drops = (&before, &counters.drops);
                    tracing.punted(burst, (place, reason), &frame, drops);
                }
            }
            Verdict::Drop(reason) => {
                counters.drops[reason.index()] += 1;
                ended |= 1 << place;
                if let Some(tracing) = &mut tracing {
                    let fate = Fate::Dropped(reason);
                    tracing.ended(burst, place, buffer.bytes(), fate);
                }
            }
        }
    }
    let mut refused = forwarded;
    let classes = array::from_fn(|place| burst.exits[place].queue(burst.phbs[place]));
    let lengths = array::from_fn(|place| run(burst, place, now).frame_bytes);
    // A code point has six bits, and a tag four bytes or none.
    let origins = array::from_fn(|place| {
        let dscp_and_tag = burst.dscps[place].number() | burst.exits[place].tag_bytes() << 4;
        u16::from_le_bytes([burst.ingress[place].0, dscp_and_tag])
    });
    // Strict priority's classes come in the order in which they are served.
    let mut class = least_from(0, &classes);
    while class != NO_CLASS {
        let mut members = equal_places(&classes, class) & forwarded;
        class = least_from(class + 1, &classes);
        while let Some(first) = packets_in(members).next() {
            let equal =
                equal_places(&lengths, lengths[first]) & equal_places(&origins, origins[first]);
            let others = members & !equal;
            let alike = members & first_packets(others.trailing_zeros() as usize);
            members &= !alike;
            let run = run(burst, first, now);
            debug_assert!(packets_in(alike).all(|place| self::run(burst, place, now) == run));
            let counters = &mut interfaces[burst.ingress[first].index()].counters;
            let drops = &mut counters.drops;
            let packets = alike.count_ones() as usize;
            let before = TRACED.then_some(*drops);
            let admission = queues.admit(&run, packets, drops);
            let mut admitted = scatter(admission.mask, alike);
            let frame = |place: usize| buffers[place].as_ref().map_or(&[][..], Buffer::bytes);
            if let (Some(tracing), Some(before)) = (&mut tracing, before) {
                tracing.admitted(burst, (alike, admitted), frame, (&before, &*drops));
            }
            for place in packets_in(admitted & burst.unwritten) {
                let header = Unwritten::at(burst, place);
                if !header.write(buffers[place].as_mut(), routes, drops) {
                    admitted &= !(1 << place);
                    if let (Some(tracing), Some(buffer)) = (&mut tracing, &buffers[place]) {
                        tracing.unwritten(burst, place, buffer.bytes());
                    }
                }
            }
            if let (Some(tracing), Some(waiting)) = (&mut tracing, queues.waiting(&run)) {
                let ahead = (waiting, admission.passing);
                tracing.queued(burst, &run, admitted, ahead, &buffers);
            }
            refused &= !admitted;
            if admission.is_here {
                counters.queued(run.phb, admitted.count_ones(), burst.frame_bytes[first]);
            }
            let buffers = packets_in(admitted).filter_map(|place| buffers[place].take());
            queues.enqueue(&run, admission, buffers);
        }
    }
    if refused != 0 {
        let mut dropped = ArrayVec::new();
        dropped.extend(packets_in(refused).filter_map(|place| buffers[place].take()));
        B::free_all(&mut dropped);
    }
    refused | ended
}

/// Which no queue has.
const NO_CLASS: u16 = u16::MAX;

/// The least of the classes that are not less than this one; [`NO_CLASS`], if there is none.
#[inline]
fn least_from(from: u16, classes: &[u16; BURST]) -> u16 {
    let (parts, _) = classes.as_chunks::<16>();
    let mut least = [u16::MAX - from; 16];
    for part in parts {
        for (least, class) in least.iter_mut().zip(part) {
            // Those that are less wrap, and are more than any.
            *least = (*least).min(class.wrapping_sub(from));
        }
    }
    from + least.into_iter().fold(u16::MAX - from, u16::min)
}

#[cfg(test)]
mod tests;

use std::{array, iter};

use arrayvec::ArrayVec;
use voicelane_dpdk::{BURST, equal_places, scatter};

use super::{
    Burst, Interface, Kind, Routes, Verdict,
    handover::{Outlet, Together},
    parse,
    punt::Punts,
    rewrite::rewrite,
    tag,
};
use crate::{
    counters::{DropReason, Drops},
    device::Buffer,
    diffserv::{Dscp, PhbMap, TrafficClass},
    places::{first_places, places},
    units::Ticks,
    wire::Tci,
};

/// Carries the verdicts out: each packet of the burst goes to a queue, to the kernel, or is
/// dropped and counted.
#[inline(never)]
pub(super) fn queue<B: Buffer, O: Outlet<B>>(
    burst: &mut Burst<B>,
    routes: &Routes,
    queues: &mut O,
    interfaces: &mut [Interface],
    punts: &mut Punts<B>,
    now: Ticks,
) {
    let kinds = burst.kinds.get(..burst.buffers.len()).unwrap_or_default();
    let first = kinds.first().copied().unwrap_or(Kind::NONE);
    let unlike = kinds.iter().fold(0, |bits, kind| bits | (kind.0 ^ first.0));
    if unlike == 0
        && let Some(run) = run(burst, 0, routes, now)
    {
        // As in most bursts of calls' packets.
        let drops = &mut interfaces[burst.metas[0].ingress.index()].counters.drops;
        queue_alike(burst, &run, routes, queues, drops);
    } else {
        queue_mixed(burst, routes, queues, interfaces, punts, now);
    }
    queues.flush();
}

/// Packets of one kind.
#[inline]
fn queue_alike<B: Buffer, O: Outlet<B>>(
    burst: &mut Burst<B>,
    run: &Together,
    routes: &Routes,
    queues: &mut O,
    drops: &mut Drops,
) {
    let Burst {
        buffers,
        metas,
        next_hops,
        unwritten,
        ..
    } = burst;
    if *unwritten == 0 && queues.pass(run, buffers) {
        return;
    }
    let mut dropped = ArrayVec::new();
    let refused = &mut dropped;
    queues.offer(run, buffers.len(), drops, |mut admitted, drops| {
        for place in places(admitted & *unwritten) {
            if let (Some(buffer), Some(way)) =
                (buffers.get_mut(place), routes.way(next_hops[place]))
                && let Err(reason) = rewrite(buffer, &metas[place], way)
            {
                drops[reason.index()] += 1;
                admitted &= !(1 << place);
            }
        }
        let arrived = buffers.drain(..).enumerate();
        arrived.filter_map(move |(place, buffer)| {
            if admitted >> place & 1 == 1 {
                return Some(buffer);
            }
            refused.push(buffer);
            None
        })
    });
    B::free_all(&mut dropped);
}

/// What a packet has in common with those of its kind; nothing of one that goes no further.
#[inline]
fn run<B>(burst: &Burst<B>, place: usize, routes: &Routes, now: Ticks) -> Option<Together> {
    let (kind, meta) = (burst.kinds[place], &burst.metas[place]);
    let way = routes
        .way(burst.next_hops[place])
        .filter(|_| kind != Kind::NONE)?;
    Some(Together {
        since: now,
        egress: way.port,
        phb: meta.phb,
        dscp: meta.dscp,
        frame_bytes: kind.frame_bytes(),
        ingress: Some(meta.ingress),
    })
}

/// Packets of several kinds, class by class, so that runs are long; each class's in order.
#[inline(never)]
fn queue_mixed<B: Buffer, O: Outlet<B>>(
    burst: &mut Burst<B>,
    routes: &Routes,
    queues: &mut O,
    interfaces: &mut [Interface],
    punts: &mut Punts<B>,
    now: Ticks,
) {
    let all = first_places(burst.buffers.len());
    let mut arrived = burst.buffers.drain(..);
    let mut buffers: [Option<B>; BURST] = array::from_fn(|_| arrived.next());
    drop(arrived);
    let classes = burst.kinds.map(Kind::class);
    let ended = equal_places(&classes, Kind::NONE.class()) & all;
    for place in places(ended) {
        let (Some(buffer), meta) = (buffers[place].take(), &burst.metas[place]) else {
            break;
        };
        let counters = &mut interfaces[meta.ingress.index()].counters;
        match meta.verdict {
            Verdict::Punt(reason) => punts.punt(meta.ingress, buffer, reason, counters, now),
            Verdict::Drop(reason) => counters.drops[reason.index()] += 1,
            Verdict::Forward => debug_assert!(false, "it has a way"),
        }
    }
    let mut refused = all & !ended;
    let (lengths, origins) = (
        burst.kinds.map(Kind::frame_bytes),
        burst.kinds.map(Kind::origin),
    );
    // Strict priority's classes come in the order in which they are served.
    let mut class = least_from(0, &classes);
    while class != Kind::NONE.class() {
        let mut members = equal_places(&classes, class) & all;
        class = least_from(class + 1, &classes);
        while let Some(first) = places(members).next() {
            let equal =
                equal_places(&lengths, lengths[first]) & equal_places(&origins, origins[first]);
            let others = members & !equal;
            let alike = members & first_places(others.trailing_zeros() as usize);
            members &= !alike;
            debug_assert!(places(alike).all(|place| burst.kinds[place] == burst.kinds[first]));
            let Some(run) = run(burst, first, routes, now) else {
                continue;
            };
            let drops = &mut interfaces[burst.metas[first].ingress.index()]
                .counters
                .drops;
            let packets = alike.count_ones() as usize;
            let buffers = &mut buffers;
            let refused = &mut refused;
            queues.offer(&run, packets, drops, |admitted, drops| {
                let mut admitted = scatter(admitted, alike);
                for place in places(admitted & burst.unwritten) {
                    if let (Some(buffer), Some(way)) =
                        (&mut buffers[place], routes.way(burst.next_hops[place]))
                        && let Err(reason) = rewrite(buffer, &burst.metas[place], way)
                    {
                        drops[reason.index()] += 1;
                        admitted &= !(1 << place);
                    }
                }
                *refused &= !admitted;
                places(admitted).filter_map(|place| buffers[place].take())
            });
        }
    }
    if refused != 0 {
        let mut dropped = ArrayVec::new();
        dropped.extend(places(refused).filter_map(|place| buffers[place].take()));
        B::free_all(&mut dropped);
    }
}

/// The least of the classes that are not less than this one; that of [`Kind::NONE`], if there is none.
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

/// Queues a frame that the kernel sends out of an interface of a port, on its VLAN: by its code point
/// if it is IP, as network control if not (ARP).
pub(super) fn queue_from_twin<B: Buffer, O: Outlet<B>>(
    interface: &mut Interface,
    queues: &mut O,
    phbs: &PhbMap,
    mut frame: B,
    now: Ticks,
) {
    let counters = &mut interface.counters;
    counters.twin_packets += 1;
    let class = parse::traffic_class(frame.bytes());
    let dscp = class.map_or(Dscp::CS6, TrafficClass::dscp);
    if let Some(vlan) = interface.vlan
        && let Err(reason) = tag::put(&mut frame, Tci::new(vlan, dscp))
    {
        counters.drops[reason.index()] += 1;
        return;
    }
    let run = Together {
        since: now,
        egress: interface.port,
        phb: phbs.phb(dscp),
        dscp,
        frame_bytes: u16::try_from(frame.bytes().len()).unwrap_or(u16::MAX),
        ingress: None,
    };
    let mut drops = [0; DropReason::COUNT];
    queues.offer(&run, 1, &mut drops, |admitted, _| {
        iter::once(frame).filter(move |_| admitted != 0)
    });
    // What a queue refuses it counts itself.
    let ring_full = DropReason::RingFull.index();
    counters.drops[ring_full] += drops[ring_full];
    queues.flush();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_least_class_is_found(
            some in prop::collection::vec(prop_oneof![0_u16..20, any::<u16>()], BURST),
            from in prop_oneof![0_u16..20, any::<u16>()],
        ) {
            let classes = array::from_fn(|place| some[place]);
            let least = some.into_iter().filter(|&class| class >= from).min();
            prop_assert_eq!(least_from(from, &classes), least.unwrap_or(Kind::NONE.class()));
        }
    }
}

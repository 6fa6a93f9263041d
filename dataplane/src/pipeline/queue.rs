use std::iter;

use voicelane_dpdk::{BURST, equal_places};

use super::{
    Burst, Interface, Meta, Verdict,
    handover::{Outlet, Together},
    parse,
    punt::Punts,
    tag,
};
use crate::{
    counters::DropReason,
    device::Buffer,
    diffserv::{Dscp, PhbMap, TrafficClass},
    places::{Places, first_places, places},
    units::Ticks,
    wire::Tci,
};

/// Carries the verdicts out: each packet of the burst goes to a queue, to the kernel, or is
/// dropped and counted.
#[inline(never)]
pub(super) fn queue<B: Buffer, O: Outlet<B>>(
    burst: &mut Burst<B>,
    queues: &mut O,
    interfaces: &mut [Interface],
    punts: &mut Punts<B>,
    now: Ticks,
) {
    let Burst { buffers, metas, .. } = &mut *burst;
    let mut packets = buffers.iter().zip(&*metas);
    if let Some((buffer, first)) = packets.next()
        && let kind = Kind::of(first, buffer)
        && first.is_forwarded()
        && packets.all(|(buffer, meta)| meta.is_forwarded() && Kind::of(meta, buffer) == kind)
    {
        // As in most bursts of calls' packets.
        let drops = &mut interfaces[first.ingress.index()].counters.drops;
        queues.take(kind.run(first, now), buffers.drain(..), |reason| {
            drops[reason.index()] += 1;
        });
    } else {
        queue_mixed(burst, queues, interfaces, punts, now);
    }
    queues.flush();
}

/// Packets of several kinds, class by class, so that runs are long; each class's in order.
#[inline(never)]
fn queue_mixed<B: Buffer, O: Outlet<B>>(
    burst: &mut Burst<B>,
    queues: &mut O,
    interfaces: &mut [Interface],
    punts: &mut Punts<B>,
    now: Ticks,
) {
    let metas = &burst.metas;
    let mut kinds = [Kind::default(); BURST];
    let mut classes = [0; BURST];
    let mut forwarded: Places = 0;
    let mut buffers: [Option<B>; BURST] = [const { None }; BURST];
    for (place, buffer) in burst.buffers.drain(..).enumerate() {
        let meta = &metas[place];
        let counters = &mut interfaces[meta.ingress.index()].counters;
        match meta.verdict {
            Verdict::Forward => {
                kinds[place] = Kind::of(meta, &buffer);
                classes[place] = u16::from_le_bytes([meta.egress.0, meta.phb as u8]);
                forwarded |= 1 << place;
                buffers[place] = Some(buffer);
            }
            Verdict::Punt(reason) => punts.punt(meta.ingress, buffer, reason, counters, now),
            Verdict::Drop(reason) => counters.drops[reason.index()] += 1,
        }
    }
    while let Some(first) = places(forwarded).next() {
        let mut members = equal_places(&classes, classes[first]) & forwarded;
        forwarded &= !members;
        while let Some(first) = places(members).next() {
            let kind = kinds[first];
            let other = places(members).find(|&place| kinds[place] != kind);
            let alike = other.map_or(members, |other| members & first_places(other));
            members &= !alike;
            let meta = &metas[first];
            let drops = &mut interfaces[meta.ingress.index()].counters.drops;
            let buffers = places(alike).filter_map(|place| buffers[place].take());
            queues.take(kind.run(meta, now), buffers, |reason| {
                drops[reason.index()] += 1;
            });
        }
    }
}

/// What packets of a run have in common: the way in and out, class and drop precedence, length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kind(u64);

impl Kind {
    #[inline]
    fn of<B: Buffer>(meta: &Meta, buffer: &B) -> Self {
        let frame_bytes = u16::try_from(buffer.bytes().len()).unwrap_or(u16::MAX);
        // One word, as they lie together.
        let (ingress, egress) = (meta.ingress.0, meta.egress.0);
        let ways = u32::from_ne_bytes([ingress, egress, meta.phb as u8, meta.dscp.number()]);
        Self(u64::from(ways) << 16 | u64::from(frame_bytes))
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "the length is below the rest"
    )]
    fn run(self, meta: &Meta, since: Ticks) -> Together {
        Together {
            since,
            egress: meta.egress,
            phb: meta.phb,
            dscp: meta.dscp,
            frame_bytes: self.0 as u16,
            ingress: Some(meta.ingress),
        }
    }
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
    queues.take(run, iter::once(frame), |reason| {
        // The queue itself counts what it refuses.
        if reason == DropReason::RingFull {
            counters.drops[reason.index()] += 1;
        }
    });
    queues.flush();
}

use std::iter;

use super::{
    Burst, Interface, Verdict,
    handover::{Outlet, Together},
    parse,
    punt::Punts,
    tag,
};
use crate::{
    counters::DropReason,
    device::Buffer,
    diffserv::{Dscp, PhbMap, TrafficClass},
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
    let Burst { buffers, metas, .. } = burst;
    let mut rest = metas.get(..buffers.len()).unwrap_or_default();
    let mut buffers = buffers.drain(..);
    while let Some((meta, others)) = rest.split_first() {
        rest = others;
        let drops = &mut interfaces[meta.ingress.index()].counters.drops;
        match meta.verdict {
            Verdict::Forward => {
                // Packets of one burst often go the same way, as those of calls do.
                let alike = others.iter().take_while(|other| meta.is_queued_with(other));
                let alike = alike.count();
                rest = &others[alike..];
                let run = Together {
                    since: now,
                    egress: meta.egress,
                    phb: meta.phb,
                    dscp: meta.dscp,
                    ingress: Some(meta.ingress),
                };
                queues.take(run, buffers.by_ref().take(alike + 1), |reason| {
                    drops[reason.index()] += 1;
                });
            }
            Verdict::Punt(reason) => {
                let counters = &mut interfaces[meta.ingress.index()].counters;
                if let Some(buffer) = buffers.next() {
                    punts.punt(meta.ingress, buffer, reason, counters, now);
                }
            }
            Verdict::Drop(reason) => {
                drops[reason.index()] += 1;
                drop(buffers.next());
            }
        }
    }
    queues.flush();
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

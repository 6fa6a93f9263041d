use super::{Burst, Interface, Scheduling, Verdict, parse, punt::Punts, tag};
use crate::{
    device::Buffer,
    diffserv::{Dscp, PhbMap, TrafficClass},
    units::Ticks,
    wire::Tci,
};

/// Carries the verdicts out: each packet of the burst goes to a queue, to the kernel, or is
/// dropped and counted.
#[inline(never)]
pub(super) fn queue<B: Buffer>(
    burst: &mut Burst<B>,
    queues: &mut Scheduling<B>,
    interfaces: &mut [Interface],
    punts: &mut Punts<B>,
    now: Ticks,
) {
    for (buffer, meta) in burst.buffers.drain(..).zip(burst.metas.drain(..)) {
        let dropped = match meta.verdict {
            Verdict::Forward => {
                match queues.enqueue(meta.egress, (meta.phb, meta.dscp), buffer, now) {
                    Ok(()) => continue,
                    Err(reason) => reason,
                }
            }
            Verdict::Punt(reason) => {
                let counters = &mut interfaces[meta.ingress.index()].counters;
                punts.punt(meta.ingress, buffer, reason, counters, now);
                continue;
            }
            Verdict::Drop(reason) => reason,
        };
        interfaces[meta.ingress.index()].counters.drops[dropped.index()] += 1;
    }
}

/// Queues a frame that the kernel sends out of an interface of a port, on its VLAN: by its code point
/// if it is IP, as network control if not (ARP).
pub(super) fn queue_from_twin<B: Buffer>(
    interface: &mut Interface,
    queues: &mut Scheduling<B>,
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
    // The queue counts what it refuses.
    let _ = queues.enqueue(interface.port, (phbs.phb(dscp), dscp), frame, now);
}

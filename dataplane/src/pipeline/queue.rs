use super::{Burst, Port, PortIndex, Verdict, parse, punt::Punts};
use crate::{
    counters::DropReason,
    device::Buffer,
    diffserv::{Phb, PhbMap},
    units::Ticks,
};

/// A packet that waits in a queue.
#[derive(Debug)]
pub(crate) struct Queued<B> {
    pub(crate) buffer: B,
    /// What it will take of the wire.
    pub(crate) wire_bytes: u32,
    /// When its burst came in.
    pub(crate) since: Ticks,
}

/// Carries the verdicts out: each packet of the burst goes to a queue, to the kernel, or is
/// dropped and counted.
#[inline(never)]
pub(super) fn queue<B: Buffer>(
    burst: &mut Burst<B>,
    ports: &mut [Port<B>],
    punts: &mut Punts<B>,
    now: Ticks,
) {
    let ingress = burst.ingress;
    for (buffer, meta) in burst.buffers.drain(..).zip(burst.metas.drain(..)) {
        let dropped = match meta.verdict {
            Verdict::Forward => {
                let scheduler = &mut ports[meta.egress.index()].scheduler;
                match scheduler.enqueue(meta.phb, buffer, now) {
                    Ok(()) => continue,
                    Err(_full) => DropReason::QueueFull,
                }
            }
            Verdict::Punt(reason) => {
                let counters = &mut ports[ingress.index()].counters;
                punts.punt(ingress, buffer, reason, counters, now);
                continue;
            }
            Verdict::Drop(reason) => reason,
        };
        ports[ingress.index()].counters.drops[dropped.index()] += 1;
    }
}

/// Queues a frame that the kernel sends: by its code point if it is IP, as network control if not
/// (ARP).
pub(super) fn queue_from_twin<B: Buffer>(
    ports: &mut [Port<B>],
    phbs: &PhbMap,
    egress: PortIndex,
    frame: B,
    now: Ticks,
) {
    let Some(port) = ports.get_mut(egress.index()) else {
        return;
    };
    let class = parse::traffic_class(frame.bytes());
    let phb = class.map_or(Phb::NetworkControl, |class| phbs.phb(class.dscp()));
    port.counters.twin_packets += 1;
    // A full queue counts the drop itself.
    let _ = port.scheduler.enqueue(phb, frame, now);
}

use super::{Burst, Interface, PortIndex};
use crate::{
    counters::PortCounters,
    device::{Buffer, Device},
};

/// Takes one burst from a port, and counts it there and on the port's own interface; returns how
/// many packets came.
#[inline(never)]
pub(super) fn receive<D: Device>(
    burst: &mut Burst<D::Buffer>,
    device: &mut D,
    ingress: PortIndex,
    counters: &mut PortCounters,
    interfaces: &mut [Interface],
) -> usize {
    debug_assert!(burst.buffers.is_empty());
    burst.ingress = ingress;
    device.receive(ingress, &mut burst.buffers);
    let mut bytes = 0;
    for buffer in &burst.buffers {
        buffer.prefetch();
        bytes += buffer.bytes().len() as u64;
    }
    let packets = burst.buffers.len() as u64;
    counters.rx_packets += packets;
    counters.rx_bytes += bytes;
    let own = &mut interfaces[ingress.index()].counters;
    own.rx_packets += packets;
    own.rx_bytes += bytes;
    burst.buffers.len()
}

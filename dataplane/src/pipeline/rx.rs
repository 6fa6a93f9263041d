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
    burst.port = ingress;
    device.receive(ingress, &mut burst.buffers);
    for (buffer, bytes) in burst.buffers.iter().zip(&mut burst.frame_bytes) {
        buffer.prefetch();
        *bytes = u16::try_from(buffer.bytes().len()).unwrap_or(u16::MAX);
    }
    let packets = burst.buffers.len() as u64;
    let lengths = burst.frame_bytes.iter().take(burst.buffers.len());
    let bytes: u64 = lengths.copied().map(u64::from).sum();
    counters.rx_packets += packets;
    counters.rx_bytes += bytes;
    let own = &mut interfaces[ingress.index()].counters;
    own.rx_packets += packets;
    own.rx_bytes += bytes;
    burst.buffers.len()
}

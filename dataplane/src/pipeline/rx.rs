use super::{Burst, PortIndex};
use crate::{
    counters::PortCounters,
    device::{Buffer, Device},
};

/// Takes one burst from a port; returns how many packets came.
#[inline(never)]
pub(super) fn receive<D: Device>(
    burst: &mut Burst<D::Buffer>,
    device: &mut D,
    ingress: PortIndex,
    counters: &mut PortCounters,
) -> usize {
    debug_assert!(burst.buffers.is_empty() && burst.metas.is_empty());
    burst.ingress = ingress;
    device.receive(ingress, &mut burst.buffers);
    let mut bytes = 0;
    for buffer in &burst.buffers {
        buffer.prefetch();
    }
    for buffer in &burst.buffers {
        bytes += buffer.bytes().len() as u64;
    }
    counters.rx_packets += burst.buffers.len() as u64;
    counters.rx_bytes += bytes;
    burst.buffers.len()
}

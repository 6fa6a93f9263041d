use crate::{
    device::{Buffer, Device},
    pipeline::{burst::AHEAD, burst::Burst},
    units::PortIndex,
};

/// Takes one burst from a port; returns how many packets came.
#[inline(never)]
pub(crate) fn receive<D: Device>(
    burst: &mut Burst<D::Buffer>,
    device: &mut D,
    ingress: PortIndex,
) -> usize {
    debug_assert!(burst.buffers.is_empty());
    burst.port = ingress;
    device.receive(ingress, &mut burst.buffers);
    for buffer in burst.buffers.iter().take(AHEAD) {
        buffer.prefetch();
    }
    burst.buffers.len()
}

#[cfg(test)]
mod tests;

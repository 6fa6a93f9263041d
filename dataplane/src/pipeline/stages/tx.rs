use arrayvec::ArrayVec;

use crate::{
    device::{BURST, Buffer, Device},
    stats::PortCounters,
    units::PortIndex,
};

/// Hands packets to the device; what it has no room for stays and goes first next time. Returns how
/// many it took.
#[inline(never)]
pub(crate) fn transmit<D: Device>(
    leaving: &mut ArrayVec<D::Buffer, BURST>,
    device: &mut D,
    egress: PortIndex,
    counters: &mut PortCounters,
) -> usize {
    if leaving.is_empty() {
        return 0;
    }
    let bytes = |leaving: &[D::Buffer]| -> u64 {
        leaving
            .iter()
            .map(|buffer| buffer.bytes().len() as u64)
            .sum()
    };
    let (packets_before, bytes_before) = (leaving.len(), bytes(leaving));
    device.transmit(egress, leaving);
    let sent = packets_before - leaving.len();
    counters.tx_packets += sent as u64;
    counters.tx_bytes += bytes_before - bytes(leaving);
    sent
}

#[cfg(test)]
mod tests;

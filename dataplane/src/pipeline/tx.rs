use arrayvec::ArrayVec;
use voicelane_dpdk::BURST;

use crate::{
    counters::PortCounters,
    device::{Buffer, Device},
    units::PortIndex,
};

/// Hands packets to the device; what it has no room for stays and goes first next time. Returns how
/// many it took.
#[inline]
pub(super) fn transmit<D: Device>(
    leaving: &mut ArrayVec<D::Buffer, BURST>,
    device: &mut D,
    egress: PortIndex,
    counters: &mut PortCounters,
) -> usize {
    if leaving.is_empty() {
        return 0;
    }
    let lengths: ArrayVec<u64, BURST> = leaving
        .iter()
        .map(|buffer| buffer.bytes().len() as u64)
        .collect();
    device.transmit(egress, leaving);
    let sent = lengths.len() - leaving.len();
    counters.tx_packets += sent as u64;
    counters.tx_bytes += lengths.iter().take(sent).sum::<u64>();
    sent
}

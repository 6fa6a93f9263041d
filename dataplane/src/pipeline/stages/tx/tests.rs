use super::super::testing::{Around, ipv4, ipv6};
use super::*;
use crate::{device::SimDevice, diffserv::Dscp, units::TickRate};

#[test]
fn what_the_device_takes_is_counted_and_the_rest_stays() {
    let around = Around::new();
    let mut device = SimDevice::new(1, TickRate::from_hz(1));
    let mut counters = PortCounters::default();
    let mut leaving = around.burst(&[ipv4(Dscp::DF), ipv6()]).buffers;
    device.block(PortIndex(0), true);
    let mut send = |device: &mut SimDevice, leaving: &mut ArrayVec<_, BURST>| {
        let sent = transmit(leaving, device, PortIndex(0), &mut counters);
        (sent, counters.tx_packets, counters.tx_bytes)
    };
    assert_eq!(send(&mut device, &mut leaving), (0, 0, 0));
    assert_eq!(leaving.len(), 2);
    device.block(PortIndex(0), false);
    assert_eq!(send(&mut device, &mut leaving), (2, 2, 62 + 82));
    assert_eq!(send(&mut device, &mut leaving), (0, 2, 62 + 82));
    assert_eq!(device.take_sent(PortIndex(0)).len(), 2);
}

use super::super::testing::{Around, ipv4};
use super::*;
use crate::{
    device::{BURST, SimDevice},
    diffserv::Dscp,
    units::TickRate,
};

#[test]
fn a_burst_is_taken_and_the_rest_waits() {
    let around = Around::new();
    let mut device = SimDevice::new(2, TickRate::from_hz(1));
    for _ in 0..BURST + 3 {
        device.deliver(PortIndex(1), around.pool.frame(ipv4(Dscp::DF)));
    }
    let mut burst = Burst::new();
    assert_eq!(receive(&mut burst, &mut device, PortIndex(0)), 0);
    assert_eq!(receive(&mut burst, &mut device, PortIndex(1)), BURST);
    assert_eq!((burst.port, burst.buffers.len()), (PortIndex(1), BURST));
    burst.buffers.clear();
    assert_eq!(receive(&mut burst, &mut device, PortIndex(1)), 3);
    assert_eq!(around.pool.in_use(), 3);
}

use super::super::testing::{Around, CLOCK_HZ, flow4, flow6, ipv4, ipv6, policy};
use super::*;
use crate::{
    diffserv::Dscp,
    units::{InterfaceIndex, TickRate},
};

fn classified(around: &mut Around, frames: &[Vec<u8>], on: u8) -> Burst<crate::device::SimBuffer> {
    let mut burst = around.parsed(frames);
    let on = InterfaceIndex(on);
    burst.ingress.fill(on);
    burst.origins.fill(around.interfaces[on.index()].origin);
    let mut parts = Fragments::new(TickRate::from_hz(CLOCK_HZ), [7; 4]);
    let sessions = (&mut around.sessions, &mut parts);
    classify(
        &mut burst,
        sessions,
        &policy(),
        &mut around.interfaces,
        Ticks(0),
    );
    burst
}

#[test]
fn what_has_a_session_is_found_and_the_rest_has_the_interfaces_trust() {
    let mut around = Around::new();
    around.admit(flow4());
    around.admit(flow6());
    let other = [&ipv4(Dscp::EF)[..36], &[1, 1], &ipv4(Dscp::EF)[38..]].concat();
    let burst = classified(&mut around, &[ipv4(Dscp::EF), other, ipv6()], 0);
    assert_eq!((burst.sessions.ipv4, burst.sessions.ipv6), (0b001, 0b100));
    assert_eq!(burst.dscps[1], Dscp::DF, "bleached");
    assert_eq!(around.interfaces[0].counters.bleached_packets, 1);
    assert_eq!(around.interfaces[0].senders.iter().count(), 1);
}

#[test]
fn a_core_interface_keeps_code_points() {
    let mut around = Around::new();
    let burst = classified(&mut around, &[ipv4(Dscp::EF)], 1);
    assert_eq!(burst.dscps[0], Dscp::EF);
    assert_eq!(around.interfaces[1].counters.bleached_packets, 0);
}

#[test]
fn a_sessions_five_tuple_from_elsewhere_has_no_session_and_is_counted() {
    let mut around = Around::new();
    around.admit(flow4());
    let burst = classified(&mut around, &[ipv4(Dscp::EF)], 2);
    assert_eq!((burst.sessions.all(), burst.sessions.spoofed), (0, 1));
    assert_eq!(burst.dscps[0], Dscp::DF);
    assert_eq!(around.interfaces[2].counters.spoofed_packets, 1);
    let counters = around.sessions.counters(&flow4()).unwrap();
    assert_eq!(
        (counters.spoofed_packets, counters.spoofed_on),
        (1, Some(InterfaceIndex(2)))
    );
}

//! Interfaces that change while the worker runs: set down, not forwarding, of another MTU, with other
//! addresses.

use arrayvec::ArrayVec;

use crate::common::*;
use voicelane_dataplane::{
    Adjacency,
    control::{Answer, Request},
    settings::{InterfaceState, Trust},
    stats::{DropReason, PuntReason},
    units::{InterfaceIndex, MacAddress},
};

const VIRTUAL: MacAddress = MacAddress([0, 0, 0x5e, 0, 1, 1]);

fn set(rig: &mut Rig, interface: u8, change: impl FnOnce(&mut InterfaceState)) {
    let mac = if interface == 1 { CORE_MAC } else { EDGE_MAC };
    let mut state = InterfaceState::new(mac, 1500);
    change(&mut state);
    let answer = rig.ask(Request::SetInterface {
        interface: InterfaceIndex(interface),
        state: Box::new(state),
    });
    assert!(matches!(answer, Answer::Interface), "{answer:?}");
}

/// The edge port has VLAN 100 as interface 2.
fn rig() -> Rig {
    let mut settings = settings("10Gbit/s");
    settings.ports[0].vlans = vec![vlan(100, Trust::Bleach), vlan(200, Trust::Keep)];
    settings.ports[1].vlans = vec![vlan(300, Trust::Keep)];
    let mut rig = Rig::new(&settings);
    route_to_vlans(&mut rig);
    rig
}

/// A packet of each family, on the port and on its VLAN.
fn packets() -> [(Vec<u8>, u8); 4] {
    let v4 = Udp::new(HOST, FAR, 4000, 172).frame();
    let v6 = Udp6::new(HOST6, FAR6, 4000, 172).frame();
    let on_vlan = |frame: &[u8]| tagged(frame, 100);
    let [vlan4, vlan6] = [on_vlan(&v4), on_vlan(&v6)];
    [(v4, 0), (v6, 0), (vlan4, 2), (vlan6, 2)]
}

#[test]
fn what_comes_in_on_an_interface_that_is_down_is_dropped() {
    let mut rig = rig();
    for down in [0, 2] {
        set(&mut rig, down, |state| state.up = false);
        for (frame, interface) in packets() {
            let dropped = |rig: &mut Rig| {
                let interface = &rig.report().interfaces[usize::from(interface)];
                interface.drops[DropReason::InterfaceDown.index()]
            };
            let before = dropped(&mut rig);
            assert_eq!(rig.forward(&frame).is_none(), interface == down);
            let expected = u64::from(interface == down);
            assert_eq!(dropped(&mut rig) - before, expected);
            let counters = &rig.report().interfaces[usize::from(interface)];
            assert!(counters.rx_packets > 0, "counted where it came in");
        }
        rig.twins.from_worker.try_iter().for_each(drop);
        let arp = [&[0xff; 6][..], &HOST_MAC.0, &[8, 6], &[0; 46]].concat();
        let expected = (down == 0).then_some(DropReason::InterfaceDown);
        assert_eq!(rig.dropped_for(&arp), expected, "for the kernel, too");
        set(&mut rig, down, |_| {});
    }
    for (frame, _) in packets() {
        assert!(rig.forward(&frame).is_some());
    }
    rig.twins.from_worker.try_iter().for_each(drop);
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn an_interface_that_does_not_forward_hears_what_is_for_the_router() {
    let mut rig = rig();
    let own = Udp::new(HOST, OWN, 4000, 172).frame();
    let expired = Udp {
        ttl: 1,
        ..Udp::new(HOST, FAR, 4000, 172)
    }
    .frame();
    let unknown = Udp::new(HOST, [99, 0, 0, 1].into(), 4000, 172).frame();
    set(&mut rig, 0, |state| state.forwards_ipv4 = false);
    for frame in [&packets()[0].0, &expired, &unknown] {
        assert_eq!(rig.dropped_for(frame), Some(DropReason::ForwardingOff));
    }
    assert_eq!(rig.punted_for(&own), Some(PuntReason::Local));
    for (frame, _) in &packets()[1..] {
        assert!(rig.forward(frame).is_some(), "another family or interface");
    }
    set(&mut rig, 0, |state| state.forwards_ipv6 = false);
    assert_eq!(
        rig.dropped_for(&packets()[1].0),
        Some(DropReason::ForwardingOff)
    );
    assert!(rig.forward(&packets()[0].0).is_some());
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn an_mtu_that_changes_holds_for_routes_that_there_are() {
    let mut rig = rig();
    let frame = Udp::of_frame(FAR, 4000, 1414).frame();
    assert!(rig.forward(&frame).is_some());
    set(&mut rig, 1, |state| state.mtu = 1300);
    assert_eq!(rig.punted_for(&frame), Some(PuntReason::Oversize));
    let to_vlan = Udp::of_frame(FAR_VLAN, 4000, 1414).frame();
    assert!(rig.forward(&to_vlan).is_some(), "VLAN 300 keeps its own");
    set(&mut rig, 1, |_| {});
    assert!(rig.forward(&frame).is_some());

    // A route's own is the least.
    let narrow = Adjacency::Narrow {
        interface: InterfaceIndex(1),
        destination: PEER_MAC,
        source: CORE_MAC,
        mtu: 1350,
    };
    rig.route(70, narrow, "10.70.0.0", 16);
    let frame = |bytes: usize| Udp::of_frame([10, 70, 0, 1].into(), 4000, 14 + bytes).frame();
    let longest = |rig: &mut Rig, mtu: usize| {
        assert!(rig.forward(&frame(mtu)).is_some());
        assert_eq!(rig.punted_for(&frame(mtu + 1)), Some(PuntReason::Oversize));
    };
    longest(&mut rig, 1350);
    set(&mut rig, 1, |state| state.mtu = 1300);
    longest(&mut rig, 1300);
    set(&mut rig, 1, |_| {});
    longest(&mut rig, 1350);
}

#[test]
fn frames_to_each_of_an_interfaces_addresses_are_for_the_router() {
    let mut rig = rig();
    let to = |frame: &[u8], mac: MacAddress| [&mac.0[..], &frame[6..]].concat();
    let (untagged, _) = &packets()[0];
    let dropped = rig.dropped_for(&to(untagged, VIRTUAL));
    assert_eq!(dropped, Some(DropReason::NotForUs));
    let macs = |own| ArrayVec::from_iter([own, VIRTUAL]);
    set(&mut rig, 0, |state| state.macs = macs(EDGE_MAC));
    for (frame, interface) in packets() {
        let went = rig.forward(&to(&frame, VIRTUAL)).is_some();
        assert_eq!(went, interface == 0);
        assert!(rig.forward(&frame).is_some(), "the own one");
    }
    // Another one of its own.
    set(&mut rig, 0, |state| {
        state.macs = macs(MacAddress([2, 7, 7, 7, 7, 7]))
    });
    for (frame, interface) in packets() {
        assert_eq!(rig.forward(&frame).is_some(), interface != 0);
        let frame = to(&frame, MacAddress([2, 7, 7, 7, 7, 7]));
        assert_eq!(rig.forward(&frame).is_some(), interface == 0);
    }
    assert_eq!(rig.pool.in_use(), 0);
}

//! VLANs: tags that come and go, interfaces that are each their own, and what is wrong with tags.

use std::net::Ipv4Addr;

use crate::common::*;
use voicelane_dataplane::{
    Adjacency,
    control::{Answer, NextHop, Request, RouteError},
    device::Buffer as _,
    diffserv::Phb,
    session::{EntrySpec, Ingress},
    settings::Trust,
    stats::{DropReason, PuntReason},
    units::{InterfaceIndex, MacAddress},
};

/// The edge port has VLANs 100, which is not trusted, and 200, which is; the core port has 300.
fn vlan_rig() -> Rig {
    rig_with_mtu(1500)
}

/// The same with another MTU on VLAN 300.
fn rig_with_mtu(mtu: u16) -> Rig {
    let mut settings = settings("10Gbit/s");
    settings.ports[0].vlans = vec![vlan(100, Trust::Bleach), vlan(200, Trust::Keep)];
    settings.ports[1].vlans = vec![vlan(300, Trust::Keep)];
    settings.ports[1].vlans[0].mtu = mtu;
    let mut rig = Rig::new(&settings);
    route_to_vlans(&mut rig);
    rig
}

/// What a frame is dropped for, and the interface that counts it.
fn dropped(rig: &mut Rig, frame: &[u8]) -> Option<(InterfaceIndex, DropReason)> {
    let before = rig.report().interfaces;
    rig.deliver(EDGE, frame);
    rig.turn();
    let after = rig.report().interfaces;
    let each = (0..).map(InterfaceIndex).zip(before.iter().zip(&after));
    each.flat_map(|(index, (before, after))| {
        DropReason::ALL
            .iter()
            .filter(|reason| after.drops[reason.index()] > before.drops[reason.index()])
            .map(move |&reason| (index, reason))
    })
    .next()
}

#[test]
fn tags_come_and_go_in_every_combination() {
    let mut rig = vlan_rig();
    let v4 = |destination| Udp::new(HOST, destination, 4000, 172).frame();
    let v6 = |destination| Udp6::new(HOST6, destination, 4000, 172).frame();
    let mut options = Udp::new(HOST, FAR, 4000, 172);
    options.options = vec![1; 8];
    let mut options_on_vlan = options.clone();
    options_on_vlan.destination = FAR_VLAN;
    for (frame, to_vlan) in [
        (v4(FAR), false),
        (v6(FAR6), false),
        (options.frame(), false),
        (v4(FAR_VLAN), true),
        (v6(FAR_VLAN6), true),
        (options_on_vlan.frame(), true),
    ] {
        let plain = rig.forward(&frame).unwrap();
        let untagged = if to_vlan {
            assert_eq!(plain[12..16], [0x81, 0, 0x01, 0x2c], "VLAN 300, priority 0");
            [&plain[..12], &plain[16..]].concat()
        } else {
            plain.clone()
        };
        assert_eq!(untagged.len(), frame.len());
        assert_eq!(untagged[..6], PEER_MAC.0);
        assert_eq!(untagged[6..14], [&CORE_MAC.0[..], &frame[12..14]].concat());
        for tci in [100, 200, 0, 0xe000, 0x1000 | 100] {
            let went = rig.forward(&tagged(&frame, tci));
            assert_eq!(went.as_ref(), Some(&plain), "the same as without {tci:04x}");
        }
    }
    // And out of the port that it came in on, on another VLAN.
    let back = Udp::new(FAR, NEAR_VLAN, 4000, 172).frame();
    rig.deliver(EDGE, &tagged(&back, 200));
    rig.turn();
    let (_, went) = rig.sent(EDGE).pop().unwrap();
    assert_eq!(went[12..18], [0x81, 0, 0, 100, 8, 0]);
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn each_interface_counts_what_came_in_on_it() {
    let mut rig = vlan_rig();
    let frame = Udp::new(HOST, FAR, 4000, 172).frame();
    let length = frame.len() as u64;
    for (tci, times) in [
        (None, 1),
        (Some(100), 2),
        (Some(200), 3),
        (Some(0), 4),
        (Some(101), 5),
    ] {
        for _ in 0..times {
            let frame = tci.map_or_else(|| frame.clone(), |tci| tagged(&frame, tci));
            rig.deliver(EDGE, &frame);
        }
    }
    rig.turn();
    let report = rig.report();
    let counted: Vec<_> = report
        .interfaces
        .iter()
        .map(|interface| (interface.rx_packets, interface.rx_bytes))
        .collect();
    let own = (10, length + 9 * (length + 4));
    let vlan = |packets| (packets, packets * (length + 4));
    assert_eq!(counted, [own, (0, 0), vlan(2), vlan(3), (0, 0)]);
    assert_eq!(report.ports[0].port.rx_packets, 15);
    assert_eq!(report.ports[0].port.rx_bytes, 15 * length + 14 * 4);
}

/// RFC 8325 section 4.3, RFC 8622; the rest goes as default forwarding does.
#[test]
fn the_priority_is_the_code_points() {
    let mut rig = vlan_rig();
    for dscp in 0..64_u8 {
        let priority: u16 = match dscp {
            48 | 56 => 7,
            46 | 44 => 6,
            40 => 5,
            34 | 36 | 38 | 32 | 26 | 28 | 30 | 24 => 4,
            18 | 20 | 22 => 3,
            8 | 1 => 1,
            _ => 0,
        };
        let mut call = Udp::new(HOST, FAR_VLAN, 4000, 172);
        call.tos = dscp << 2 | 1;
        let mut call6 = Udp6::new(HOST6, FAR_VLAN6, 4000, 172);
        call6.class = call.tos;
        for frame in [call.frame(), call6.frame()] {
            let went = rig.forward(&tagged(&frame, 200)).unwrap();
            let tci = u16::from_be_bytes([went[14], went[15]]);
            assert_eq!(tci, priority << 13 | 300, "code point {dscp}");
        }
    }
}

/// What somebody writes into a tag buys nothing, and what is bleached has no priority either.
#[test]
fn trust_is_the_vlans_own() {
    let mut rig = vlan_rig();
    let mut packet = Udp::new(HOST, FAR_VLAN, 4000, 172);
    packet.tos = 0xb9;
    let frame = packet.frame();
    let mut outcome = |tci| {
        let went = rig.forward(&tagged(&frame, tci)).unwrap();
        (went[14] >> 5, went[19])
    };
    assert_eq!(outcome(100), (0, 1), "not trusted");
    assert_eq!(outcome(200), (6, 0xb9), "trusted");
    assert_eq!(outcome(0), (0, 1), "the port's own, not trusted");
    assert_eq!(
        outcome(0xe000 | 100),
        (0, 1),
        "a priority is not a code point"
    );
    let report = rig.report();
    let bleached: Vec<_> = report
        .interfaces
        .iter()
        .map(|interface| interface.bleached_packets)
        .collect();
    assert_eq!(bleached, [1, 0, 2, 0, 0]);
    let queues = &report.ports[1].queues;
    assert_eq!(queues[Phb::Telephony.index()].sent_packets, 1);
    assert_eq!(queues[Phb::Standard.index()].sent_packets, 3);
}

#[test]
fn a_session_is_known_on_its_vlan() {
    let mut rig = vlan_rig();
    let call = Udp::new(HOST, FAR_VLAN, 4000, 172);
    let call6 = Udp6::new(HOST6, FAR_VLAN6, 4000, 172);
    for (tci, ingress) in [
        (100, Ingress::Interface(EDGE_100)),
        (200, Ingress::Core),
        (0, Ingress::Interface(EDGE.into())),
    ] {
        let sessions = [
            call.session("800kbit/s", 10_000),
            call6.session("800kbit/s", 10_000),
        ];
        rig.install(sessions.map(|spec| EntrySpec { ingress, ..spec }).into());
        for (frame, class) in [(call.frame(), [0x45, 0xb8]), (call6.frame(), [0x6b, 0x8a])] {
            let went = rig.forward(&tagged(&frame, tci)).unwrap();
            assert_eq!(went[14..16], [0xc1, 0x2c], "priority 6");
            assert_eq!(went[18..20], class);
        }
    }
    let flows = vec![call.flow(), call6.flow()];
    let Answer::Flows(flows) = rig.ask(Request::ReadFlows(flows)) else {
        panic!("an answer of another kind")
    };
    let counted = flows.iter().map(|flow| flow.unwrap().counters);
    let counted: Vec<_> = counted.map(|flow| (flow.packets, flow.bytes)).collect();
    assert_eq!(counted, [(3, 600), (3, 660)], "bytes of IP, without tags");
}

#[test]
fn wrong_tags_are_dropped_where_they_came_in() {
    let mut rig = vlan_rig();
    let own = InterfaceIndex::from(EDGE);
    let frame = Udp::new(HOST, FAR, 4000, 172).frame();
    let mut service = tagged(&tagged(&frame, 100), 100);
    service[12..14].copy_from_slice(&[0x88, 0xa8]);
    let mut service_inside = tagged(&tagged(&frame, 7), 100);
    service_inside[16..18].copy_from_slice(&[0x88, 0xa8]);
    let mut other = tagged(&frame, 100);
    other[5] = 9;
    for (frame, interface, reason) in [
        (tagged(&frame, 101), own, DropReason::UnknownVlan),
        (tagged(&frame, 300), own, DropReason::UnknownVlan),
        (tagged(&frame, 0xefff), own, DropReason::UnknownVlan),
        (
            tagged(&tagged(&frame, 100), 100),
            EDGE_100,
            DropReason::DoubleTagged,
        ),
        (
            tagged(&tagged(&frame, 100), 0),
            own,
            DropReason::DoubleTagged,
        ),
        (
            tagged(&tagged(&frame, 100), 101),
            own,
            DropReason::UnknownVlan,
        ),
        (service, own, DropReason::DoubleTagged),
        (service_inside, EDGE_100, DropReason::DoubleTagged),
        (tagged(&frame, 100)[..14].to_vec(), own, DropReason::Runt),
        (tagged(&frame, 100)[..15].to_vec(), own, DropReason::Runt),
        (tagged(&frame, 100)[..17].to_vec(), own, DropReason::Runt),
        (
            tagged(&frame, 100)[..18].to_vec(),
            EDGE_100,
            DropReason::Ipv4Truncated,
        ),
        (
            tagged(&frame, 100)[..50].to_vec(),
            EDGE_100,
            DropReason::Ipv4TotalLength,
        ),
        (other, EDGE_100, DropReason::NotForUs),
    ] {
        assert_eq!(
            dropped(&mut rig, &frame),
            Some((interface, reason)),
            "{frame:02x?}"
        );
    }
    assert!(rig.sent(CORE).is_empty() && rig.sent(EDGE).is_empty());
    assert_eq!(rig.pool.in_use(), 0);
}

/// A NIC, or the kernel below one, may take the tag off and say so beside the frame.
#[test]
fn a_tag_that_the_device_took_counts_as_one() {
    let mut rig = vlan_rig();
    let mut packet = Udp::new(HOST, FAR, 4000, 172);
    packet.tos = 0xb8;
    let frame = packet.frame();
    for (tci, goes) in [
        (0x6000 | 100, Some(0)),
        (200, Some(0xb8)),
        (0xe000, Some(0)),
        (101, None),
    ] {
        let buffer = rig.pool.frame(frame.clone()).with_stripped_vlan(tci);
        rig.deliver_buffer(EDGE, buffer);
        rig.turn();
        let went = rig.sent(CORE).pop();
        assert_eq!(went.map(|(_, frame)| frame[15]), goes, "{tci:04x}");
    }
    let double = rig.pool.frame(tagged(&frame, 100)).with_stripped_vlan(200);
    rig.deliver_buffer(EDGE, double);
    let interfaces = rig.report().interfaces;
    assert_eq!(interfaces[0].drops[DropReason::UnknownVlan.index()], 1);
    let double = DropReason::DoubleTagged.index();
    assert_eq!(interfaces[EDGE_200.index()].drops[double], 1);
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn the_kernel_gets_what_came_on_a_vlan_from_its_twin_without_the_tag() {
    let mut rig = vlan_rig();
    let mut arp = Udp::new(HOST, FAR, 4000, 20).frame();
    arp[..6].fill(0xff);
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut multicast = Udp::new(HOST, [224, 0, 0, 5].into(), 1, 20);
    multicast.mac = MacAddress([1, 0, 0x5e, 0, 0, 5]);
    let mut expired = Udp::new(HOST, FAR_VLAN, 1, 20);
    expired.ttl = 1;
    for (reason, frame) in [
        (PuntReason::Arp, arp),
        (PuntReason::Group, multicast.frame()),
        (PuntReason::TtlExpired, expired.frame()),
        (PuntReason::Local, Udp::new(HOST, OWN, 1, 20).frame()),
    ] {
        for (tci, interface) in [(100, EDGE_100), (200, EDGE_200), (0, EDGE.into())] {
            rig.deliver(EDGE, &tagged(&frame, tci));
            rig.turn();
            let (came_in, punted) = rig.twins.from_worker.try_recv().unwrap();
            assert_eq!((came_in, punted.bytes()), (interface, frame.as_slice()));
            drop(punted);
            let punts = rig.report().interfaces[interface.index()].punts;
            assert_eq!(punts[reason.index()], 1);
        }
    }
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn what_the_kernel_sends_on_a_vlan_is_tagged() {
    let mut rig = vlan_rig();
    let mut routing = Udp::new(OWN, FAR, 520, 20);
    routing.tos = 0xc0;
    let plain = Udp::new(OWN, FAR, 4000, 20).frame();
    let mut arp = plain.clone();
    arp[12..14].copy_from_slice(&[8, 6]);
    for (frame, tci) in [
        (routing.frame(), 0xe000 | 300),
        (plain.clone(), 300),
        (arp, 0xe000 | 300), // as network control
    ] {
        let sent = (CORE_300, rig.pool.frame(frame.clone()));
        rig.twins.to_worker.try_send(sent).unwrap();
        rig.turn();
        let (_, went) = rig.sent(CORE).pop().unwrap();
        assert_eq!(went, tagged(&frame, tci));
    }
    // What cannot be tagged is no frame that a kernel sends.
    let (short, cramped) = (
        rig.pool.frame([0; 11]),
        rig.pool.frame(plain).with_headroom(3),
    );
    for frame in [short, cramped] {
        rig.twins.to_worker.try_send((CORE_300, frame)).unwrap();
    }
    rig.turn();
    assert!(rig.sent(CORE).is_empty());
    let counters = &rig.report().interfaces[CORE_300.index()];
    assert_eq!(counters.twin_packets, 5);
    assert_eq!(counters.drops[DropReason::Runt.index()], 1);
    assert_eq!(counters.drops[DropReason::NoHeadroom.index()], 1);
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn a_frame_without_room_for_its_tag_is_dropped_and_counted() {
    let mut rig = vlan_rig();
    let frame = Udp::new(HOST, FAR_VLAN, 4000, 172).frame();
    let mut went = |frame: Vec<u8>, headroom| {
        let buffer = rig.pool.frame(frame).with_headroom(headroom);
        rig.deliver_buffer(EDGE, buffer);
        rig.turn();
        rig.sent(CORE).len()
    };
    assert_eq!(went(frame.clone(), 3), 0);
    assert_eq!(went(frame.clone(), 4), 1);
    assert_eq!(
        went(tagged(&frame, 200), 0),
        1,
        "a tag that goes leaves room"
    );
    let drops = rig.report().interfaces[0].drops;
    assert_eq!(drops[DropReason::NoHeadroom.index()], 1);
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn a_vlan_has_its_own_mtu() {
    let mut rig = rig_with_mtu(1400);
    let of_ip_bytes =
        |destination: Ipv4Addr, bytes: usize| Udp::new(HOST, destination, 4000, bytes - 28).frame();
    let went = rig.forward(&of_ip_bytes(FAR_VLAN, 1400)).unwrap();
    assert_eq!(went.len(), 1400 + 18, "a tag does not count");
    let too_long = of_ip_bytes(FAR_VLAN, 1401);
    assert_eq!(rig.punted_for(&too_long), Some(PuntReason::Oversize));
    assert!(rig.forward(&of_ip_bytes(FAR, 1500)).is_some());
}

/// Twice the shaper's rate for a second: what goes is the rate, tags included.
#[test]
fn tags_are_counted_on_the_wire() {
    let mut settings = settings("10Mbit/s");
    settings.ports[1].vlans = vec![vlan(300, Trust::Keep)];
    settings.ports[0].vlans = vec![vlan(100, Trust::Bleach), vlan(200, Trust::Keep)];
    let mut rig = Rig::new(&settings);
    route_to_vlans(&mut rig);
    let frame = Udp::of_frame(FAR_VLAN, 4000, 96).frame(); // 100 with a tag, 124 on the wire
    for step in 0..20_000_u64 {
        rig.advance_to(step * 50_000);
        rig.deliver(EDGE, &frame);
        rig.turn();
    }
    let sent = rig.sent(CORE);
    assert!(sent.iter().all(|(_, frame)| frame.len() == 100));
    let report = rig.report();
    let queue = &report.ports[1].queues[Phb::Standard.index()];
    assert_eq!(queue.sent_bytes, sent.len() as u64 * 124);
    let in_a_second = 10_000_000 / 8 / 124;
    assert!(
        sent.len().abs_diff(in_a_second) <= 12,
        "{} sent",
        sent.len()
    );
    assert_eq!(report.ports[1].port.tx_bytes, sent.len() as u64 * 100);
}

#[test]
fn a_way_out_of_no_interface_is_refused() {
    let mut rig = vlan_rig();
    let adjacency = Adjacency::Forward {
        interface: InterfaceIndex(5),
        destination: PEER_MAC,
        source: CORE_MAC,
    };
    let answer = rig.ask(Request::SetAdjacency {
        next_hop: NextHop(9),
        adjacency,
    });
    assert!(matches!(
        answer,
        Answer::Route(Err(RouteError::Interface(5)))
    ));
    let stray = (InterfaceIndex(5), rig.pool.frame([0; 60]));
    rig.twins.to_worker.try_send(stray).unwrap();
    rig.turn();
    assert_eq!(rig.pool.in_use(), 0);
}

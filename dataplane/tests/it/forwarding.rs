//! What becomes of single packets: forwarded right, dropped for a reason, or given to the kernel.

mod fragments;
mod interfaces;
mod ipv6;
mod multipath;
mod reverse_path;
mod trailers;
mod unusual;
mod vlan;

use crate::common::*;
use voicelane_dataplane::{
    control::{Answer, NextHop, Request},
    diffserv::{Dscp, Phb},
    session::SessionChange,
    stats::{DropReason, PuntReason},
    units::MacAddress,
};

#[test]
fn a_forwarded_packet_is_readdressed_and_its_checksum_right() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let came = Udp::new(HOST, FAR, 4000, 160).frame();
    let went = rig.forward(&came).unwrap();
    assert_eq!(went[..6], PEER_MAC.0);
    assert_eq!(went[6..12], CORE_MAC.0);
    assert_eq!(went[22], 63, "one off the TTL");
    assert_eq!(u16::from_be_bytes([went[24], went[25]]), checksum(&went));
    let others = |frame: &[u8]| [&frame[12..22], &frame[23..24], &frame[26..]].concat();
    assert_eq!(others(&went), others(&came), "nothing else changed");
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn options_that_ask_nothing_and_tcp_are_forwarded() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let mut packet = Udp::new(HOST, FAR, 4000, 40);
    packet.options = vec![1, 1, 1, 0, 7, 7, 4, 0]; // space, and behind its end what it may
    let went = rig.forward(&packet.frame()).unwrap();
    assert_eq!(u16::from_be_bytes([went[24], went[25]]), checksum(&went));
    packet.protocol = 6;
    assert!(rig.forward(&packet.frame()).is_some());
}

/// RFC 1812 section 5.2.2 and its company: each fault its own reason.
#[test]
fn each_fault_has_its_reason() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let good = Udp::new(HOST, FAR, 4000, 160);
    let frame = good.frame();
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.frame();
        edit(&mut frame);
        frame
    };
    let refixed = |at: usize, value: u8| {
        let mut frame = good.frame();
        frame[at] = value;
        fix_checksum(&mut frame);
        frame
    };
    let addressed = |source: [u8; 4], destination: [u8; 4]| {
        Udp::new(source.into(), destination.into(), 4000, 160).frame()
    };
    let own = HOST.octets();
    for (reason, frame) in [
        (DropReason::Runt, frame[..13].to_vec()),
        (DropReason::Runt, vec![]),
        (DropReason::NotForUs, edited(&|f| f[5] = 9)),
        (DropReason::Ipv4Truncated, frame[..33].to_vec()),
        (DropReason::Ipv4Checksum, edited(&|f| f[24] ^= 1)),
        (DropReason::Ipv4Version, refixed(14, 0x55)),
        (DropReason::Ipv4HeaderLength, edited(&|f| f[14] = 0x44)),
        (
            DropReason::Ipv4HeaderLength,
            edited(&|f| {
                f[14] = 0x4f;
                f.truncate(14 + 40);
            }),
        ),
        (
            DropReason::Ipv4TotalLength,
            edited(&|f| f.truncate(14 + 187)),
        ),
        (DropReason::Ipv4TotalLength, refixed(17, 19)),
        (
            DropReason::MartianSource,
            addressed([127, 0, 0, 1], FAR.octets()),
        ),
        (
            DropReason::MartianSource,
            addressed([224, 0, 0, 1], FAR.octets()),
        ),
        (
            DropReason::MartianSource,
            addressed([255, 255, 255, 255], FAR.octets()),
        ),
        (
            DropReason::MartianSource,
            addressed([0, 0, 0, 0], FAR.octets()),
        ),
        (
            DropReason::MartianSource,
            addressed([240, 0, 0, 1], [224, 0, 0, 5]),
        ),
        (
            DropReason::MartianDestination,
            addressed(own, [127, 0, 0, 1]),
        ),
        (DropReason::MartianDestination, addressed(own, [0, 0, 0, 0])),
        (
            DropReason::MartianDestination,
            addressed(own, [250, 0, 0, 1]),
        ),
        (DropReason::LinkGroupUnicast, edited(&|f| f[..6].fill(0xff))),
        (DropReason::Blackhole, addressed(own, [10, 4, 0, 1])),
    ] {
        // A total length of 19 needs the upper byte gone, too.
        let frame = if reason == DropReason::Ipv4TotalLength && frame.len() > 201 {
            let mut frame = frame;
            frame[16] = 0;
            fix_checksum(&mut frame);
            frame
        } else {
            frame
        };
        assert_eq!(rig.dropped_for(&frame), Some(reason), "{frame:02x?}");
    }
    assert!(rig.sent(CORE).is_empty());
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn the_kernel_gets_what_is_its_own() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let to = |destination: [u8; 4]| Udp::new(HOST, destination.into(), 4000, 160);
    let mut expired = to(FAR.octets());
    expired.ttl = 1;
    let mut expired_unresolved = to([10, 3, 0, 1]);
    expired_unresolved.ttl = 1;
    let mut own_expired = to(OWN.octets());
    own_expired.ttl = 1;
    let mut arp = to(FAR.octets()).frame();
    arp[..6].fill(0xff);
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut multicast = to([224, 0, 0, 5]);
    multicast.mac = MacAddress([1, 0, 0x5e, 0, 0, 5]);
    let mut dhcp = Udp::new([0, 0, 0, 0].into(), [255; 4].into(), 67, 300);
    dhcp.mac = MacAddress([0xff; 6]);
    for (reason, frame) in [
        (PuntReason::Arp, arp),
        (PuntReason::Group, multicast.frame()),
        (PuntReason::Group, dhcp.frame()),
        (PuntReason::Local, to(OWN.octets()).frame()),
        (PuntReason::Local, own_expired.frame()),
        (PuntReason::TtlExpired, expired.frame()),
        (PuntReason::TtlExpired, expired_unresolved.frame()),
        (PuntReason::NoRoute, to([192, 0, 2, 1]).frame()),
        (PuntReason::UnknownNeighbour, to([10, 3, 0, 1]).frame()),
        (
            PuntReason::Oversize,
            Udp::new(HOST, FAR, 4000, 1473).frame(),
        ),
    ] {
        assert_eq!(rig.punted_for(&frame), Some(reason));
    }
    assert!(
        rig.forward(&Udp::new(HOST, FAR, 4000, 1472).frame())
            .is_some(),
        "1500 bytes fit"
    );
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn the_kernel_is_not_flooded() {
    let mut settings = settings("10Gbit/s");
    settings.punt.classes.fill(100);
    settings.queue_capacity = 40;
    let mut rig = Rig::new(&settings);
    let frame = Udp::new(HOST, OWN, 4000, 20).frame();
    for _ in 0..1_000 {
        rig.deliver(EDGE, &frame);
        rig.turn();
    }
    let edge = rig.report().interfaces[0].clone();
    assert_eq!(
        edge.punts[PuntReason::Local.index()],
        20,
        "as many as the twin's queue holds"
    );
    assert_eq!(
        edge.drops[DropReason::PuntQueueFull.index()],
        44,
        "the rest of a burst of 64"
    );
    assert_eq!(edge.drops[DropReason::PuntPoliced.index()], 936);
    // Another kind has its own share, and a second later there are 100 more of this one, of which
    // a burst may come at once.
    while rig.twins.from_worker.try_recv().is_ok() {}
    assert_eq!(
        rig.punted_for(&Udp::new(HOST, [10, 3, 0, 1].into(), 1, 20).frame()),
        Some(PuntReason::UnknownNeighbour)
    );
    rig.advance_to(CLOCK_HZ);
    assert_eq!(rig.punted_for(&frame), Some(PuntReason::Local));
}

#[test]
fn code_points_are_taken_from_whom_no_session_covers() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let mut packet = Udp::new(HOST, FAR, 4000, 160);
    for (came, goes) in [
        (0xb8, 0),
        (0xb9, 1),
        (0xba, 2),
        (0xbb, 3),
        (0x88, 0),
        (4, 4),
        (0, 0),
    ] {
        packet.tos = came;
        let went = rig.forward(&packet.frame()).unwrap();
        assert_eq!(went[15], goes, "{came:02x}: ECN and lower effort stay");
        assert_eq!(u16::from_be_bytes([went[24], went[25]]), checksum(&went));
    }
    let report = rig.report();
    assert_eq!(report.interfaces[0].bleached_packets, 5);
    assert_eq!(
        report.ports[1].queues[Phb::Telephony.index()].enqueued_packets,
        0
    );

    // The trusted side keeps them.
    packet = Udp::new(FAR, HOST, 4000, 160);
    packet.mac = CORE_MAC;
    packet.tos = 0xb9;
    rig.deliver(CORE, &packet.frame());
    rig.turn();
    assert_eq!(rig.sent(EDGE)[0].1[15], 0xb9);
    assert_eq!(
        rig.report().ports[0].queues[Phb::Telephony.index()].sent_packets,
        1
    );
}

#[test]
fn a_session_marks_and_polices_exactly_its_flow() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let call = Udp::new(HOST, FAR, 4000, 172); // 200 bytes of IP
    rig.install(vec![call.session("80kbit/s", 1_000)]);
    let mut marked = call.clone();
    marked.tos = 0x03;
    assert_eq!(
        rig.forward(&marked.frame()).unwrap()[15],
        0xbb,
        "EF, and ECN as it came"
    );
    let mut other_port = call.clone();
    other_port.ports.1 = 4002;
    let mut other_protocol = call.clone();
    other_protocol.protocol = 6;
    let mut fragment = call.clone();
    fragment.fragment = 100;
    let mut other_source = call.clone();
    other_source.source = [10, 1, 0, 6].into();
    for other in [&other_port, &other_protocol, &fragment, &other_source] {
        assert_eq!(rig.forward(&other.frame()).unwrap()[15], 0);
    }
    assert_eq!(rig.report().interfaces[0].fragments, 1);
    // The first fragment carries the ports: it belongs to the session.
    let mut first = call.clone();
    first.fragment = 0x2000;
    assert_eq!(rig.forward(&first.frame()).unwrap()[15], 0xb8);

    // 1,000 bytes of burst: three more, then one each 20 ms.
    for _ in 0..3 {
        assert!(rig.forward(&call.frame()).is_some());
    }
    assert_eq!(
        rig.dropped_for(&call.frame()),
        Some(DropReason::SessionPoliced)
    );
    for packet in 1..=100 {
        rig.advance_to(packet * 20_000_000);
        assert_eq!(rig.forward(&call.frame()).unwrap()[15], 0xb8);
        assert_eq!(
            rig.dropped_for(&call.frame()),
            Some(DropReason::SessionPoliced)
        );
    }
    let Answer::Flows(flows) = rig.ask(Request::ReadFlows(vec![call.flow(), other_port.flow()]))
    else {
        panic!("an answer of another kind")
    };
    let seen = flows[0].unwrap();
    assert_eq!(
        (seen.counters.packets, seen.counters.policed_packets),
        (105, 101)
    );
    assert_eq!(seen.counters.bytes, 105 * 200);
    assert_eq!(seen.idle_ns, Some(0));
    assert_eq!(flows[1], None);

    let change = SessionChange {
        install: vec![],
        remove: vec![call.flow()],
        ..SessionChange::default()
    };
    assert!(matches!(
        rig.ask(Request::Session(change)),
        Answer::Session(Ok(()))
    ));
    assert_eq!(rig.forward(&call.frame()).unwrap()[15], 0);
}

/// A call goes to its session's queue whatever the sender writes; another class, another queue.
#[test]
fn a_session_can_ask_for_another_class() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let call = Udp::new(HOST, FAR, 4000, 172);
    let mut spec = call.session("80kbit/s", 1_000);
    spec.dscp = Dscp::AF41;
    rig.install(vec![spec]);
    assert_eq!(rig.forward(&call.frame()).unwrap()[15], 34 << 2);
    let queues = &rig.report().ports[1].queues;
    assert_eq!(queues[Phb::MultimediaConferencing.index()].sent_packets, 1);
}

#[test]
fn what_the_router_itself_speaks_goes_out_unchanged_as_network_control() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let mut packet = Udp::new(OWN, FAR, 179, 20);
    (packet.tos, packet.protocol) = (48 << 2, 6);
    let mut arp = packet.frame();
    arp[12..14].copy_from_slice(&[8, 6]);
    for frame in [packet.frame(), arp.clone(), vec![1, 2, 3]] {
        rig.twins
            .to_worker
            .try_send((CORE.into(), rig.pool.frame(frame)))
            .unwrap();
    }
    rig.turn();
    let sent: Vec<_> = rig.sent(CORE).into_iter().map(|(_, frame)| frame).collect();
    assert_eq!(sent.len(), 3);
    assert!(
        [packet.frame(), arp]
            .iter()
            .all(|frame| sent.contains(frame)),
        "unchanged"
    );
    let report = rig.report();
    assert_eq!(report.interfaces[1].twin_packets, 3);
    assert_eq!(
        report.ports[1].queues[Phb::NetworkControl.index()].sent_packets,
        2
    );
    assert_eq!(
        report.ports[1].queues[Phb::Standard.index()].sent_packets,
        1
    );
}

#[test]
fn routes_change_while_packets_flow() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let frame = Udp::new(HOST, [192, 0, 2, 1].into(), 4000, 20).frame();
    assert_eq!(rig.punted_for(&frame), Some(PuntReason::NoRoute));
    let prefix = std::net::IpAddr::from([192, 0, 2, 0]);
    let set = |next_hop| Request::SetRoute {
        prefix,
        length: 24,
        next_hop: NextHop(next_hop),
    };
    assert!(matches!(rig.ask(set(2)), Answer::Route(Ok(()))));
    assert!(rig.forward(&frame).is_some());
    assert!(
        matches!(rig.ask(set(99)), Answer::Route(Err(_))),
        "no such next hop"
    );
    assert!(
        matches!(rig.ask(set(0)), Answer::Route(Err(_))),
        "0 stands for none"
    );
    assert!(rig.forward(&frame).is_some());
    let remove = Request::RemoveRoute { prefix, length: 24 };
    assert!(matches!(rig.ask(remove), Answer::Route(Ok(()))));
    assert_eq!(rig.punted_for(&frame), Some(PuntReason::NoRoute));
    let default = Request::SetRoute {
        prefix: [0_u8; 4].into(),
        length: 0,
        next_hop: NextHop(2),
    };
    assert!(matches!(rig.ask(default), Answer::Route(Ok(()))));
    assert!(rig.forward(&frame).is_some());
}

/// RFC 2131 section 4.1: a server sends its offer to the address that the client is yet to get.
#[test]
fn what_is_for_a_dhcp_client_is_for_the_kernel() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let offer = Udp {
        ports: (67, 68),
        ..Udp::new(HOST, FAR, 0, 300)
    };
    assert_eq!(rig.punted_for(&offer.frame()), Some(PuntReason::Local));
    let last_hop = Udp {
        ttl: 1,
        ..offer.clone()
    };
    assert_eq!(rig.punted_for(&last_hop.frame()), Some(PuntReason::Local));
    let with_options = Udp {
        options: vec![1; 4],
        ..offer.clone()
    };
    assert_eq!(
        rig.punted_for(&with_options.frame()),
        Some(PuntReason::Local)
    );
    // To a server, by another protocol, or a call's.
    for other in [
        Udp {
            ports: (68, 67),
            ..offer.clone()
        },
        Udp {
            protocol: 6,
            ..offer.clone()
        },
    ] {
        assert!(rig.forward(&other.frame()).is_some());
    }
    rig.install(vec![offer.session("1Mbit/s", 10_000)]);
    assert!(rig.forward(&offer.frame()).is_some());
}

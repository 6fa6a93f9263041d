//! IPv6: forwarded right, dropped for a reason, or given to the kernel; alone and mixed with IPv4.

use std::net::Ipv6Addr;

use crate::common::*;
use voicelane_dataplane::{
    control::{Answer, NextHop, Request},
    diffserv::Phb,
    stats::{DropReason, PuntReason},
    units::MacAddress,
};

#[test]
fn a_forwarded_packet_is_readdressed() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let came = Udp6::new(HOST6, FAR6, 4000, 160).frame();
    let went = rig.forward(&came).unwrap();
    assert_eq!(went[..6], PEER_MAC.0);
    assert_eq!(went[6..12], CORE_MAC.0);
    assert_eq!(went[21], 63, "one off the hop limit");
    let others = |frame: &[u8]| [&frame[12..21], &frame[22..]].concat();
    assert_eq!(others(&went), others(&came), "nothing else changed");
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn each_fault_has_its_reason() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let good = Udp6::new(HOST6, FAR6, 4000, 160);
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.frame();
        edit(&mut frame);
        frame
    };
    let addressed = |source: &str, destination: &str| {
        Udp6::new(
            source.parse().unwrap(),
            destination.parse().unwrap(),
            4000,
            160,
        )
        .frame()
    };
    for (reason, frame) in [
        (DropReason::NotForUs, edited(&|f| f[5] = 9)),
        (DropReason::Ipv6Truncated, good.frame()[..53].to_vec()),
        (DropReason::Ipv6Version, edited(&|f| f[14] = 0x40)),
        (
            DropReason::Ipv6PayloadLength,
            edited(&|f| f.truncate(14 + 207)),
        ),
        (
            DropReason::MartianSource,
            addressed("ff02::1", "2001:db8:2::7"),
        ),
        (DropReason::MartianSource, addressed("::1", "2001:db8:2::7")),
        (DropReason::MartianSource, addressed("::1", "ff02::1")),
        (
            DropReason::MartianDestination,
            addressed("2001:db8:1::5", "::1"),
        ),
        (
            DropReason::MartianDestination,
            addressed("2001:db8:1::5", "::"),
        ),
        (
            DropReason::LinkGroupUnicast,
            edited(&|f| f[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1])),
        ),
        (
            DropReason::Blackhole,
            addressed("2001:db8:1::5", "2001:db8:4::1"),
        ),
    ] {
        assert_eq!(rig.dropped_for(&frame), Some(reason), "{frame:02x?}");
    }
    assert!(rig.sent(CORE).is_empty());
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn the_kernel_gets_what_is_its_own() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let to = |destination: &str| Udp6::new(HOST6, destination.parse().unwrap(), 4000, 160);
    let mut expired = to("2001:db8:2::7");
    expired.hop_limit = 1;
    let mut own_expired = Udp6::new(HOST6, OWN6, 4000, 160);
    own_expired.hop_limit = 1;
    let mut solicitation = to("ff02::1:ff00:1");
    solicitation.mac = MacAddress([0x33, 0x33, 0xff, 0, 0, 1]);
    let mut detection = solicitation.clone();
    detection.source = Ipv6Addr::UNSPECIFIED;
    let mut from_link = to("2001:db8:2::7");
    from_link.source = "fe80::1".parse().unwrap();
    for (reason, frame) in [
        (PuntReason::Group, solicitation.frame()),
        (PuntReason::Group, detection.frame()),
        (PuntReason::LinkLocal, to("fe80::1").frame()),
        (PuntReason::LinkLocal, from_link.frame()),
        (PuntReason::Local, Udp6::new(HOST6, OWN6, 179, 20).frame()),
        (PuntReason::Local, own_expired.frame()),
        (PuntReason::TtlExpired, expired.frame()),
        (PuntReason::NoRoute, to("2001:db8:ffff::1").frame()),
        (PuntReason::UnknownNeighbour, to("2001:db8:3::1").frame()),
        (
            PuntReason::Oversize,
            Udp6::new(HOST6, FAR6, 4000, 1453).frame(),
        ),
    ] {
        assert_eq!(rig.punted_for(&frame), Some(reason));
    }
    assert!(
        rig.forward(&Udp6::new(HOST6, FAR6, 4000, 1452).frame())
            .is_some(),
        "1500 bytes fit"
    );
}

#[test]
fn sessions_mark_and_police_exactly_their_flow() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let call = Udp6::new(HOST6, FAR6, 4000, 172); // 220 bytes of IP
    rig.install(vec![call.session("88kbit/s", 1_100)]);
    let class = |frame: &[u8]| frame[14] << 4 | frame[15] >> 4;
    let mut claims = call.clone();
    claims.class = 34 << 2 | 3;
    let went = rig.forward(&claims.frame()).unwrap();
    assert_eq!(class(&went), 46 << 2 | 3, "EF, and ECN as it came");
    assert_eq!(
        (went[15] & 15, went[16], went[17]),
        (0x0a, 0xbc, 0xde),
        "the flow label"
    );
    // Extension headers do not hide a session, up to a fragment without ports.
    let mut behind = call.clone();
    behind.extensions = (0, vec![17, 0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(class(&rig.forward(&behind.frame()).unwrap()), 46 << 2);
    let mut first_fragment = call.clone();
    first_fragment.extensions = (44, vec![17, 0, 0, 1, 0, 0, 0, 9]);
    assert_eq!(
        class(&rig.forward(&first_fragment.frame()).unwrap()),
        46 << 2
    );
    let mut fragment = call.clone();
    fragment.extensions = (44, vec![17, 0, 0, 9, 0, 0, 0, 8]);
    let mut other_port = call.clone();
    other_port.ports.1 = 4002;
    let mut other_source = call.clone();
    other_source.source = "2001:db8:1::6".parse().unwrap();
    for mut other in [fragment, other_port, other_source] {
        other.class = 46 << 2 | 1;
        assert_eq!(class(&rig.forward(&other.frame()).unwrap()), 1, "bleached");
    }
    let report = rig.report();
    assert_eq!(report.interfaces[0].bleached_packets, 3);
    assert_eq!(report.interfaces[0].fragments, 1);
    assert_eq!(
        report.ports[1].queues[Phb::Telephony.index()].sent_packets,
        3
    );
    while rig.dropped_for(&call.frame()).is_none() {}
    let Answer::Flows(flows) = rig.ask(Request::ReadFlows(vec![call.flow()])) else {
        panic!("an answer of another kind")
    };
    assert_eq!(flows[0].unwrap().counters.policed_packets, 1);
}

/// Both families in one burst, with drops and punts between: each packet keeps its own way.
#[test]
fn mixed_bursts_keep_their_places() {
    let mut rig = Rig::new(&settings("100Gbit/s"));
    let call4 = Udp::new(HOST, FAR, 4000, 172);
    let call6 = Udp6::new(HOST6, FAR6, 4000, 172);
    rig.install(vec![
        call4.session("1Gbit/s", 100_000),
        call6.session("1Gbit/s", 100_000),
    ]);
    let kinds: [Vec<u8>; 6] = [
        call4.frame(),
        call6.frame(),
        Udp::new(HOST, FAR, 5000, 172).frame(),
        Udp6::new(HOST6, FAR6, 5000, 172).frame(),
        vec![0; 10],
        Udp6::new(HOST6, OWN6, 1, 1).frame(),
    ];
    let mut expected = vec![];
    for number in 0..64_usize {
        // Of IPv6 first.
        let kind = (number * number + number / 6 + 1) % 6;
        rig.deliver(EDGE, &kinds[kind]);
        expected.push(kind);
    }
    rig.turn();
    let sent = rig.sent(CORE);
    let count = |kinds: &[usize]| expected.iter().filter(|kind| kinds.contains(kind)).count();
    assert!((0..6).all(|kind| count(&[kind]) > 0));
    assert_eq!(sent.len(), count(&[0, 1, 2, 3]));
    let class = |frame: &[u8]| match frame[12] {
        8 => frame[15],
        _ => frame[14] << 4 | frame[15] >> 4,
    };
    let port = |frame: &[u8]| match frame[12] {
        8 => u16::from_be_bytes([frame[34], frame[35]]),
        _ => u16::from_be_bytes([frame[54], frame[55]]),
    };
    for (_, frame) in &sent {
        assert_eq!(class(frame), if port(frame) == 4000 { 46 << 2 } else { 0 });
        assert_eq!(frame[..6], PEER_MAC.0);
    }
    let report = rig.report();
    assert_eq!(
        report.interfaces[0].punts.iter().sum::<u64>(),
        count(&[5]) as u64
    );
    assert_eq!(
        report.interfaces[0].drops.iter().sum::<u64>(),
        count(&[4]) as u64
    );
}

#[test]
fn routes_change_while_packets_flow() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let frame = Udp6::new(HOST6, "2001:db8:9::1".parse().unwrap(), 4000, 20).frame();
    assert_eq!(rig.punted_for(&frame), Some(PuntReason::NoRoute));
    let prefix = "2001:db8:9::".parse().unwrap();
    let set = Request::SetRoute {
        prefix,
        length: 48,
        next_hop: NextHop(2),
    };
    assert!(matches!(rig.ask(set), Answer::Route(Ok(()))));
    assert!(rig.forward(&frame).is_some());
    let remove = Request::RemoveRoute { prefix, length: 48 };
    assert!(matches!(rig.ask(remove), Answer::Route(Ok(()))));
    assert_eq!(rig.punted_for(&frame), Some(PuntReason::NoRoute));
    let prefix = Ipv6Addr::UNSPECIFIED.into();
    let default = Request::SetRoute {
        prefix,
        length: 0,
        next_hop: NextHop(2),
    };
    assert!(matches!(rig.ask(default), Answer::Route(Ok(()))));
    assert!(rig.forward(&frame).is_some());
}

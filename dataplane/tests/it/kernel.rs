//! What the kernel gets, and what it sends: nobody is given priority by way of it.

mod calls;

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::{prelude::*, strategy::ValueTree as _};

use crate::common::{
    policy::{dscp, prefix, rule, set_policy, spec},
    *,
};
use voicelane_dataplane::{
    Adjacency,
    device::Buffer as _,
    diffserv::{Dscp, Phb},
    policy::{Action, DscpMap, KernelPolicy, Match, PolicySpec, Routing, Speaks, Trust},
    stats::{DropReason, PuntReason, Report},
    units::{InterfaceIndex, MacAddress},
};

/// Behind an interface that only the kernel has.
const VPN: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 9);
const VPN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 8, 0, 0, 0, 0, 9);

fn rig() -> Rig {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    rig.route(6, Adjacency::Kernel, "10.8.0.0", 24);
    rig.route(6, Adjacency::Kernel, "2001:db8:8::", 48);
    rig
}

/// What the kernel gets of a frame that comes in.
fn kernel_gets(rig: &mut Rig, frame: &[u8]) -> Option<Vec<u8>> {
    rig.deliver(EDGE, frame);
    rig.turn();
    let (_, frame) = rig.twins.from_worker.try_recv().ok()?;
    Some(frame.bytes().to_vec())
}

/// What leaves the core port of a frame that the kernel sends there, and its class.
fn leaves(rig: &mut Rig, interface: InterfaceIndex, frame: &[u8]) -> (Vec<u8>, Phb) {
    let before = rig.report();
    let frame = rig.pool.frame(frame);
    rig.twins.to_worker.try_send((interface, frame)).unwrap();
    rig.turn();
    let after = rig.report();
    let sent = rig.sent(CORE).pop().unwrap().1;
    let packets = |report: &Report, phb: Phb| report.ports[1].queues[phb.index()].sent_packets;
    let phb = Phb::ALL
        .into_iter()
        .find(|&phb| packets(&after, phb) > packets(&before, phb));
    (sent, phb.unwrap())
}

fn udp(source: Ipv4Addr, tos: u8) -> Udp {
    Udp {
        source,
        tos,
        ..Udp::new(source, FAR, 4000, 20)
    }
}

fn udp6(source: Ipv6Addr, class: u8) -> Udp6 {
    Udp6 {
        class,
        ..Udp6::new(source, FAR6, 4000, 20)
    }
}

/// For each reason, of both families: the trust of the edge takes EF away, ECN stays, and the rest of
/// the packet with a right checksum.
#[test]
fn whatever_the_kernel_gets_has_the_code_point_that_trust_gives() {
    let mut rig = rig();
    let mut reasons = Vec::new();
    let to = |destination: [u8; 4]| Udp {
        tos: 0xb9,
        ..Udp::new(HOST, destination.into(), 4000, 20)
    };
    let to6 = |destination: &str| Udp6 {
        class: 0xb9,
        ..Udp6::new(HOST6, destination.parse().unwrap(), 4000, 20)
    };
    let frames = [
        to([10, 1, 0, 1]).frame(),
        to([10, 3, 0, 1]).frame(),
        to([10, 8, 0, 9]).frame(),
        to([172, 31, 0, 1]).frame(),
        Udp {
            ttl: 1,
            ..to(FAR.octets())
        }
        .frame(),
        Udp {
            payload: 1473,
            ..to(FAR.octets())
        }
        .frame(),
        Udp {
            mac: MacAddress([1, 0, 0x5e, 0, 0, 5]),
            ..to([224, 0, 0, 5])
        }
        .frame(),
        Udp {
            mac: MacAddress([0xff; 6]),
            ..to([255; 4])
        }
        .frame(),
        Udp {
            options: vec![7, 7, 4, 0, 0, 0, 0, 0],
            ..to(FAR.octets())
        }
        .frame(),
        to6("2001:db8:1::1").frame(),
        to6("2001:db8:3::1").frame(),
        to6("2001:db8:8::9").frame(),
        to6("2001:db9::1").frame(),
        Udp6 {
            hop_limit: 1,
            ..to6("2001:db8:2::7")
        }
        .frame(),
        Udp6 {
            payload: 1453,
            ..to6("2001:db8:2::7")
        }
        .frame(),
        Udp6 {
            mac: MacAddress([0x33, 0x33, 0, 0, 0, 5]),
            ..to6("ff02::5")
        }
        .frame(),
        to6("fe80::1").frame(),
        Udp6 {
            source: "fe80::2".parse().unwrap(),
            ..to6("2001:db8:2::7")
        }
        .frame(),
        Udp6 {
            extensions: (0, vec![17, 0, 0, 0, 0, 0, 0, 0]),
            ..to6("fe80::1")
        }
        .frame(),
    ];
    for frame in &frames {
        let before = rig.report().interfaces[0].punts;
        let punted = kernel_gets(&mut rig, frame).unwrap();
        let after = rig.report().interfaces[0].punts;
        let reason = PuntReason::ALL
            .iter()
            .find(|reason| after[reason.index()] > before[reason.index()])
            .unwrap();
        reasons.push(*reason);
        assert_eq!(dscp(&punted), Dscp::DF, "{reason:?}");
        let mut expected = frame.clone();
        if frame[12] == 8 {
            expected[15] = 1;
            fix_checksum(&mut expected);
        } else {
            (expected[14], expected[15]) = (0x60, 0x1a);
        }
        assert_eq!(punted, expected, "{reason:?}: nothing else");
    }
    let no_ip = [PuntReason::Arp, PuntReason::LinkLayer];
    for reason in PuntReason::ALL.iter().filter(|one| !no_ip.contains(one)) {
        assert!(reasons.contains(reason), "{reason:?} is not tried");
    }
    assert_eq!(
        rig.report().interfaces[0].bleached_packets,
        frames.len() as u64
    );
}

/// The operator's rules decide of what is for the kernel, too.
#[test]
fn rules_hold_for_what_is_for_the_kernel() {
    let mut rig = rig();
    let groups = Match {
        destinations: prefix("224.0.0.0", 24),
        ..Match::default()
    };
    let own = Match {
        destinations: prefix("2001:db8:1::1", 128),
        ..Match::default()
    };
    let rules = vec![
        rule("groups", groups, Action::Drop),
        rule("own", own, Action::Mark(Dscp::CS5)),
    ];
    set_policy(&mut rig, &spec(rules), 1);
    let group = Udp {
        mac: MacAddress([1, 0, 0x5e, 0, 0, 5]),
        ..Udp::new(HOST, [224, 0, 0, 5].into(), 4000, 20)
    };
    assert_eq!(rig.dropped_for(&group.frame()), Some(DropReason::RuleDrop));
    let own = Udp6::new(HOST6, OWN6, 4000, 20).frame();
    assert_eq!(dscp(&kernel_gets(&mut rig, &own).unwrap()), Dscp::CS5);
}

/// Answers, what is forwarded from a VPN, whatever protocol it claims to be.
#[test]
fn code_points_of_the_kernel_are_not_believed() {
    let mut rig = rig();
    let mut bleached = 0;
    let echo = Udp6 {
        extensions: (58, vec![129, 0, 0, 0, 0, 0, 0, 0]),
        ..udp6("fe80::1".parse().unwrap(), 0xb8)
    };
    let ports = |ports, source| Udp {
        ports,
        ..udp(source, 0xb8)
    };
    for (what, frame) in [
        ("from a VPN", udp(VPN, 0xb8).frame()),
        ("from a VPN", udp6(VPN6, 0xb8).frame()),
        ("its own", udp(OWN, 0xb8).frame()),
        (
            "an echo",
            Udp {
                protocol: 1,
                ..udp(OWN, 0xb8)
            }
            .frame(),
        ),
        ("an echo", echo.frame()),
        (
            "a VPN's BGP",
            Udp {
                protocol: 6,
                ..ports((179, 1), VPN)
            }
            .frame(),
        ),
        ("a VPN's BFD", ports((1, 3784), VPN).frame()),
        (
            "a VPN's OSPF",
            Udp {
                protocol: 89,
                ..udp(VPN, 0xb8)
            }
            .frame(),
        ),
        (
            "a fragment",
            Udp {
                fragment: 5,
                ..ports((179, 179), OWN)
            }
            .frame(),
        ),
        (
            "options",
            Udp {
                options: vec![1; 4],
                ..udp(VPN, 0xb8)
            }
            .frame(),
        ),
        (
            "extension headers",
            Udp6 {
                extensions: (60, vec![17, 0, 0, 0, 0, 0, 0, 0]),
                ..udp6(VPN6, 0xb8)
            }
            .frame(),
        ),
        ("CS7", udp(VPN, 0xe0).frame()),
    ] {
        let (left, phb) = leaves(&mut rig, CORE.into(), &frame);
        assert_eq!((dscp(&left), phb), (Dscp::DF, Phb::Standard), "{what}");
        if left[12] == 8 {
            assert_eq!(left[24..26], checksum(&left).to_be_bytes(), "{what}");
        }
        bleached += 1;
    }
    assert_eq!(rig.report().interfaces[1].twin_bleached_packets, bleached);
    // Lower effort may be asked for, and ECN stays.
    let (left, phb) = leaves(&mut rig, CORE.into(), &udp(VPN, 0x06).frame());
    assert_eq!((left[15], phb), (0x06, Phb::LowerEffort));
    // On a VLAN interface of the kernel's own above the twin, too, whose tag says a priority.
    let inner = tagged(&udp(VPN, 0xb8).frame(), 0xc005);
    let (left, phb) = leaves(&mut rig, CORE.into(), &inner);
    assert_eq!(
        (left, phb),
        (tagged(&udp(VPN, 0).frame(), 5), Phb::Standard)
    );
}

#[test]
fn what_the_router_itself_speaks_is_network_control() {
    let mut rig = rig();
    let link: Ipv6Addr = "fe80::1".parse().unwrap();
    let icmp6 = |kind: u8, hop_limit| Udp6 {
        hop_limit,
        extensions: (58, vec![kind, 0, 0, 0, 0, 0, 0, 0]),
        ..udp6(link, 0)
    };
    let with = |protocol, ports| Udp {
        protocol,
        ports,
        ..udp(OWN, 0xc0)
    };
    let hop_by_hop = |next: u8| (0, vec![next, 0, 5, 2, 0, 0, 1, 0]);
    let other = |kind: [u8; 2], payload: &[u8]| {
        let group = [1, 0x80, 0xc2, 0, 0, 0x14];
        [&group[..], &CORE_MAC.0, &kind, payload, &[0; 40]].concat()
    };
    let frames = [
        with(6, (179, 40_000)).frame(),
        with(6, (40_000, 179)).frame(),
        with(17, (49_152, 3784)).frame(),
        with(17, (520, 520)).frame(),
        with(89, (0, 0)).frame(),
        Udp {
            fragment: 9,
            ..with(89, (0, 0))
        }
        .frame(),
        Udp {
            options: vec![0x94, 4, 0, 0],
            ..with(2, (0, 0))
        }
        .frame(),
        Udp {
            source: Ipv4Addr::UNSPECIFIED,
            ..with(2, (0, 0))
        }
        .frame(),
        with(103, (0, 0)).frame(),
        with(112, (0, 0)).frame(),
        icmp6(135, 255).frame(),
        Udp6 {
            source: Ipv6Addr::UNSPECIFIED,
            ..icmp6(135, 255)
        }
        .frame(),
        Udp6 {
            source: OWN6,
            ..icmp6(136, 255)
        }
        .frame(),
        Udp6 {
            extensions: (
                0,
                [hop_by_hop(58).1, vec![143, 0, 0, 0, 0, 0, 0, 0]].concat(),
            ),
            ..udp6(link, 0)
        }
        .frame(),
        Udp6 {
            ports: (179, 1),
            extensions: (0, hop_by_hop(6).1),
            ..udp6(OWN6, 0xc0)
        }
        .frame(),
        // OSPF's second fragment.
        Udp6 {
            extensions: (44, vec![89, 0, 0, 8, 0, 0, 0, 9]),
            ..udp6(link, 0xc0)
        }
        .frame(),
        other([8, 6], &[]),
        other([0, 40], &[0xfe, 0xfe, 3]),
        other([0, 38], &[0x42, 0x42, 3]),
        other([0x88, 0xcc], &[]),
        other([0x88, 0x09], &[]),
        other([0x88, 0x8e], &[]),
    ];
    for frame in &frames {
        let (left, phb) = leaves(&mut rig, CORE.into(), frame);
        assert_eq!((&left, phb), (frame, Phb::NetworkControl));
    }
    assert_eq!(rig.report().interfaces[1].twin_bleached_packets, 0);
    // Not as telephony, whatever it was told to mark with.
    let (left, phb) = leaves(
        &mut rig,
        CORE.into(),
        &Udp {
            tos: 0xb8,
            ..with(6, (179, 1))
        }
        .frame(),
    );
    assert_eq!((dscp(&left), phb), (Dscp::CS6, Phb::NetworkControl));
    // What is not of this kind is no control traffic: a forwarded solicitation, an unknown type.
    for frame in [
        icmp6(135, 254).frame(),
        icmp6(128, 255).frame(),
        other([0x88, 0x64], &[]),
    ] {
        assert_eq!(leaves(&mut rig, CORE.into(), &frame).1, Phb::Standard);
    }
}

#[test]
fn the_policy_says_what_is_believed_and_what_is_the_routers_own() {
    let mut rig = rig();
    let map = DscpMap::IDENTITY.with(Dscp::EF, Dscp::AF41);
    let mut kernel = KernelPolicy {
        trust: Trust::Remark(map),
        routing: Routing::from_iter([Speaks::Udp(4000)]),
    };
    let policy = |kernel: &KernelPolicy| PolicySpec {
        kernel: kernel.clone(),
        ..spec(vec![])
    };
    set_policy(&mut rig, &policy(&kernel), 1);
    let at_4000 = |source, tos| udp(source, tos).frame();
    let bgp = Udp {
        protocol: 6,
        ports: (179, 179),
        ..udp(OWN, 0xc0)
    };
    let telling = |rig: &mut Rig, frame: &[u8]| {
        let (left, phb) = leaves(rig, CORE.into(), frame);
        (dscp(&left), phb)
    };
    let conferencing = Phb::MultimediaConferencing;
    assert_eq!(
        telling(&mut rig, &at_4000(VPN, 0xb8)),
        (Dscp::AF41, conferencing)
    );
    assert_eq!(
        telling(&mut rig, &at_4000(OWN, 0)),
        (Dscp::DF, Phb::NetworkControl)
    );
    assert_eq!(
        telling(&mut rig, &bgp.frame()),
        (Dscp::CS6, Phb::NetworkControl)
    );
    kernel.trust = Trust::Keep;
    set_policy(&mut rig, &policy(&kernel), 2);
    assert_eq!(
        telling(&mut rig, &at_4000(VPN, 0xb8)),
        (Dscp::EF, Phb::Telephony)
    );
    kernel.trust = Trust::Bleach;
    set_policy(&mut rig, &policy(&kernel), 3);
    assert_eq!(telling(&mut rig, &bgp.frame()), (Dscp::DF, Phb::Standard));
}

/// Any bytes: what leaves is as long as what came, and is never telephony.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop_oneof![
        Just(vec![8, 0, 0x45, 0xb8]),
        Just(vec![0x86, 0xdd, 0x6b, 0x80]),
        Just(vec![0x81, 0, 0xc0, 5, 8, 0, 0x45, 0xb8]),
        Just(vec![
            0x88, 0xa8, 0xc0, 5, 0x81, 0, 0xc0, 5, 0x86, 0xdd, 0x6b, 0x80
        ]),
        Just(vec![8, 6]),
        prop::collection::vec(any::<u8>(), 2..6),
    ];
    (kinds, prop::collection::vec(any::<u8>(), 0..80))
        .prop_map(|(kind, rest)| [&PEER_MAC.0[..], &CORE_MAC.0, &kind, &rest].concat())
}

#[test]
fn nothing_that_the_kernel_sends_is_telephony() {
    let mut rig = rig();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..20_000 {
        let frame = bytes().new_tree(&mut runner).unwrap().current();
        let buffer = rig.pool.frame(frame.clone());
        rig.twins.to_worker.try_send((CORE.into(), buffer)).unwrap();
        rig.advance_to(rig.now + 10_000);
        rig.turn();
        let (_, left) = rig.sent(CORE).pop().unwrap();
        assert_eq!(left.len(), frame.len());
    }
    let queues = &rig.report().ports[1].queues;
    assert_eq!(queues[Phb::Telephony.index()].enqueued_packets, 0);
    assert_eq!(queues[Phb::AdmittedTelephony.index()].enqueued_packets, 0);
}

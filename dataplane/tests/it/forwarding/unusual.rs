//! What a router forwards to nobody, or leaves to the kernel: options, special-purpose addresses, its own
//! address as a source, what is no IP.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::common::*;
use voicelane_dataplane::{
    Adjacency,
    stats::{DropReason, PuntClass, PuntReason},
    units::{InterfaceIndex, MacAddress},
};

fn with_options(options: &[u8]) -> Vec<u8> {
    Udp {
        options: options.to_vec(),
        ..Udp::new(HOST, FAR, 4000, 20)
    }
    .frame()
}

#[test]
fn options_are_for_the_kernel_and_source_routes_for_nobody() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    for options in [
        &[7, 7, 4, 0, 0, 0, 0, 0][..], // record route
        &[68, 8, 5, 0, 0, 0, 0, 0],    // timestamp
        &[0x94, 4, 0, 0],              // router alert
        &[1, 1, 7, 3],                 // broken: no room for its pointer
        &[7, 0, 4, 0],                 // broken lengths
        &[7, 99, 4, 0],
        &[1, 1, 1, 7],
        &[200, 4, 0, 0], // unknown
    ] {
        let punted = rig.punted_for(&with_options(options));
        assert_eq!(punted, Some(PuntReason::Options), "{options:?}");
    }
    for options in [
        &[131, 7, 4, 10, 9, 0, 2, 0][..],
        &[137, 7, 4, 10, 9, 0, 2, 0],
        &[1, 68, 4, 5, 0, 131, 3, 4],
        &[131, 0, 0, 0],
    ] {
        let dropped = rig.dropped_for(&with_options(options));
        assert_eq!(dropped, Some(DropReason::SourceRoute), "{options:?}");
        let group = Udp {
            options: options.to_vec(),
            mac: MacAddress([1, 0, 0x5e, 0, 0, 1]),
            ..Udp::new(HOST, [224, 0, 0, 1].into(), 4000, 20)
        };
        let dropped = rig.dropped_for(&group.frame());
        assert_eq!(dropped, Some(DropReason::SourceRoute), "{options:?}");
    }
    for options in [&[1; 40][..], &[1, 0, 131, 0], &[0; 4]] {
        assert!(rig.forward(&with_options(options)).is_some(), "{options:?}");
    }
    assert_eq!(rig.pool.in_use(), 0);
}

#[test]
fn special_purpose_addresses_do_not_leave_their_link() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    rig.route(5, Adjacency::Local, "169.254.1.1", 32);
    let forward = Adjacency::Forward {
        interface: InterfaceIndex::from(CORE),
        destination: PEER_MAC,
        source: CORE_MAC,
    };
    rig.route(2, forward, "0.0.0.0", 0);
    rig.route(2, forward, "::", 0);
    let udp = |source: &str, destination: &str| {
        let [source, destination] = [source, destination].map(|ip| ip.parse().unwrap());
        Udp::new(source, destination, 4000, 20).frame()
    };
    let udp6 = |source: &str, destination: &str| {
        let [source, destination] = [source, destination].map(|ip| ip.parse().unwrap());
        Udp6::new(source, destination, 4000, 20).frame()
    };
    for (frame, reason) in [
        (udp("169.254.3.3", "10.2.0.7"), DropReason::NotForwardable),
        (udp("10.1.0.5", "169.254.3.3"), DropReason::NotForwardable),
        (udp("0.1.2.3", "10.2.0.7"), DropReason::MartianSource),
        (udp("0.0.0.0", "10.1.0.1"), DropReason::MartianSource),
        (
            udp("255.255.255.255", "10.2.0.7"),
            DropReason::MartianSource,
        ),
        (udp("224.0.0.1", "10.2.0.7"), DropReason::MartianSource),
        (udp("10.1.0.5", "0.0.0.0"), DropReason::MartianDestination),
        (udp("10.1.0.5", "0.9.9.9"), DropReason::MartianDestination),
        (udp("10.1.0.5", "127.0.0.1"), DropReason::MartianDestination),
        (udp("10.1.0.5", "241.0.0.1"), DropReason::MartianDestination),
        (
            udp6("::ffff:10.1.0.5", "2001:db8:2::7"),
            DropReason::MartianSource,
        ),
        (
            udp6("2001:db8:1::5", "::ffff:10.2.0.7"),
            DropReason::MartianDestination,
        ),
    ] {
        assert_eq!(rig.dropped_for(&frame), Some(reason), "{frame:02x?}");
    }
    for (frame, reason) in [
        (udp("169.254.3.3", "169.254.1.1"), PuntReason::Local),
        (udp("10.1.0.5", "169.254.1.1"), PuntReason::Local),
        (udp("0.0.0.0", "255.255.255.255"), PuntReason::Group),
        (udp6("fe80::9", "2001:db8:2::7"), PuntReason::LinkLocal),
    ] {
        assert_eq!(rig.punted_for(&frame), Some(reason), "{frame:02x?}");
    }
    for frame in [
        udp("100.64.0.1", "198.18.0.1"),
        udp("192.0.2.1", "203.0.113.1"),
        udp6("fd00::1", "64:ff9b::a00:1"),
    ] {
        assert!(rig.forward(&frame).is_some(), "{frame:02x?}");
    }
}

/// A host that says it is the router.
#[test]
fn the_routers_own_address_is_no_source() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let own: [(Ipv4Addr, Ipv6Addr); 1] = [(OWN, OWN6)];
    for (own, own6) in own {
        for frame in [
            Udp::new(own, FAR, 4000, 20).frame(),
            Udp::new(own, OWN, 4000, 20).frame(),
            Udp {
                options: vec![7, 7, 4, 0, 0, 0, 0, 0],
                ..Udp::new(own, FAR, 4000, 20)
            }
            .frame(),
            Udp {
                fragment: 7,
                ..Udp::new(own, FAR, 4000, 20)
            }
            .frame(),
            Udp6::new(own6, FAR6, 4000, 20).frame(),
            Udp6 {
                extensions: (60, vec![17, 0, 0, 0, 0, 0, 0, 0]),
                ..Udp6::new(own6, FAR6, 4000, 20)
            }
            .frame(),
        ] {
            let dropped = rig.dropped_for(&frame);
            assert_eq!(dropped, Some(DropReason::MartianSource), "{frame:02x?}");
        }
    }
    // Whoever only ends as it does is somebody else.
    let alike = Udp::new([10, 1, 16, 1].into(), FAR, 4000, 20);
    assert!(rig.forward(&alike.frame()).is_some());
}

/// Frames to groups of the link, and what only the kernel may know.
#[test]
fn what_is_no_ip_is_the_kernels() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let frame = |destination: [u8; 6], kind: [u8; 2], payload: &[u8]| {
        [&destination[..], &HOST_MAC.0, &kind, payload, &[0; 46]].concat()
    };
    let bridge = |last| [1, 0x80, 0xc2, 0, 0, last];
    for frame in [
        frame(bridge(0x14), [0, 49], &[0xfe, 0xfe, 3]),
        frame(bridge(0x15), [0, 49], &[0xfe, 0xfe, 3]),
        frame([9, 0, 0x2b, 0, 0, 5], [5, 0xdc], &[0xfe, 0xfe, 3]),
        frame(bridge(0), [0, 38], &[0x42, 0x42, 3]),
        frame([1, 0, 0xc, 0xcc, 0xcc, 0xcc], [0, 40], &[0xaa, 0xaa, 3]),
        frame(bridge(0xe), [0x88, 0xcc], &[]),
        frame(bridge(2), [0x88, 0x09], &[]),
        frame(bridge(3), [0x88, 0x8e], &[]),
        frame(EDGE_MAC.0, [0x88, 0x8e], &[]),
        frame(EDGE_MAC.0, [0x88, 0x63], &[]),
    ] {
        assert_eq!(
            rig.punted_for(&frame),
            Some(PuntReason::LinkLayer),
            "{frame:02x?}"
        );
    }
    let other = frame(PEER_MAC.0, [0x88, 0x8e], &[]);
    assert_eq!(rig.dropped_for(&other), Some(DropReason::NotForUs));
}

/// Floods of one kind on one interface take from nobody else.
#[test]
fn each_class_has_its_own_share_on_each_interface() {
    let mut settings = settings("10Gbit/s");
    settings.punt.classes.fill(100);
    settings.queue_capacity = 20_000;
    let mut rig = Rig::new(&settings);
    let group = |destination: [u8; 4], protocol| Udp {
        mac: MacAddress([
            1,
            0,
            0x5e,
            destination[1] & 127,
            destination[2],
            destination[3],
        ]),
        protocol,
        ..Udp::new(HOST, destination.into(), 4000, 20)
    };
    let arp = |sender: u8, target: [u8; 4]| {
        let mac = [2, 0, 0, 9, 9, sender];
        let mut frame = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac].concat();
        frame.extend([10, 1, 0, sender]);
        frame.extend([0; 6]);
        frame.extend(target);
        frame
    };
    let solicitation = |target: Ipv6Addr| {
        let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
        Udp6 {
            mac: MacAddress([0x33, 0x33, 0xff, 0, 0, 1]),
            hop_limit: 255,
            extensions: (58, message),
            ..Udp6::new(HOST6, "ff02::1:ff00:1".parse().unwrap(), 1, 20)
        }
        .frame()
    };
    let link = |kind: [u8; 2], payload: &[u8]| {
        [
            &[1, 0x80, 0xc2, 0, 0, 0x14][..],
            &HOST_MAC.0,
            &kind,
            payload,
            &[0; 46],
        ]
        .concat()
    };
    let to = |destination: [u8; 4]| Udp::new(HOST, destination.into(), 4000, 20);
    rig.route(6, Adjacency::Kernel, "10.8.0.0", 24);
    let classes: Vec<(PuntClass, Vec<u8>)> = vec![
        (
            PuntClass::Routing,
            Udp {
                ports: (1, 179),
                protocol: 6,
                ..to(OWN.octets())
            }
            .frame(),
        ),
        (PuntClass::Routing, group([224, 0, 0, 5], 89).frame()),
        (PuntClass::Routing, link([0, 49], &[0xfe, 0xfe, 3])),
        (PuntClass::Neighbour, arp(1, OWN.octets())),
        (PuntClass::Neighbour, solicitation(OWN6)),
        (PuntClass::Membership, group([224, 0, 0, 22], 2).frame()),
        (PuntClass::Link, link([0x88, 0xcc], &[])),
        (PuntClass::Local, to(OWN.octets()).frame()),
        (PuntClass::Local, Udp6::new(HOST6, OWN6, 22, 20).frame()),
        (PuntClass::Group, group([239, 1, 1, 1], 17).frame()),
        (PuntClass::Group, arp(1, [10, 1, 0, 77])),
        (PuntClass::Group, solicitation(HOST6)),
        (PuntClass::Glean, to([10, 3, 0, 1]).frame()),
        (PuntClass::Exception, to([172, 31, 0, 1]).frame()),
        (
            PuntClass::Exception,
            Udp {
                ttl: 1,
                ..to(FAR.octets())
            }
            .frame(),
        ),
        (PuntClass::Transit, to([10, 8, 0, 9]).frame()),
    ];
    let to_core = |frame: &[u8]| {
        let mut frame = frame.to_vec();
        if frame[..6] == EDGE_MAC.0 {
            frame[..6].copy_from_slice(&CORE_MAC.0);
        }
        frame
    };
    for (class, frame) in &classes {
        // Long enough to fill a neighbour's part, which two senders may have in common.
        rig.advance_to(rig.now + 3_000_000_000);
        let before = rig.report();
        for _ in 0..500 {
            rig.deliver(EDGE, frame);
            rig.turn();
        }
        let report = rig.report();
        let refused = |interface: usize, class: PuntClass| {
            let count = |report: &voicelane_dataplane::stats::Report| {
                report.interfaces[interface].refused_punts[class.index()]
            };
            count(&report) - count(&before)
        };
        let expected = 500 - 64;
        assert_eq!(refused(0, *class), expected, "{class:?}");
        let all: u64 = PuntClass::ALL.iter().map(|&class| refused(0, class)).sum();
        assert_eq!(all, expected, "{class:?} only");
        // One of each other class passes on the same interface, and of each class on the other.
        for (other, frame) in &classes {
            let before = rig.report();
            let interfaces = if other == class { 1..2 } else { 0..2 };
            for interface in interfaces {
                match interface {
                    0 => rig.deliver(EDGE, frame),
                    _ => rig.deliver(CORE, &to_core(frame)),
                }
            }
            rig.turn();
            let after = rig.report();
            for (before, after) in before.interfaces.iter().zip(&after.interfaces) {
                assert_eq!(
                    before.refused_punts, after.refused_punts,
                    "{class:?}, then {other:?}"
                );
            }
        }
        while rig.twins.from_worker.try_recv().is_ok() {}
    }
}

/// Who asks without end leaves most of the neighbours' share to others.
#[test]
fn one_neighbour_does_not_take_all() {
    let mut settings = settings("10Gbit/s");
    settings.queue_capacity = 20_000;
    let mut rig = Rig::new(&settings);
    let asks = |sender: [u8; 2]| {
        let mac = [2, 0, 0, 9, sender[0], sender[1]];
        let mut frame = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac].concat();
        frame.extend([10, 1, sender[0], sender[1]]);
        frame.extend([0; 6]);
        frame.extend(OWN.octets());
        frame
    };
    let (mut answered, mut asked) = (0, 0);
    // Ten seconds, in which one asks 5,000 times a second, and 200 others ten times each.
    for step in 0..10_000_u64 {
        rig.advance_to(step * 1_000_000);
        for _ in 0..5 {
            rig.deliver(EDGE, &asks([0, 1]));
        }
        rig.turn();
        while rig.twins.from_worker.try_recv().is_ok() {}
        if step % 5 == 0 {
            let host = u8::try_from(step / 5 % 200).unwrap();
            asked += 1;
            rig.deliver(EDGE, &asks([1, host]));
            rig.turn();
            answered += u32::from(rig.twins.from_worker.try_recv().is_ok());
        }
    }
    // A sixteenth of them, on average, share with him.
    assert!(answered * 5 > asked * 4, "{answered} of {asked}");
}

/// Control traffic has a queue of its own, which is emptied first.
#[test]
fn control_traffic_waits_behind_nothing() {
    let mut settings = settings("10Gbit/s");
    settings.queue_capacity = 40;
    let mut rig = Rig::new(&settings);
    let bgp = Udp {
        ports: (1, 179),
        protocol: 6,
        ..Udp::new(HOST, OWN, 1, 20)
    }
    .frame();
    let other = Udp::new(HOST, OWN, 4000, 20).frame();
    for _ in 0..50 {
        rig.deliver(EDGE, &other);
        rig.turn();
    }
    rig.deliver(EDGE, &bgp);
    rig.turn();
    use voicelane_dataplane::device::Buffer as _;
    let (_, first) = rig.twins.from_worker.try_recv().unwrap();
    assert_eq!(first.bytes(), bgp);
    assert_eq!(rig.twins.from_worker.try_iter().count(), 20);
    let refused = rig.report().interfaces[0].refused_punts;
    assert_eq!(refused[PuntClass::Local.index()], 30);
    // And in the other direction.
    let send = |rig: &Rig, frame: &[u8]| {
        let frame = (InterfaceIndex::from(CORE), rig.pool.frame(frame));
        rig.twins.to_worker.try_send(frame).is_ok()
    };
    let others = (0..50).filter(|_| send(&rig, &other)).count();
    assert_eq!(others, 20);
    assert!(send(&rig, &bgp));
}

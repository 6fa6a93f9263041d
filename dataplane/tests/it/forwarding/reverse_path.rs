//! Reverse-path filtering: whose source the routes do not lead back to has no way on without a session.

use crate::common::*;
use voicelane_dataplane::{
    control::{Answer, NextHop, Request},
    device::Buffer as _,
    policy::{InterfacePolicy, Offence, Policy, PolicySpec, ReversePath, Trust},
    session::{EntrySpec, Ingress},
    stats::DropReason,
    units::{InterfaceIndex, TickRate},
};

/// The same of each interface.
fn policy(reverse_path: ReversePath) -> Box<Policy> {
    let interface = InterfacePolicy {
        reverse_path,
        ..Trust::Bleach.into()
    };
    let spec = PolicySpec {
        rules: vec![],
        interfaces: vec![interface; 3],
        ..PolicySpec::default()
    };
    Policy::new(&spec, 1, TickRate::from_hz(CLOCK_HZ)).unwrap()
}

/// The edge port has VLAN 100. 10.1/16 is behind the port, 10.6/16 behind the VLAN, 10.3/16 behind the
/// port with neighbours that are not known, 10.7/16 behind both, 10.4/16 is a black hole, and
/// 10.2/16 behind the core.
fn rig(reverse_path: ReversePath) -> Rig {
    let mut settings = settings("1Gbit/s");
    settings.ports[0].vlans = vec![vlan(100, Trust::Bleach)];
    let mut rig = Rig::new(&settings);
    let [edge, core] = [EDGE, CORE].map(InterfaceIndex::from);
    let both = voicelane_dataplane::Adjacency::Resolve;
    rig.route(6, both, "10.6.0.0", 16);
    rig.route(6, both, "2001:db8:6::", 48);
    rig.route(7, both, "10.7.0.0", 16);
    for (number, interfaces) in [
        (1, &[edge][..]),
        (2, &[core]),
        (3, &[edge]),
        (6, &[EDGE_100]),
        (7, &[edge, EDGE_100]),
    ] {
        rig.ways_in(number, interfaces);
    }
    rig.set_policy(policy(reverse_path));
    rig
}

/// Whether a packet from an address goes on that came in on the edge port, and on its VLAN.
fn goes_on(rig: &mut Rig, frame: &[u8]) -> [bool; 2] {
    [frame.to_vec(), tagged(frame, 100)].map(|frame| {
        rig.deliver(EDGE, &frame);
        rig.turn();
        let punted = rig.twins.from_worker.try_iter().count();
        rig.sent(CORE).len() + punted == 1
    })
}

#[test]
fn sources_must_be_where_the_routes_lead() {
    for (source, strict, loose) in [
        ("10.1.0.5", [true, false], [true, true]),
        ("10.6.0.5", [false, true], [true, true]),
        ("10.3.0.5", [true, false], [true, true]),
        ("10.7.0.5", [true, true], [true, true]),
        ("10.2.0.9", [false, false], [true, true]),
        ("10.4.0.5", [false, false], [false, false]),
        ("10.9.0.5", [false, false], [false, false]),
    ] {
        let frames = [
            Udp::new(source.parse().unwrap(), FAR, 5000, 100).frame(),
            // For the router itself, too.
            Udp::new(source.parse().unwrap(), OWN, 5000, 100).frame(),
        ];
        for frame in frames {
            for (reverse_path, expected) in [
                (ReversePath::Strict, strict),
                (ReversePath::Loose, loose),
                (ReversePath::Off, [true, true]),
            ] {
                let mut rig = rig(reverse_path);
                let on = goes_on(&mut rig, &frame);
                assert_eq!(on, expected, "{source} {reverse_path}");
                for (interface, on) in [(0, on[0]), (2, on[1])] {
                    let report = rig.report();
                    let drops = report.interfaces[interface].drops;
                    let dropped = drops[DropReason::ReversePath.index()];
                    assert_eq!(dropped, u64::from(!on), "{source} {reverse_path}");
                    let senders = &report.policy.interfaces[interface].senders;
                    let listed = senders.iter().any(|it| {
                        it.offence == Offence::ReversePath && it.address.to_string() == source
                    });
                    assert_eq!(listed, !on, "{source} {reverse_path}");
                }
            }
        }
    }
}

#[test]
fn ipv6_is_asked_alike() {
    for (source, strict) in [
        ("2001:db8:1::5", [true, false]),
        ("2001:db8:6::5", [false, true]),
        ("2001:db8:2::5", [false, false]),
        ("2001:db8:9::5", [false, false]),
    ] {
        let frame = Udp6::new(source.parse().unwrap(), FAR6, 5000, 100).frame();
        let on = goes_on(&mut rig(ReversePath::Strict), &frame);
        assert_eq!(on, strict, "{source}");
    }
}

/// A default route counts as any other.
#[test]
fn a_default_route_leads_to_all() {
    let mut rig = rig(ReversePath::Strict);
    rig.route(8, voicelane_dataplane::Adjacency::Resolve, "0.0.0.0", 0);
    rig.ways_in(8, &[EDGE_100]);
    let frame = Udp::new("198.51.100.7".parse().unwrap(), FAR, 5000, 100).frame();
    assert_eq!(goes_on(&mut rig, &frame), [false, true]);
    // A next hop that is used anew leads nowhere before it is said.
    let next_hop = NextHop(9);
    let ways_in = Request::SetWaysIn {
        next_hop: NextHop(0),
        interfaces: [EDGE_100].into_iter().collect(),
    };
    assert!(matches!(rig.ask(ways_in), Answer::Route(Err(_))));
    rig.route(
        next_hop.0,
        voicelane_dataplane::Adjacency::Resolve,
        "198.51.100.0",
        24,
    );
    assert_eq!(goes_on(&mut rig, &frame), [false, false]);
}

/// What the kernel must hear whatever it comes from: DHCP, neighbour discovery, groups. And a session's
/// packets, which are bound to their interface.
#[test]
fn what_has_no_source_yet_and_sessions_are_not_asked() {
    let mut rig = rig(ReversePath::Strict);
    let dhcp = Udp::new(
        "0.0.0.0".parse().unwrap(),
        "255.255.255.255".parse().unwrap(),
        68,
        300,
    );
    let group = Udp::new(
        "10.9.9.9".parse().unwrap(),
        "224.0.0.5".parse().unwrap(),
        5000,
        100,
    );
    let solicitation = Udp6::new("::".parse().unwrap(), "ff02::1".parse().unwrap(), 1, 40);
    let local = Udp6::new("fe80::5".parse().unwrap(), OWN6, 1, 40);
    let frames = [
        dhcp.frame(),
        group.frame(),
        solicitation.frame(),
        local.frame(),
    ];
    for frame in frames {
        rig.deliver(EDGE, &frame);
        rig.turn();
        let (_, punted) = rig.twins.from_worker.try_recv().unwrap();
        assert_eq!(punted.bytes(), frame);
    }
    let call = Udp::new("10.9.9.9".parse().unwrap(), FAR, 4000, 172);
    rig.install(vec![EntrySpec {
        ingress: Ingress::Interface(EDGE.into()),
        ..call.session("80kbit/s", 3_000)
    }]);
    assert_eq!(goes_on(&mut rig, &call.frame()), [true, false]);
}

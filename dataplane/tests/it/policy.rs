//! Sessions, rules, trust, aggregates: who decides a packet's class, and that a change of the rules
//! is one moment.

mod meters;

use crate::common::{policy::*, *};
use voicelane_dataplane::{
    diffserv::Dscp,
    policy::{Action, DscpMap, Match, PolicySpec, Trust},
    session::Protocol,
    stats::DropReason,
    units::InterfaceIndex,
};

#[test]
fn a_session_goes_before_a_rule_and_a_rule_before_trust() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let call = claiming(Dscp::CS6);
    assert_eq!(leaves_with(&mut rig, &call.frame()), Dscp::DF, "trust");
    set_policy(
        &mut rig,
        &spec(vec![rule("all", Match::default(), Action::Mark(Dscp::CS5))]),
        1,
    );
    assert_eq!(leaves_with(&mut rig, &call.frame()), Dscp::CS5, "the rule");
    rig.install(vec![call.session("80kbit/s", 10_000)]);
    assert_eq!(
        leaves_with(&mut rig, &call.frame()),
        Dscp::EF,
        "the session"
    );
    let other = Udp {
        ports: (4000, 4001),
        ..call.clone()
    };
    assert_eq!(leaves_with(&mut rig, &other.frame()), Dscp::CS5);
    // A rule that drops all does not reach it, either.
    set_policy(
        &mut rig,
        &spec(vec![rule("all", Match::default(), Action::Drop)]),
        2,
    );
    assert_eq!(leaves_with(&mut rig, &call.frame()), Dscp::EF);
    assert_eq!(rig.dropped_for(&other.frame()), Some(DropReason::RuleDrop));
    // Kept is kept, where trust would bleach; ECN is nobody's business.
    set_policy(
        &mut rig,
        &spec(vec![rule("all", Match::default(), Action::Keep)]),
        3,
    );
    let kept = rig.forward(&other.frame()).unwrap();
    assert_eq!((dscp(&kept), kept[15] & 3), (Dscp::CS6, 1));
    let report = rig.report();
    assert_eq!(report.policy.generation, 3);
    let matched = report.policy.rules[0].matched;
    assert_eq!(
        (matched.packets, matched.bytes),
        (4, 4 * 200),
        "counters go with the name"
    );
    assert_eq!(report.interfaces[0].bleached_packets, 1);
}

/// Each field, with a packet that it says yes to and the nearest ones that it says no to.
#[test]
fn each_field_says_yes_and_no() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let call = claiming(Dscp::CS6);
    let call6 = Udp6 {
        class: Dscp::CS6.number() << 2,
        ..Udp6::new(HOST6, FAR6, 4000, 172)
    };
    let tcp = Udp {
        protocol: 6,
        ..call.clone()
    };
    let ef = claiming(Dscp::EF);
    let neighbour = Udp {
        source: [10, 1, 1, 0].into(),
        ..call.clone()
    };
    let neighbour6 = Udp6 {
        source: "2001:db8:1:1::5".parse().unwrap(),
        ..call6.clone()
    };
    let [from_5060, to_5060] = [(5060, 4000), (4000, 5060)].map(|ports| Udp {
        ports,
        ..call.clone()
    });
    let to_5062 = Udp {
        ports: (4000, 5062),
        ..call.clone()
    };
    let to_5060_6 = Udp6 {
        ports: (4000, 5060),
        ..call6.clone()
    };
    let chained = Udp6 {
        extensions: (0, vec![17, 0, 0, 0, 0, 0, 0, 0]),
        ..to_5060_6.clone()
    };
    let optioned = Udp {
        options: vec![1; 8],
        ..to_5060.clone()
    };
    let follower = Udp {
        fragment: 100,
        ..to_5060.clone()
    };
    let first = Udp {
        fragment: 0x2000,
        ..to_5060.clone()
    };
    let icmp = Udp {
        protocol: 1,
        ..to_5060.clone()
    };
    let fragment6 = |offset: u8, ports| Udp6 {
        extensions: (44, vec![17, 0, 0, offset << 3 | 1, 0, 0, 0, 9]),
        ports,
        ..call6.clone()
    };
    let (first6, follower6) = (fragment6(0, (4000, 5060)), fragment6(1, (4000, 5060)));
    let interfaces = |index| Match {
        interfaces: vec![InterfaceIndex(index)],
        ..Match::default()
    };
    let sources = |address, length| Match {
        sources: prefix(address, length),
        ..Match::default()
    };
    let destinations = |address, length| Match {
        destinations: prefix(address, length),
        ..Match::default()
    };
    let protocol = |number| Match {
        protocols: vec![Protocol(number)],
        ..Match::default()
    };
    let dscps = Match {
        dscps: vec![Dscp::CS6, Dscp::CS5],
        ..Match::default()
    };
    let from_port = Match {
        source_ports: vec![5060..=5061],
        ..Match::default()
    };
    let v4 = |packet: &Udp| packet.frame();
    let v6 = |packet: &Udp6| packet.frame();
    let signalling = || to_port(5060..=5061);
    for (matches, yes, no) in [
        (interfaces(0), vec![v4(&call), v6(&call6)], vec![]),
        (interfaces(1), vec![], vec![v4(&call), v6(&call6)]),
        (
            sources("10.1.0.9", 24),
            vec![v4(&call)],
            vec![v4(&neighbour), v6(&call6)],
        ),
        (
            sources("2001:db8:1::9", 64),
            vec![v6(&call6)],
            vec![v6(&neighbour6), v4(&call)],
        ),
        (
            destinations("10.2.0.7", 32),
            vec![v4(&call)],
            vec![v6(&call6)],
        ),
        (destinations("10.2.0.8", 32), vec![], vec![v4(&call)]),
        (
            destinations("2001:db8:2::7", 128),
            vec![v6(&call6)],
            vec![v4(&call)],
        ),
        (destinations("::", 0), vec![v6(&call6)], vec![v4(&call)]),
        (
            protocol(17),
            vec![v4(&call), v6(&chained), v4(&follower)],
            vec![v4(&tcp), v4(&icmp)],
        ),
        (
            protocol(44),
            vec![v6(&follower6)],
            vec![v6(&first6), v6(&call6)],
        ),
        (
            from_port,
            vec![v4(&from_5060)],
            vec![v4(&to_5060), v4(&icmp)],
        ),
        (
            signalling(),
            vec![
                v4(&to_5060),
                v6(&to_5060_6),
                v6(&chained),
                v4(&optioned),
                v4(&first),
                v6(&first6),
            ],
            vec![
                v4(&from_5060),
                v4(&to_5062),
                v4(&follower),
                v6(&follower6),
                v4(&icmp),
            ],
        ),
        (dscps, vec![v4(&call), v6(&call6)], vec![v4(&ef)]),
    ] {
        set_policy(
            &mut rig,
            &spec(vec![rule("r", matches.clone(), Action::Mark(Dscp::AF41))]),
            1,
        );
        for (frames, expected) in [(yes, Dscp::AF41), (no, Dscp::DF)] {
            for frame in frames {
                assert_eq!(
                    leaves_with(&mut rig, &frame),
                    expected,
                    "{matches:?} {frame:02x?}"
                );
            }
        }
    }
}

#[test]
fn code_points_are_remarked_by_the_map_and_what_it_does_not_name_stays() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let map = DscpMap::IDENTITY
        .with(Dscp::EF, Dscp::AF41)
        .with(Dscp::DF, Dscp::LE);
    let spec = PolicySpec {
        rules: vec![],
        interfaces: vec![Trust::Remark(map).into()],
        ..PolicySpec::default()
    };
    set_policy(&mut rig, &spec, 1);
    for own in Dscp::ALL {
        let expected = match own {
            Dscp::EF => Dscp::AF41,
            Dscp::DF => Dscp::LE,
            other => other,
        };
        assert_eq!(leaves_with(&mut rig, &claiming(own).frame()), expected);
    }
    assert_eq!(rig.report().interfaces[0].bleached_packets, 2);
    // An interface that the policy does not know is not trusted.
    let from_core = Udp {
        mac: CORE_MAC,
        ..Udp::new(FAR, HOST, 4000, 172)
    };
    rig.deliver(
        CORE,
        &Udp {
            tos: 46 << 2,
            ..from_core
        }
        .frame(),
    );
    rig.turn();
    assert_eq!(dscp(&rig.sent(EDGE)[0].1), Dscp::DF);
}

/// Under traffic, with a change between any two bursts: each burst is of one policy, which is the one
/// that was set last, and nothing is lost.
#[test]
fn each_burst_sees_one_policy_and_a_swap_loses_nothing() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let marks = [Dscp::CS5, Dscp::AF41, Dscp::CS2];
    let frame = claiming(Dscp::EF).frame();
    let mut expected = Dscp::DF;
    for round in 0..3_000_usize {
        let packets = 1 + round * 7 % 64;
        for _ in 0..packets {
            rig.deliver(EDGE, &frame);
        }
        // The request is taken in this turn, behind the burst.
        let old = (round % 3 != 1).then(|| {
            let mark = Action::Mark(marks[round % marks.len()]);
            let policy = spec(vec![rule("all", Match::default(), mark)]);
            set_policy(&mut rig, &policy, round as u64)
        });
        if old.is_none() {
            rig.turn();
        }
        let sent = rig.sent(CORE);
        assert_eq!(sent.len(), packets, "round {round}");
        for (_, frame) in sent {
            assert_eq!(dscp(&frame), expected, "round {round}");
        }
        if old.is_some() {
            expected = marks[round % marks.len()];
        }
        rig.advance_to(rig.now + 100_000);
    }
    assert_eq!(rig.report().interfaces[0].drops.iter().sum::<u64>(), 0);
    assert_eq!(rig.pool.in_use(), 0);
    rig.invariants();
}

/// The order of the rules is that of the file, before and after it is written in another one.
#[test]
fn reordered_rules_have_exactly_the_new_order() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let rules = [
        rule("narrow", to_port(5060..=5060), Action::Mark(Dscp::CS5)),
        rule("wide", to_port(5000..=5999), Action::Mark(Dscp::AF41)),
        rule("all", Match::default(), Action::Mark(Dscp::CS2)),
    ];
    let mut expected_counts = [0_u64; 3];
    for (generation, order) in [
        [0, 1, 2],
        [1, 0, 2],
        [2, 1, 0],
        [0, 2, 1],
        [1, 2, 0],
        [2, 0, 1],
    ]
    .into_iter()
    .enumerate()
    {
        let ordered = order.map(|index: usize| rules[index].clone());
        set_policy(&mut rig, &spec(ordered.to_vec()), generation as u64);
        for port in [5060, 5061, 80] {
            let matching = |&index: &usize| match index {
                0 => port == 5060,
                1 => (5000..6000).contains(&port),
                _ => true,
            };
            let winner = order.into_iter().find(|index| matching(index)).unwrap();
            let Action::Mark(mark) = rules[winner].action else {
                panic!()
            };
            let frame = Udp::new(HOST, FAR, port, 100).frame();
            assert_eq!(leaves_with(&mut rig, &frame), mark, "{order:?} {port}");
            expected_counts[winner] += 1;
        }
        let report = rig.report();
        for (place, index) in order.into_iter().enumerate() {
            let matched = report.policy.rules[place].matched.packets;
            assert_eq!(matched, expected_counts[index], "{order:?} {index}");
        }
    }
}

#[test]
fn whoever_claims_most_is_known() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let thief = Udp {
        source: [10, 1, 0, 66].into(),
        ..claiming(Dscp::EF)
    };
    let thief6 = Udp6 {
        class: Dscp::CS6.number() << 2,
        ..Udp6::new(HOST6, FAR6, 1, 172)
    };
    let call = claiming(Dscp::EF);
    rig.install(vec![call.session("80Mbit/s", 100_000)]);
    set_policy(
        &mut rig,
        &spec(vec![rule("kept", to_port(53..=53), Action::Keep)]),
        1,
    );
    let kept = Udp {
        ports: (53, 53),
        ..call.clone()
    };
    let honest = Udp {
        ports: (1, 2),
        ..claiming(Dscp::DF)
    };
    for round in 0..300_u32 {
        let crowd = Udp {
            source: (0x0a01_0100 + round).into(),
            ..thief.clone()
        };
        for frame in [&thief, &thief, &call, &kept, &honest, &crowd] {
            rig.deliver(EDGE, &frame.frame());
        }
        rig.deliver(EDGE, &thief6.frame());
        rig.advance_to(rig.now + 1_000_000);
        rig.turn();
    }
    let report = rig.report();
    assert_eq!(report.interfaces[0].bleached_packets, 1_200);
    let mut senders = report.policy.interfaces[0].senders.clone();
    senders.sort_by_key(|sender| std::cmp::Reverse(sender.packets - sender.error));
    let first: Vec<_> = senders
        .iter()
        .take(2)
        .map(|s| {
            (
                s.address.to_string(),
                s.claims,
                s.packets - s.error,
                s.bytes,
            )
        })
        .collect();
    let expected = [
        ("10.1.0.66".to_owned(), Dscp::EF, 600, 600 * 200),
        (HOST6.to_string(), Dscp::CS6, 300, 300 * 220),
    ];
    assert_eq!(first, expected);
    assert_eq!(senders[0].last_seen.0, rig.now);
    assert!(
        senders
            .iter()
            .all(|s| ![HOST, OWN].map(Into::into).contains(&s.address))
    );
    assert!(report.policy.interfaces[1].senders.is_empty());
}

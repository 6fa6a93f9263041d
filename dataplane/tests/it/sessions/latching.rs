//! Flows whose source is learned from the first packet that comes to their destination.

use crate::common::{policy::rule, *};
use voicelane_dataplane::{
    control::{Answer, Request},
    policy::{Action, InterfacePolicy, Match, Policy, PolicySpec, ReversePath, Trust},
    session::{EntrySpec, Ingress, LatchSpec, Latched, SessionChange},
    units::{InterfaceIndex, TickRate},
    workers::Layout,
};

const EF: u8 = 46 << 2;

/// To one port, from a host at the edge, whose port and address somebody has translated.
fn call(from: u16) -> Udp {
    Udp {
        ports: (from, 4000),
        ..Udp::new(HOST, FAR, 4000, 172)
    }
}

/// To where a call goes, whose source is to be learned.
fn latch(ingress: Option<Ingress>) -> LatchSpec {
    LatchSpec {
        destination: call(4000).flow().destination,
        ingress,
        from: None,
    }
}

fn change(rig: &mut Rig, change: SessionChange) -> bool {
    match rig.ask(Request::Session(change)) {
        Answer::Session(done) => done.is_ok(),
        other => panic!("{other:?}"),
    }
}

fn wait(rig: &mut Rig, spec: LatchSpec) {
    let latch = vec![spec];
    let done = change(
        rig,
        SessionChange {
            latch,
            ..SessionChange::default()
        },
    );
    assert!(done);
}

fn learned(rig: &mut Rig) -> Vec<Latched> {
    match rig.ask(Request::ReadLatched) {
        Answer::Latched(learned) => learned,
        other => panic!("{other:?}"),
    }
}

/// The traffic class with which a frame leaves.
fn class(rig: &mut Rig, frame: &[u8]) -> u8 {
    rig.forward(frame).unwrap()[15]
}

#[test]
fn the_first_source_has_the_lane_and_no_later_one() {
    let mut rig = Rig::new(&settings("1Gbit/s"));
    wait(&mut rig, latch(None));
    let report = rig.report();
    assert_eq!((report.entries, report.latches), (1, 1));
    assert_eq!(learned(&mut rig), []);
    // What goes elsewhere is of no interest, and what learns has no lane yet.
    let elsewhere = Udp::new(HOST, "10.2.0.8".parse().unwrap(), 4000, 172);
    for frame in [elsewhere.frame(), call(4000).frame(), call(4001).frame()] {
        assert_eq!(class(&mut rig, &frame), 0);
    }
    let flow = call(4000).flow();
    let on = InterfaceIndex::from(EDGE);
    let expected = Latched { flow, on };
    // Until it is told to stop; to be told to wait again changes nothing.
    for _ in 0..2 {
        assert_eq!(learned(&mut rig), [expected]);
        wait(&mut rig, latch(None));
    }
    let spec = call(4000).session("80kbit/s", 3_000);
    let install = SessionChange {
        install: vec![EntrySpec {
            ingress: Ingress::Interface(on),
            ..spec
        }],
        unlatch: vec![flow.destination],
        ..SessionChange::default()
    };
    assert!(change(&mut rig, install));
    assert_eq!(learned(&mut rig), []);
    let report = rig.report();
    assert_eq!((report.entries, report.latches), (1, 0));
    assert_eq!(class(&mut rig, &call(4000).frame()), EF);
    assert_eq!(class(&mut rig, &call(4001).frame()), 0);
    assert_eq!(learned(&mut rig), []);
    rig.invariants();
}

#[test]
fn who_comes_from_elsewhere_teaches_nothing() {
    let mut settings = settings("1Gbit/s");
    settings.ports[0].vlans = vec![vlan(100, Trust::Bleach)];
    let other = Some(Ingress::Interface(EDGE_100));
    let here = Some(Ingress::Interface(EDGE.into()));
    let from = |last| Some(std::net::Ipv4Addr::new(10, 1, 0, last).into());
    for (ingress, from, learns) in [
        (None, None, true),
        (here, None, true),
        (Some(Ingress::Edge), from(5), true),
        (other, None, false),
        (Some(Ingress::Core), None, false),
        (None, from(6), false),
        (here, from(6), false),
    ] {
        let mut rig = Rig::new(&settings);
        let spec = LatchSpec {
            from,
            ..latch(ingress)
        };
        wait(&mut rig, spec);
        rig.forward(&call(4000).frame()).unwrap();
        assert_eq!(learned(&mut rig).len(), usize::from(learns), "{spec:?}");
        let refused = rig.report().latch_refused_packets;
        assert_eq!(refused, u64::from(!learns), "{spec:?}");
    }
}

/// Whoever claims another's address, and who has a session already.
#[test]
fn what_is_dropped_and_what_has_a_session_teaches_nothing() {
    let mut rig = Rig::new(&settings("1Gbit/s"));
    rig.ways_in(2, &[CORE.into()]);
    let interface = InterfacePolicy {
        reverse_path: ReversePath::Strict,
        ..Trust::Bleach.into()
    };
    let spec = PolicySpec {
        rules: vec![],
        interfaces: vec![interface; 2],
        ..PolicySpec::default()
    };
    rig.set_policy(Policy::new(&spec, 1, TickRate::from_hz(CLOCK_HZ)).unwrap());
    wait(&mut rig, latch(None));
    let spoofed = Udp::new("10.2.0.9".parse().unwrap(), FAR, 4000, 172);
    rig.deliver(EDGE, &spoofed.frame());
    rig.turn();
    assert_eq!(learned(&mut rig), []);
    rig.ways_in(1, &[EDGE.into()]);
    rig.install(vec![EntrySpec {
        ingress: Ingress::Edge,
        ..call(4000).session("80kbit/s", 3_000)
    }]);
    assert_eq!(class(&mut rig, &call(4000).frame()), EF);
    assert_eq!(learned(&mut rig), []);
}

/// Whom the operator's rules keep out has no lane by being the first.
#[test]
fn what_a_rule_drops_teaches_nothing() {
    let mut rig = Rig::new(&settings("1Gbit/s"));
    let everything = rule("everything", Match::default(), Action::Drop);
    let spec = PolicySpec {
        rules: vec![everything],
        interfaces: vec![Trust::Bleach.into(); 2],
        ..PolicySpec::default()
    };
    rig.set_policy(Policy::new(&spec, 1, TickRate::from_hz(CLOCK_HZ)).unwrap());
    wait(&mut rig, latch(None));
    rig.deliver(EDGE, &call(4000).frame());
    rig.turn();
    assert_eq!(learned(&mut rig), []);
}

#[test]
fn ipv6_learns_alike() {
    let mut rig = Rig::new(&settings("1Gbit/s"));
    let call = Udp6::new(HOST6, FAR6, 4000, 152);
    let destination = call.flow().destination;
    wait(
        &mut rig,
        LatchSpec {
            destination,
            ..latch(None)
        },
    );
    rig.forward(&call.frame()).unwrap();
    let learned = learned(&mut rig);
    assert_eq!(learned.len(), 1);
    assert_eq!(learned[0].flow, call.flow());
}

/// Flows that wait have a place each, which is theirs when they have learned; and what is refused changes
/// nothing.
#[test]
fn places_are_kept_for_those_who_wait() {
    let mut settings = settings("1Gbit/s");
    settings.session_entries = 2;
    let mut rig = Rig::new(&settings);
    wait(&mut rig, latch(None));
    rig.forward(&call(4000).frame()).unwrap();
    let install = |ports: &[u16]| SessionChange {
        install: ports
            .iter()
            .map(|&port| call(port).session("80kbit/s", 3_000))
            .collect(),
        ..SessionChange::default()
    };
    assert!(!change(&mut rig, install(&[1, 2])), "there is one place");
    let two = SessionChange {
        latch: vec![
            LatchSpec {
                destination: "10.2.0.7:9".parse().unwrap(),
                ..latch(None)
            },
            LatchSpec {
                destination: "10.2.0.7:10".parse().unwrap(),
                ..latch(None)
            },
        ],
        unlatch: vec![],
        ..SessionChange::default()
    };
    assert!(!change(&mut rig, two));
    let refused = SessionChange {
        unlatch: vec![latch(None).destination],
        ..install(&[1, 2, 3])
    };
    assert!(!change(&mut rig, refused));
    assert_eq!(learned(&mut rig).len(), 1, "it waits as it did");
    assert!(change(&mut rig, install(&[1])));
    let own = SessionChange {
        unlatch: vec![latch(None).destination],
        ..install(&[4000])
    };
    assert!(change(&mut rig, own));
    assert_eq!(rig.report().entries, 2);
    rig.invariants();
}

/// Each of several workers may learn from another packet: the control side hears of all.
#[test]
fn several_workers_tell_what_each_has_learned() {
    let layout = Layout {
        workers: 2,
        schedulers: 0,
    };
    let mut rig = Rig::with(&settings("1Gbit/s"), layout);
    wait(&mut rig, latch(None));
    assert_eq!(rig.report().latches, 1);
    for from in [4000, 4001] {
        rig.deliver(EDGE, &call(from).frame());
        rig.turn();
    }
    let learned = learned(&mut rig);
    assert_eq!(learned.len(), 2, "{learned:?}");
    assert_ne!(learned[0].flow, learned[1].flow);
    rig.invariants();
}

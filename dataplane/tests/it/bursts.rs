//! What becomes of a packet does not depend on which others came with it.

use std::{collections::BTreeMap, num::NonZeroU16};

use crate::common::{
    conserved::{assert_conserved, dropped, lost_in_queues},
    reference::{Exit, Hop, Ledger, Packet, Reference, code_point},
    *,
};
use proptest::prelude::*;
use voicelane_dataplane::{
    Adjacency, Paths,
    control::{Answer, NextHop, Request},
    device::Buffer as _,
    policy::Trust,
    stats::{DropReason, InterfaceCounters, PuntReason},
    trace::{Fate, MAX_RECORDS, TraceFilter, TraceRecord, Tracer},
    units::{InterfaceIndex, MacAddress, PortIndex},
};

/// Another neighbour at the core port.
const PEER_2: MacAddress = MacAddress([2, 0, 0, 0, 2, 3]);

/// A call with a rate to spare, and one whose packets soon exceed theirs.
fn calls() -> [Udp; 2] {
    [4000, 4002].map(|port| Udp::new(HOST, FAR, port, 172))
}

fn call6() -> Udp6 {
    Udp6::new(HOST6, FAR6, 4000, 172)
}

/// A frame of each kind that the stages tell apart.
fn kinds() -> Vec<Vec<u8>> {
    let to = |destination: [u8; 4]| Udp::new(HOST, destination.into(), 5000, 100);
    let to6 = |destination: &str| Udp6::new(HOST6, destination.parse().unwrap(), 5000, 80);
    let [call, tight] = calls();
    let changed = |change: &dyn Fn(&mut Udp)| {
        let mut packet = to([10, 2, 0, 7]);
        change(&mut packet);
        packet
    };
    let part = |fragment| {
        let mut part = call.clone();
        part.fragment = fragment;
        part
    };
    let mut frames: Vec<_> = [
        changed(&|packet| packet.tos = 46 << 2 | 1),
        changed(&|packet| packet.options = vec![1; 8]),
        changed(&|packet| packet.protocol = 6),
        changed(&|packet| packet.protocol = 50),
        changed(&|packet| packet.ttl = 1),
        changed(&|packet| packet.payload = 1_800),
        part(0x2000),
        part(0x0019),
        call,
        tight,
        to([10, 2, 9, 9]),
        to([10, 3, 0, 1]),
        to([10, 4, 0, 1]),
        to([10, 5, 0, 7]),
        to([10, 6, 0, 7]),
        to([10, 7, 0, 1]),
        to([10, 8, 0, 1]),
        to([10, 9, 0, 1]),
        to([10, 1, 0, 1]),
    ]
    .iter()
    .map(Udp::frame)
    .collect();
    frames.push(call6().frame());
    frames.extend(["2001:db8:2::9", "2001:db8:3::1", "2001:db8:5::7"].map(|it| to6(it).frame()));
    let mut expired = to6("2001:db8:2::9");
    expired.hop_limit = 1;
    frames.push(expired.frame());
    let known = [100, 0, 999].map(|tci| tagged(&frames[8], tci));
    frames.extend(known);
    // The calls in frames that are filled up: with their way, over a tag, and to the kernel.
    let filled = [8, 19, 18, 24].map(|kind| with_trailer(&frames[kind], 700));
    frames.extend(filled);
    frames.push(vec![0; 10]);
    frames
}

/// Ways out to two neighbours, to a VLAN, and over a group, which has one path: which of several a flow
/// takes is random.
fn rig(core_rate: &str) -> Rig {
    let mut settings = settings(core_rate);
    settings.ports[0].vlans = vec![vlan(100, Trust::Keep), vlan(200, Trust::Keep)];
    settings.ports[1].vlans = vec![vlan(300, Trust::Keep)];
    let mut rig = Rig::new(&settings);
    route_to_vlans(&mut rig);
    let second = Adjacency::Forward {
        interface: InterfaceIndex::from(CORE),
        destination: PEER_2,
        source: CORE_MAC,
    };
    rig.route(8, second, "10.7.0.0", 16);
    let one = NonZeroU16::new(1).unwrap();
    let [next_hop, group] = [8, 9].map(NextHop);
    let paths = Box::new(Paths::new(&[(next_hop, one)]).unwrap());
    for request in [
        Request::SetPaths {
            next_hop: group,
            paths,
        },
        Request::SetRoute {
            prefix: "10.8.0.0".parse().unwrap(),
            length: 16,
            next_hop: group,
        },
    ] {
        assert!(matches!(rig.ask(request), Answer::Route(Ok(()))));
    }
    let [call, tight] = calls();
    rig.install(vec![
        call.session("1Gbit/s", 1_000_000),
        tight.session("80kbit/s", 600),
        call6().session("1Gbit/s", 1_000_000),
    ]);
    rig
}

/// A call's packets are EF, what else comes in at the edge is default, and VLANs keep what they have.
fn permitted(packet: &Packet) -> u64 {
    let own = code_point(packet.dscp);
    let calls = [Some((4000, 4000)), Some((4002, 4002))];
    let to_far = packet.destination == FAR || packet.destination == FAR6;
    if packet.interface != 0 {
        own
    } else if to_far && packet.protocol == 17 && calls.contains(&packet.ports) {
        code_point(46)
    } else if packet.fragment {
        code_point(46) | code_point(0)
    } else {
        code_point(0)
    }
}

fn reference() -> Reference {
    let mut reference = Reference::usual(permitted);
    let second = Hop::Neighbour {
        interface: 1,
        source: CORE_MAC.0,
        destination: PEER_2.0,
    };
    for prefix in ["10.7.0.0", "10.8.0.0"] {
        reference.routes.push((prefix.parse().unwrap(), 16, second));
    }
    reference
}

/// The traffic class of a frame, behind its tag if it has one.
fn class(frame: &[u8]) -> u8 {
    let ip = if frame[12] == 0x81 { 18 } else { 14 };
    match frame[ip] >> 4 {
        4 => frame[ip + 1],
        _ => frame[ip] << 4 | frame[ip + 1] >> 4,
    }
}

/// What came out, and what was counted.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// By port and code point, in order: between these they may overtake each other.
    sent: BTreeMap<(PortIndex, u8), Vec<Vec<u8>>>,
    punted: Vec<(InterfaceIndex, Vec<u8>)>,
    interfaces: String,
    ports: Vec<String>,
}

/// Each burst, 0.2 ms after the one before, whole or packet by packet, with something before it in the
/// core port's queues (`waiting`) or not.
fn outcome(bursts: &[Vec<usize>], whole: bool, waiting: bool) -> Outcome {
    let mut rig = rig(if waiting { "100Mbit/s" } else { "100Gbit/s" });
    outcome_of(&mut rig, bursts, whole, waiting)
}

fn outcome_of(rig: &mut Rig, bursts: &[Vec<usize>], whole: bool, waiting: bool) -> Outcome {
    let kinds = kinds();
    let (reference, mut ledger) = (reference(), Ledger::default());
    rig.advance_to(1_000_000);
    if waiting {
        // More than the shaper's credit for a millisecond.
        let before = Udp::new(HOST, FAR, 6000, 400).frame();
        for _ in 0..64 {
            ledger.went_in(&reference.fate(EDGE.0, None, &before));
            rig.deliver(EDGE, &before);
        }
        rig.turn();
    }
    let mut sent = BTreeMap::new();
    let mut collect = |rig: &mut Rig, ledger: &mut Ledger| {
        for port in [EDGE, CORE] {
            for (_, frame) in rig.sent(port) {
                ledger.came_out(Exit::Port(port.0), &frame);
                let of_kind: &mut Vec<_> = sent.entry((port, class(&frame) >> 2)).or_default();
                of_kind.push(frame);
            }
        }
    };
    for burst in bursts {
        for &kind in burst {
            ledger.went_in(&reference.fate(EDGE.0, None, &kinds[kind]));
            rig.deliver(EDGE, &kinds[kind]);
            if !whole {
                rig.turn();
            }
        }
        rig.turn();
        collect(rig, &mut ledger);
        rig.advance_to(rig.now + 200_000);
    }
    for _ in 0..1_000 {
        rig.turn();
        collect(rig, &mut ledger);
        rig.advance_to(rig.now + 50_000);
    }
    let twins = rig.twins.from_worker.try_iter();
    let punted: Vec<_> = twins
        .map(|(interface, frame)| (interface, frame.bytes().to_vec()))
        .collect();
    for (interface, frame) in &punted {
        ledger.came_out(Exit::Kernel(interface.index()), frame);
    }
    let report = rig.report();
    assert_conserved(rig, &report, punted.len() as u64);
    // What did not come out exceeded its session, or found its queue full.
    let refused = [DropReason::SessionPoliced, DropReason::PuntPoliced];
    let refused = dropped(&report, &refused) + lost_in_queues(&report);
    assert_eq!(ledger.outstanding, refused);
    Outcome {
        sent,
        punted,
        interfaces: format!("{:?}", report.interfaces),
        ports: (report.ports.iter())
            .map(|port| format!("{:?}", port.port))
            .collect(),
    }
}

fn bursts() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let any_kind = 0..kinds().len();
    // Long ones of few kinds, too: they are what the stages take together.
    let few = prop::collection::vec(any_kind.clone(), 1..4);
    let of_few = (
        few,
        prop::collection::vec(any::<prop::sample::Index>(), 1..64),
    );
    let of_few = of_few.prop_map(|(few, which)| which.iter().map(|at| *at.get(&few)).collect());
    let burst = prop_oneof![prop::collection::vec(any_kind, 1..64), of_few];
    prop::collection::vec(burst, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(5), ..ProptestConfig::default() })]

    #[test]
    fn a_burst_does_what_its_packets_do_one_by_one(bursts in bursts(), waiting: bool) {
        let whole = outcome(&bursts, true, waiting);
        prop_assert_eq!(whole, outcome(&bursts, false, waiting));
    }

    /// Tracing changes nothing, and says of each packet what is counted.
    #[test]
    fn records_tell_what_counters_count(bursts in bursts(), waiting: bool, drops_only: bool) {
        let untraced = outcome(&bursts, true, waiting);
        let mut rig = rig(if waiting { "100Mbit/s" } else { "100Gbit/s" });
        let filter = TraceFilter { drops_only, ..TraceFilter::default() };
        rig.ask(Request::Trace(Some(Tracer::new(filter, MAX_RECORDS))));
        let traced = outcome_of(&mut rig, &bursts, true, waiting);
        prop_assert_eq!(traced, untraced);
        let Answer::Traced(Some(tracer)) = rig.ask(Request::Trace(None)) else {
            panic!("a tracer")
        };
        prop_assert_eq!(tracer.missed, 0);
        let interfaces = rig.report().interfaces;
        for (index, counters) in interfaces.iter().enumerate() {
            let records = tracer.records.iter();
            let here: Vec<_> = records.filter(|it| it.ingress.index() == index).collect();
            assert_told(&here, counters, drops_only);
        }
    }
}

fn assert_told(records: &[&TraceRecord], counters: &InterfaceCounters, drops_only: bool) {
    let with = |fate: &dyn Fn(Fate) -> bool| {
        records.iter().filter(|record| fate(record.fate)).count() as u64
    };
    for reason in DropReason::ALL {
        let told = with(&|fate| fate.drop_reason() == Some(reason));
        assert_eq!(told, counters.drops[reason.index()], "{}", reason.name());
    }
    let all = if drops_only {
        counters.drops.iter().sum()
    } else {
        for reason in PuntReason::ALL {
            let told = with(&|fate| fate == Fate::Punted(reason));
            assert_eq!(told, counters.punts[reason.index()], "{}", reason.name());
        }
        counters.rx_packets
    };
    assert_eq!(records.len() as u64, all);
}

/// Each kind's end is another's in the property's eyes only if it is one: all of them are met.
#[test]
fn every_kind_has_its_end() {
    let all: Vec<_> = (0..kinds().len()).collect();
    let Outcome { sent, punted, .. } = outcome(&[all.clone(), all], true, false);
    let frames: usize = sent.values().map(Vec::len).sum();
    let to = |mac: MacAddress| {
        let all = sent.values().flatten();
        all.filter(|frame| frame[..6] == mac.0).count()
    };
    assert!(to(PEER_MAC) > 20, "{}", to(PEER_MAC));
    assert_eq!((to(PEER_2), to(HOST_MAC)), (4, 2));
    assert_eq!(frames, to(PEER_MAC) + to(PEER_2) + to(HOST_MAC));
    // Resolve, local, no route, expired and oversize.
    assert_eq!(punted.len(), 16);
}

/// A report that is asked for while packets come has each of them in one place, also those that go past their
/// queue, the kernel's among them.
#[test]
fn a_report_has_all_that_came_in_its_turn() {
    let mut rig = Rig::new(&settings("1Gbit/s"));
    let [call, _] = calls();
    for round in 1..=20 {
        for _ in 0..6 {
            rig.deliver(EDGE, &call.frame());
        }
        let of_kernel = rig.pool.frame(Udp::new(FAR, HOST, 1, 1).frame());
        let to_edge = (InterfaceIndex::from(EDGE), of_kernel);
        rig.twins.to_worker.try_send(to_edge).unwrap();
        let report = rig.report();
        let received = report.ports[0].port.rx_packets;
        assert_eq!(received, 6 * round);
        assert_eq!(report.interfaces[0].twin_packets, round);
        assert_conserved(&mut rig, &report, 0);
        rig.advance_to(rig.now + 1_000_000);
    }
}

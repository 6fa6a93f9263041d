//! A session's packets come in where its source is; elsewhere they are somebody else's.

use crate::common::*;
use voicelane_dataplane::{
    control::{Answer, Request},
    policy::{Offence, Sender, Trust},
    session::{EntrySpec, FiveTuple, FlowCounters, Ingress},
    units::{InterfaceIndex, PortIndex},
};

const EF: u8 = 46 << 2;

/// The edge port has VLANs 100 (edge) and 200 (core), the core port 300 (core).
fn rig(ingress: Ingress) -> Rig {
    let mut settings = settings("1Gbit/s");
    settings.ports[0].vlans = vec![vlan(100, Trust::Bleach), vlan(200, Trust::Keep)];
    settings.ports[1].vlans = vec![vlan(300, Trust::Keep)];
    let mut rig = Rig::new(&settings);
    rig.install(calls(ingress));
    rig
}

fn calls(ingress: Ingress) -> Vec<EntrySpec> {
    [
        call().session("80kbit/s", 3_000),
        call6().session("80kbit/s", 3_000),
    ]
    .map(|spec| EntrySpec { ingress, ..spec })
    .to_vec()
}

fn call() -> Udp {
    Udp::new(HOST, FAR, 4000, 172)
}

fn call6() -> Udp6 {
    Udp6::new(HOST6, FAR6, 4000, 152)
}

/// Each interface, and how a frame comes in on it.
const WAYS_IN: [(InterfaceIndex, PortIndex, Option<u16>); 5] = [
    (InterfaceIndex(0), EDGE, None),
    (InterfaceIndex(1), CORE, None),
    (EDGE_100, EDGE, Some(100)),
    (EDGE_200, EDGE, Some(200)),
    (CORE_300, CORE, Some(300)),
];

/// The traffic class with which a frame leaves that came in this way.
fn class(
    rig: &mut Rig,
    (_, port, tag): (InterfaceIndex, PortIndex, Option<u16>),
    frame: &[u8],
) -> u8 {
    let mut frame = frame.to_vec();
    let mac = if port == EDGE { EDGE_MAC } else { CORE_MAC };
    frame[..6].copy_from_slice(&mac.0);
    let frame = tag.map_or(frame.clone(), |tag| tagged(&frame, tag));
    rig.deliver(port, &frame);
    rig.turn();
    let (_, sent) = rig.sent(CORE).pop().unwrap();
    match sent[14] >> 4 {
        4 => sent[15],
        _ => sent[14] << 4 | sent[15] >> 4,
    }
}

fn counters(rig: &mut Rig, flow: FiveTuple) -> FlowCounters {
    match rig.ask(Request::ReadFlows(vec![flow])) {
        Answer::Flows(flows) => flows[0].unwrap().counters,
        other => panic!("{other:?}"),
    }
}

/// Who spoofs on an interface.
fn spoofers(rig: &mut Rig, interface: InterfaceIndex) -> Vec<Sender> {
    let senders = rig.report().policy.interfaces[interface.index()]
        .senders
        .clone();
    let spoofs = |sender: &Sender| sender.offence == Offence::Spoofed;
    senders.into_iter().filter(spoofs).collect()
}

#[test]
fn a_call_is_known_where_its_source_is() {
    let expected: [(Ingress, &[u8]); 4] = [
        (Ingress::Interface(EDGE.into()), &[0]),
        (Ingress::Interface(EDGE_100), &[2]),
        (Ingress::Edge, &[0, 2]),
        (Ingress::Core, &[1, 3, 4]),
    ];
    for (ingress, known) in expected {
        for frame in [call().frame(), call6().frame()] {
            for way in WAYS_IN {
                let mut rig = rig(ingress);
                let flow = if frame[12] == 8 {
                    call().flow()
                } else {
                    call6().flow()
                };
                let marked = class(&mut rig, way, &frame) == EF;
                let spoofed = counters(&mut rig, flow);
                let counted = rig.report().interfaces[way.0.index()].spoofed_packets;
                let what = format!("{ingress:?} {way:?}");
                assert_eq!(marked, known.contains(&way.0.0), "{what}");
                assert_eq!(spoofed.packets, u64::from(marked), "{what}");
                assert_eq!(spoofed.spoofed_packets, u64::from(!marked), "{what}");
                assert_eq!(spoofed.spoofed_on, (!marked).then_some(way.0), "{what}");
                assert_eq!(counted, u64::from(!marked), "{what}");
                assert_eq!(
                    spoofers(&mut rig, way.0).len(),
                    usize::from(!marked),
                    "{what}"
                );
            }
        }
    }
}

/// The report that led to this: a call lost 64 to 81 % to somebody on another port who sent its
/// five-tuple.
#[test]
fn who_sends_a_calls_five_tuple_elsewhere_takes_nothing_from_it() {
    let mut rig = rig(Ingress::Interface(EDGE.into()));
    let mut false_call = call();
    false_call.tos = EF;
    let mut marked = 0;
    for packet in 0..500 {
        // Ten false ones before each packet of the call, in one burst.
        let false_frame = tagged(&false_call.frame(), 100);
        for _ in 0..10 {
            rig.deliver(EDGE, &false_frame);
        }
        rig.deliver(EDGE, &call().frame());
        rig.advance_to(packet * 20_000_000);
        rig.turn();
        let sent = rig.sent(CORE);
        assert_eq!(
            sent.len(),
            11,
            "the others go on as they would without the call"
        );
        marked += sent.iter().filter(|(_, frame)| frame[15] == EF).count();
    }
    assert_eq!(marked, 500);
    let counters = counters(&mut rig, call().flow());
    assert_eq!((counters.packets, counters.policed_packets), (500, 0));
    assert_eq!(counters.spoofed_packets, 5_000);
    let [spoofer] = spoofers(&mut rig, EDGE_100)[..] else {
        panic!("one sender");
    };
    assert_eq!((spoofer.address, spoofer.packets), (HOST.into(), 5_000));
    assert_eq!(rig.report().interfaces[0].spoofed_packets, 0);
}

#[test]
fn fragments_follow_the_same_rule() {
    let mut rig = rig(Ingress::Interface(EDGE.into()));
    let part = |fragment| {
        let mut part = call();
        part.fragment = fragment;
        part.frame()
    };
    let [here, elsewhere] = [WAYS_IN[0], WAYS_IN[2]];
    assert_eq!(class(&mut rig, elsewhere, &part(0x2000)), 0);
    assert_eq!(
        class(&mut rig, here, &part(0x0010)),
        0,
        "no first one led the way"
    );
    assert_eq!(class(&mut rig, here, &part(0x2000)), EF);
    assert_eq!(class(&mut rig, elsewhere, &part(0x0010)), 0);
    assert_eq!(class(&mut rig, here, &part(0x0010)), EF);
    let counters = counters(&mut rig, call().flow());
    assert_eq!((counters.packets, counters.spoofed_packets), (2, 2));
}

#[test]
fn a_call_that_moves_keeps_its_counters() {
    let mut rig = rig(Ingress::Interface(EDGE.into()));
    let [here, elsewhere] = [WAYS_IN[0], WAYS_IN[2]];
    assert_eq!(class(&mut rig, here, &call().frame()), EF);
    rig.install(calls(Ingress::Interface(EDGE_100)));
    assert_eq!(class(&mut rig, here, &call().frame()), 0);
    assert_eq!(class(&mut rig, elsewhere, &call().frame()), EF);
    let counters = counters(&mut rig, call().flow());
    assert_eq!((counters.packets, counters.spoofed_packets), (2, 1));
    rig.invariants();
}

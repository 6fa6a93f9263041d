//! What is written down of traced packets.

use std::collections::BTreeSet;

use voicelane_dataplane::{
    control::{Answer, Request},
    device::BURST,
    diffserv::{CodelProfile, Dscp, Management, Phb},
    policy::{Action, RuleIndex, Trust},
    session::FiveTuple,
    stats::{DropReason, PuntReason},
    trace::{Fate, FlowFilter, QueueEnd, TRACED_BYTES, TraceFilter, TraceRecord, Tracer},
    units::{InterfaceIndex, Ticks, VlanId},
    workers::Layout,
};

use crate::common::{
    policy::{rule, set_policy, spec, to_port},
    *,
};

fn begin(rig: &mut Rig, filter: &TraceFilter, packets: usize) {
    let tracer = Tracer::new(filter.clone(), packets);
    let answer = rig.ask(Request::Trace(Some(tracer)));
    assert!(matches!(answer, Answer::Traced(None)), "{answer:?}");
}

fn end(rig: &mut Rig) -> Box<Tracer> {
    match rig.ask(Request::Trace(None)) {
        Answer::Traced(Some(tracer)) => tracer,
        other => panic!("{other:?}"),
    }
}

/// What is traced of these frames, which come in at the edge in one burst.
fn traced(rig: &mut Rig, filter: &TraceFilter, frames: &[Vec<u8>]) -> Vec<TraceRecord> {
    begin(rig, filter, 100);
    frames.iter().for_each(|frame| rig.deliver(EDGE, frame));
    rig.settle();
    let mut traced = end(rig);
    assert_eq!(traced.missed, 0);
    (traced.records).sort_by_key(|record| (record.at, record.place));
    traced.records
}

fn fates(records: &[TraceRecord]) -> Vec<Fate> {
    records.iter().map(|record| record.fate).collect()
}

fn flow(from: &Udp) -> FlowFilter {
    let FiveTuple {
        source,
        destination,
        ..
    } = from.flow();
    FlowFilter {
        source: Some(source),
        destination,
    }
}

#[test]
fn a_record_has_what_each_stage_did() {
    let mut rig = Rig::new(&settings("1Gbit/s"));
    let call = Udp::new(HOST, FAR, 4000, 400);
    rig.install(vec![call.session("80kbit/s", 500)]);
    let sip = rule("sip", to_port(5060..=5060), Action::Mark(Dscp::CS5));
    set_policy(&mut rig, &spec(vec![sip]), 3);
    rig.advance_to(7_000);

    let signalling = Udp::new(HOST, FAR, 5060, 100);
    let mut damaged = call.frame();
    damaged[24] ^= 1;
    let mut arp = [&[0xff; 6][..], &HOST_MAC.0, &[8, 6]].concat();
    arp.resize(60, 0);
    let mut part = Udp::new(HOST, FAR, 9, 100);
    part.fragment = 100;
    let frames = [
        call.frame(),
        call.frame(),
        signalling.frame(),
        damaged,
        arp,
        Udp::new(HOST, [10, 3, 0, 1].into(), 9, 100).frame(),
        Udp::new(HOST, [10, 4, 0, 1].into(), 9, 100).frame(),
        part.frame(),
    ];
    let records = traced(&mut rig, &TraceFilter::default(), &frames);
    assert_eq!(
        fates(&records),
        [
            Fate::Queued,
            Fate::Dropped(DropReason::SessionPoliced),
            Fate::Queued,
            Fate::Dropped(DropReason::Ipv4Checksum),
            Fate::Punted(PuntReason::Arp),
            Fate::Punted(PuntReason::UnknownNeighbour),
            Fate::Dropped(DropReason::Blackhole),
            Fate::Queued,
        ]
    );
    let [
        sent,
        policed,
        by_rule,
        damaged,
        arp,
        unknown,
        blackhole,
        part,
    ] = &records[..]
    else {
        panic!("{records:?}")
    };

    // As it came: its headers are written behind the record.
    assert_eq!(sent.frame[..], call.frame()[..TRACED_BYTES]);
    assert_eq!((sent.frame_bytes, sent.at.0), (442, 7_000));
    let header = sent.header.unwrap();
    assert_eq!((header.flow, header.ttl), (call.flow(), 64));
    assert_eq!((header.ip_bytes, header.dscp), (428, Dscp::DF));
    assert_eq!(sent.session, Some(call.flow()));
    assert_eq!(sent.marked, Some((Dscp::EF, Phb::Telephony)));
    let exit = sent.exit.unwrap();
    assert_eq!(
        (exit.port, exit.vlan, exit.neighbour),
        (CORE, None, PEER_MAC)
    );

    assert_eq!((policed.session, policed.marked), (Some(call.flow()), None));
    assert_eq!(policed.exit, None);
    assert_eq!(by_rule.rule, Some((RuleIndex(0), 3)));
    assert_eq!(by_rule.marked, Some((Dscp::CS5, Phb::Signalling)));
    assert_eq!((damaged.header, damaged.marked), (None, None));
    assert_eq!((arp.header, arp.marked, arp.frame_bytes), (None, None, 60));
    assert_eq!(unknown.marked, Some((Dscp::DF, Phb::Standard)));
    assert_eq!((unknown.exit, blackhole.exit), (None, None));
    let header = part.header.unwrap();
    assert!(!header.has_ports && header.flow.source.port() == 0);
    assert!(part.session.is_none() && part.rule.is_none());
}

#[test]
fn only_what_is_asked_for_is_written_down() {
    let mut settings = settings("1Gbit/s");
    settings.ports[0].vlans = vec![vlan(100, Trust::Bleach), vlan(200, Trust::Bleach)];
    settings.ports[1].vlans = vec![vlan(300, Trust::Keep)];
    let mut rig = Rig::new(&settings);
    route_to_vlans(&mut rig);
    let call = Udp::new(HOST, FAR, 4000, 100);
    let other = Udp::new(HOST, FAR, 4002, 100);
    rig.install(vec![call.session("80kbit/s", 200)]);
    let to_vlan = Udp::new(HOST, FAR_VLAN, 4000, 100);
    let mut part = call.clone();
    part.fragment = 0x2000;
    let mut later = call.clone();
    later.fragment = 100;
    let frames = [
        other.frame(),
        call.frame(),
        tagged(&to_vlan.frame(), 100),
        call.frame(),
    ];

    let of = |flows| TraceFilter {
        flows,
        ..TraceFilter::default()
    };
    let policed = Fate::Dropped(DropReason::SessionPoliced);
    let records = traced(&mut rig, &of(vec![flow(&call)]), &frames);
    assert_eq!(fates(&records), [Fate::Queued, policed]);
    let any_source = FlowFilter {
        source: None,
        ..flow(&other)
    };
    let records = traced(&mut rig, &of(vec![any_source]), &frames);
    assert_eq!(fates(&records), [Fate::Queued]);
    assert_eq!(records[0].header.unwrap().flow, other.flow());

    let on_vlan = TraceFilter {
        interface: Some(EDGE_100),
        ..TraceFilter::default()
    };
    let records = traced(&mut rig, &on_vlan, &frames);
    let [record] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!(record.frame[..], to_vlan.frame()[..], "without its tag");
    let exit = record.exit.unwrap();
    assert_eq!((exit.port, exit.vlan), (CORE, VlanId::new(300).ok()));

    let drops = TraceFilter {
        drops_only: true,
        ..TraceFilter::default()
    };
    let records = traced(&mut rig, &drops, &frames);
    assert_eq!(fates(&records), [policed, policed]);

    // A later fragment shows no ports, and is its session's.
    rig.advance_to(1_000_000_000);
    let parts = [part.frame(), later.frame()];
    let records = traced(&mut rig, &of(vec![flow(&call)]), &parts);
    let shown: Vec<_> = records
        .iter()
        .map(|record| (record.session, record.header.unwrap().has_ports))
        .collect();
    assert_eq!(
        shown,
        [(Some(call.flow()), true), (Some(call.flow()), false)]
    );
}

/// What has a session is no near miss, nor is what has a session's five-tuple and comes in elsewhere.
#[test]
fn packets_near_a_flow_and_without_a_session_are_written_down() {
    let mut rig = Rig::new(&settings("1Gbit/s"));
    let call = Udp::new(HOST, FAR, 4000, 100);
    let carried = Udp::new(HOST, FAR, 4002, 100);
    rig.install(vec![
        call.session("1Gbit/s", 100_000),
        carried.session("1Gbit/s", 100_000),
    ]);
    let near = Udp::new(HOST, FAR, 4004, 100);
    let far = Udp::new(HOST, [10, 4, 0, 1].into(), 4004, 100);
    let mut part = near.clone();
    part.fragment = 100;
    let filter = TraceFilter {
        near: vec![call.flow()],
        ..TraceFilter::default()
    };
    let frames = [&call, &carried, &near, &far, &part].map(Udp::frame);
    let records = traced(&mut rig, &filter, &frames);
    let flows: Vec<_> = records.iter().map(|it| it.header.unwrap().flow).collect();
    assert_eq!(flows, [near.flow()]);

    begin(&mut rig, &filter, 100);
    let mut spoofed = call.clone();
    spoofed.mac = CORE_MAC;
    rig.deliver(CORE, &spoofed.frame());
    rig.settle();
    assert_eq!(end(&mut rig).records, []);
}

/// At full rate a search looks at every eighth packet; at less, at all.
#[test]
fn of_full_bursts_every_eighth_packet_may_be_near() {
    let mut rig = Rig::new(&settings("1Gbit/s"));
    let near = Udp::new(HOST, FAR, 4004, 100).frame();
    let filter = TraceFilter {
        near: vec![Udp::new(HOST, FAR, 4000, 100).flow()],
        ..TraceFilter::default()
    };
    for (packets, looked_at) in [(BURST - 1, BURST - 1), (BURST, BURST / 8)] {
        let records = traced(&mut rig, &filter, &vec![near.clone(); packets]);
        assert_eq!(records.len(), looked_at, "of {packets}");
    }
    // Who asks for a flow gets all.
    let exact = TraceFilter {
        flows: vec![flow(&Udp::new(HOST, FAR, 4004, 100))],
        ..TraceFilter::default()
    };
    let records = traced(&mut rig, &exact, &vec![near.clone(); BURST]);
    assert_eq!(records.len(), BURST);

    // Eight full bursts in a row: each place is looked at once.
    begin(&mut rig, &filter, 100);
    for _ in 0..8 {
        (0..BURST).for_each(|_| rig.deliver(EDGE, &near));
        rig.settle();
        rig.advance_to(rig.now + 1_000_000);
    }
    let records = end(&mut rig).records;
    let places: BTreeSet<_> = records.iter().map(|record| record.place).collect();
    assert_eq!((records.len(), places.len()), (BURST, BURST));
}

/// A full queue is in the record, not only in its counter; so is a session's five-tuple that comes in elsewhere.
#[test]
fn what_a_queue_refuses_and_what_is_spoofed_is_told() {
    let mut settings = settings("1Mbit/s");
    settings.ports[1].classes[Phb::Telephony.index()].limit_packets = 10;
    let mut rig = Rig::new(&settings);
    let call = Udp::new(HOST, FAR, 4000, 1_000);
    rig.install(vec![call.session("1Gbit/s", 1_000_000)]);
    let drops = TraceFilter {
        drops_only: true,
        ..TraceFilter::default()
    };
    let frames = vec![call.frame(); 60];
    let records = traced(&mut rig, &drops, &frames);
    let report = rig.report();
    let full = report.interfaces[0].drops[DropReason::QueueFull.index()];
    assert!(full > 0);
    assert_eq!(records.len() as u64, full);
    assert_eq!(records[0].fate, Fate::Dropped(DropReason::QueueFull));
    assert_eq!(records[0].marked, Some((Dscp::EF, Phb::Telephony)));
    assert_eq!(records[0].exit.unwrap().port, CORE);

    begin(&mut rig, &TraceFilter::default(), 2);
    let mut spoofed = call.clone();
    spoofed.mac = CORE_MAC;
    for _ in 0..5 {
        rig.deliver(CORE, &spoofed.frame());
    }
    rig.settle();
    let tracer = end(&mut rig);
    assert_eq!((tracer.records.len(), tracer.missed), (2, 3));
    let record = &tracer.records[0];
    assert_eq!(record.ingress, InterfaceIndex::from(CORE));
    assert_eq!((record.session, record.spoofed), (None, Some(call.flow())));
}

fn sent(records: &[TraceRecord]) -> Vec<u64> {
    let sent = records.iter().filter_map(|record| match record.queue_end {
        Some(QueueEnd::Sent(at)) => Some(at.0),
        _ => None,
    });
    sent.collect()
}

/// Time passes, a millisecond a step.
fn pass(rig: &mut Rig, milliseconds: u64) {
    for _ in 0..milliseconds {
        rig.advance_to(rig.now + 1_000_000);
        rig.settle();
    }
}

/// What waits is left to the next tracer, so that packets are told in their order; the last one has it as it is.
#[test]
fn a_record_says_how_its_packet_left_its_queue() {
    let mut rig = Rig::new(&settings("1Mbit/s"));
    let frame = Udp::new(HOST, FAR, 9, 1_000).frame();
    let filter = TraceFilter::default();
    begin(&mut rig, &filter, 10);
    (0..4).for_each(|_| rig.deliver(EDGE, &frame));
    rig.settle();
    let next = Tracer::new(filter.clone(), 10);
    match rig.ask(Request::Trace(Some(next))) {
        Answer::Traced(Some(tracer)) => assert_eq!(tracer.records, []),
        other => panic!("{other:?}"),
    }
    pass(&mut rig, 60);
    let left = sent(&end(&mut rig).records);
    assert_eq!(left.len(), 4);
    // The first may go at once, and the shaper's credit lets the second go earlier; each takes 8.5 ms of the wire.
    assert_eq!(left[0], 0);
    let gaps = left[1..].windows(2).map(|two| two[1] - two[0]);
    assert_eq!(
        gaps.filter(|gap| (7_500_000..9_500_000).contains(gap))
            .count(),
        2
    );

    let begun = rig.now;
    begin(&mut rig, &filter, 10);
    (0..4).for_each(|_| rig.deliver(EDGE, &frame));
    rig.settle();
    let records = end(&mut rig).records;
    assert_eq!(sent(&records), [begun]);
    let waits = records
        .iter()
        .filter(|it| it.queue_end == Some(QueueEnd::Waits));
    assert_eq!(waits.count(), 3);
}

fn ends(rig: &mut Rig) -> Vec<Option<QueueEnd>> {
    let records = end(rig).records;
    records.iter().map(|record| record.queue_end).collect()
}

/// What goes past its queue, too: it waits as long as the device does not take it, and is lost with the link.
#[test]
fn what_the_device_does_not_take_is_not_sent() {
    let mut rig = Rig::new(&settings("1Gbit/s"));
    let frame = Udp::new(HOST, FAR, 9, 1_000).frame();
    let filter = TraceFilter::default();
    rig.advance_to(1_000_000);
    rig.block(CORE, true);
    begin(&mut rig, &filter, 10);
    (0..2).for_each(|_| rig.deliver(EDGE, &frame));
    pass(&mut rig, 1);
    assert_eq!(ends(&mut rig), [Some(QueueEnd::Waits); 2]);
    rig.block(CORE, false);
    pass(&mut rig, 1);

    rig.block(CORE, true);
    begin(&mut rig, &filter, 10);
    (0..2).for_each(|_| rig.deliver(EDGE, &frame));
    pass(&mut rig, 1);
    rig.block(CORE, false);
    pass(&mut rig, 1);
    let sent = QueueEnd::Sent(Ticks(rig.now));
    assert_eq!(ends(&mut rig), [Some(sent); 2]);
    assert_eq!(rig.sent(CORE).last().unwrap().0, rig.now);
}

#[test]
fn what_is_lost_with_the_link_is_told() {
    let mut rig = Rig::new(&settings("1Mbit/s"));
    let frame = Udp::new(HOST, FAR, 9, 1_000).frame();
    let link = Request::SetLink {
        port: CORE,
        up: false,
    };
    assert!(matches!(rig.ask(link), Answer::Link));
    begin(&mut rig, &TraceFilter::default(), 10);
    // The first goes past its queue.
    (0..4).for_each(|_| rig.deliver(EDGE, &frame));
    pass(&mut rig, 60);
    let ends = ends(&mut rig);
    let lost = rig.report().ports[1].port.link_lost_packets;
    assert_eq!((ends.len(), lost), (4, 4));
    let is_lost = |end: &Option<QueueEnd>| matches!(end, Some(QueueEnd::LinkDown(_)));
    assert!(ends.iter().all(is_lost), "{ends:?}");
}

/// Controlled delay drops from a queue's head: each record has what became of its own packet.
#[test]
fn what_controlled_delay_drops_is_told() {
    let mut settings = settings("1Mbit/s");
    let standard = &mut settings.ports[1].classes[Phb::Standard.index()];
    standard.management = Management::Codel(CodelProfile::default());
    (standard.limit_ms, standard.limit_packets) = (1_000, 100);
    let mut rig = Rig::new(&settings);
    begin(&mut rig, &TraceFilter::default(), 100);
    for number in 0..60 {
        rig.deliver(EDGE, &Udp::new(HOST, FAR, 1_000 + number, 1_000).frame());
    }
    pass(&mut rig, 1_000);
    let records = end(&mut rig).records;
    let queue = rig.report().ports[1].queues[Phb::Standard.index()].clone();
    assert!(queue.delay_dropped_packets > 0, "{queue:?}");
    let dropped: Vec<_> = records
        .iter()
        .filter(|it| matches!(it.queue_end, Some(QueueEnd::Dropped(_))))
        .map(|it| it.header.unwrap().flow.source.port())
        .collect();
    assert_eq!(dropped.len() as u64, queue.delay_dropped_packets);
    assert_eq!(sent(&records).len() as u64, queue.sent_packets);
    // What has arrived at the other end was not dropped.
    let arrived = rig.sent(CORE);
    let ports = arrived
        .iter()
        .map(|(_, frame)| u16::from_be_bytes([frame[34], frame[35]]));
    assert!(
        ports.clone().all(|port| !dropped.contains(&port)),
        "{dropped:?}"
    );
    assert_eq!(ports.count() as u64, queue.sent_packets);
}

#[test]
fn several_workers_trace_together() {
    let layout = Layout {
        workers: 2,
        schedulers: 1,
    };
    let mut rig = Rig::with(&settings("1Gbit/s"), layout);
    let call = Udp::new(HOST, FAR, 4000, 100);
    let records = traced(&mut rig, &TraceFilter::default(), &vec![call.frame(); 10]);
    assert_eq!(fates(&records), [Fate::Queued; 10]);
    // Nobody traces any more.
    let answer = rig.ask(Request::Trace(None));
    assert!(matches!(answer, Answer::Traced(None)), "{answer:?}");
}

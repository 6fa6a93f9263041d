//! Several cores: what goes on between them, and what they are together.

mod several;

use std::collections::BTreeMap;

use crate::common::{conserved::assert_conserved, *};
use proptest::prelude::*;
use voicelane_dataplane::{
    control::{Answer, Request},
    diffserv::{Dscp, Management, Phb},
    session::SessionChange,
    settings::{Settings, Trust},
    stats::{DropReason, QueueCounters, Report},
    units::{InterfaceIndex, PortIndex},
    workers::{Layout, RING_PACKETS},
};

const SPLIT: Layout = Layout {
    workers: 1,
    schedulers: 1,
};

/// What must be alike whatever the cores.
fn counted(report: &Report) -> Vec<String> {
    let queue = |queue: &QueueCounters| {
        let QueueCounters {
            enqueued_packets,
            sent_packets,
            sent_bytes,
            full_packets,
            delay_ns,
            ..
        } = queue;
        format!(
            "{enqueued_packets} {sent_packets} {sent_bytes} {full_packets:?} {} {}",
            delay_ns.len(),
            delay_ns.max(),
        )
    };
    let ports = report.ports.iter().flat_map(|port| {
        let own = format!("{:?} {:?}", port.port, port.ef);
        [own].into_iter().chain(port.queues.iter().map(queue))
    });
    let interfaces = report.interfaces.iter().map(|it| format!("{it:?}"));
    ports.chain(interfaces).collect()
}

/// Classes that refuse packets by no chance.
fn settings_without_chance() -> Settings {
    let mut settings = settings("10Mbit/s");
    for class in settings.ports.iter_mut().flat_map(|port| &mut port.classes) {
        class.management = Management::TailDrop;
        class.limit_packets = class.limit_packets.min(60);
    }
    settings
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(5), ..ProptestConfig::default() })]

    /// A worker and a scheduler send what one core sends, in its order and at its time, and count
    /// what it counts, also where queues are full.
    #[test]
    fn a_split_pair_does_as_one_core(
        steps in prop::collection::vec(
            (prop::collection::vec((0..64_u8, 1..5_u16, 1..1_400_usize, any::<bool>()), 0..32), 0..3_000_000_u64),
            1..80,
        ),
    ) {
        let settings = settings_without_chance();
        let mut rigs = [Layout::FUSED, SPLIT].map(|layout| Rig::with(&settings, layout));
        for rig in &mut rigs {
            rig.install(vec![Udp::new(HOST, FAR, 1, 1).session("1Mbit/s", 3_000)]);
        }
        for (packets, step) in steps {
            for rig in &mut rigs {
                for &(dscp, port, payload, inwards) in &packets {
                    let (ingress, mut udp) = if inwards {
                        (CORE, Udp::new(FAR, HOST, port, payload))
                    } else {
                        (EDGE, Udp::new(HOST, FAR, port, payload))
                    };
                    udp.tos = dscp << 2;
                    udp.mac = [EDGE_MAC, CORE_MAC][ingress.index()];
                    rig.deliver(ingress, &udp.frame());
                }
                rig.turn();
                rig.advance_to(rig.now + step);
            }
            let [fused, split] = &mut rigs;
            for port in [EDGE, CORE] {
                prop_assert_eq!(fused.sent(port), split.sent(port));
            }
        }
        let [fused, split] = rigs.each_mut().map(Rig::report);
        prop_assert_eq!(counted(&fused), counted(&split));
        rigs.iter_mut().for_each(Rig::invariants);
    }

    /// However many cores there are, and whoever spreads the flows, each flow's packets leave in the
    /// order in which they came, and none is lost.
    #[test]
    fn flows_stay_in_order(
        (workers, schedulers, one_receiver) in (1..5_usize, 0..3_usize, any::<bool>()),
        bursts in prop::collection::vec((0..6_u16, 1..40_usize), 1..40),
    ) {
        let mut settings = settings("100Gbit/s");
        for port in &mut settings.ports {
            port.one_receiver = one_receiver;
            for class in &mut port.classes {
                class.management = Management::TailDrop;
            }
        }
        let mut rig = Rig::with(&settings, Layout { workers, schedulers });
        let mut sent = BTreeMap::<u16, usize>::new();
        let mut came = BTreeMap::<u16, usize>::new();
        for (flow, count) in bursts {
            for _ in 0..count {
                let number = sent.entry(flow).or_default();
                // As a NIC spreads flows, or as one that does not.
                let worker = if one_receiver { 0 } else { usize::from(flow) % workers };
                let frame = Udp::new(HOST, FAR, flow, 100 + *number).frame();
                let frame = rig.pool.frame(frame);
                rig.members[worker].device_mut().deliver(EDGE, frame);
                *number += 1;
            }
            rig.turn();
            rig.advance_to(rig.now + 1_000);
        }
        for _ in 0..100 {
            rig.settle();
            rig.advance_to(rig.now + 1_000_000);
        }
        for (_, frame) in rig.sent(CORE) {
            let flow = u16::from_be_bytes([frame[34], frame[35]]);
            let next = came.entry(flow).or_default();
            prop_assert_eq!(frame.len(), 142 + *next, "of flow {}", flow);
            *next += 1;
        }
        prop_assert_eq!(sent, came);
    }
}

/// The scheduler stands still: the ring is full of bulk up to what is kept for strict priority, which
/// then fills that; what does not fit is counted where it came in.
#[test]
fn bulk_leaves_room_for_calls_in_a_ring() {
    let mut settings = settings("1Gbit/s");
    for class in &mut settings.ports[1].classes {
        class.management = Management::TailDrop;
        class.limit_packets = 2 * RING_PACKETS;
        class.limit_ms = 1_000;
    }
    let mut rig = Rig::with(&settings, SPLIT);
    let call = Udp::new(HOST, FAR, 4000, 172);
    rig.install(vec![call.session("1Gbit/s", 1_000_000)]);
    let bulk = Udp::new(HOST, FAR, 9, 172);
    let worker = |rig: &mut Rig, frame: &[u8]| {
        for _ in 0..RING_PACKETS {
            rig.deliver(EDGE, frame);
        }
        while rig.members[0].turn() > 0 {}
    };
    worker(&mut rig, &bulk.frame());
    worker(&mut rig, &call.frame());
    rig.settle();
    let report = rig.report();
    let ring = u64::try_from(RING_PACKETS).unwrap();
    let queued = |phb: Phb| report.ports[1].queues[phb.index()].enqueued_packets;
    assert_eq!(queued(Phb::Standard), ring - ring / 4);
    assert_eq!(queued(Phb::Telephony), ring / 4);
    let lost = report.interfaces[0].drops[DropReason::RingFull.index()];
    assert_eq!(lost, 2 * ring - ring);
    assert_conserved(&mut rig, &report, 0);
    assert_eq!(report.interfaces[1].drops, [0; DropReason::COUNT]);
    // It goes on: now everything goes through, and every buffer comes back.
    worker(&mut rig, &call.frame()[..]);
    for _ in 0..1_000 {
        rig.settle();
        rig.advance_to(rig.now + 1_000_000);
    }
    rig.sent(CORE);
    assert_eq!(rig.pool.in_use(), 0);
}

/// One worker receives for three: each flow is one worker's, and all have some; what a worker that
/// stands still has no room for is lost, and counted.
#[test]
fn one_worker_spreads_what_it_receives() {
    let mut settings = settings("1Gbit/s");
    for port in &mut settings.ports {
        port.one_receiver = true;
        port.vlans = vec![vlan(100, Trust::Bleach)];
    }
    let layout = Layout {
        workers: 3,
        schedulers: 1,
    };
    let mut rig = Rig::with(&settings, layout);
    let frames = |flow: u16| {
        let mut call = Udp::new(HOST, FAR, flow, 172);
        let whole = call.frame();
        call.fragment = 0x2000;
        let call6 = Udp6::new(HOST6, FAR6, flow, 172).frame();
        [tagged(&whole, 100), whole, call6, call.frame()]
    };
    let deliver = |rig: &mut Rig, frame: &[u8]| {
        let frame = rig.pool.frame(frame);
        rig.members[0].device_mut().deliver(EDGE, frame);
    };
    for flow in 0..32 {
        for frame in frames(flow) {
            deliver(&mut rig, &frame);
        }
    }
    let moved = |rig: &mut Rig| [0, 1, 2].map(|worker| rig.members[worker].turn());
    // The first shares out, and has its own to do; the others have theirs.
    let first = moved(&mut rig);
    assert!(first.iter().all(|&moved| moved > 0), "{first:?}");
    rig.settle();
    let report = rig.report();
    assert_eq!(report.ports[0].port.rx_packets, 4 * 32);
    assert_eq!(report.interfaces[2].rx_packets, 32, "on the VLAN");
    assert_conserved(&mut rig, &report, 0);

    // One flow, tagged or not, is one worker's.
    let [tagged, whole, ..] = frames(7);
    for frame in [&tagged, &whole, &whole] {
        deliver(&mut rig, frame);
    }
    rig.members[0].turn();
    let others = [1, 2].map(|worker| rig.members[worker].turn());
    assert!(others.contains(&0), "{others:?}");

    rig.settle();
    let before = rig.report().interfaces[0].drops[DropReason::RingFull.index()];
    assert_eq!(before, 0);
    let of_others = (0..32).map(|flow| frames(flow)[1].clone()).find(|frame| {
        deliver(&mut rig, frame);
        rig.members[0].turn();
        let others = [1, 2].map(|worker| rig.members[worker].turn());
        others != [0, 0]
    });
    let of_others = of_others.expect("some flow is of others");
    rig.settle();
    for _ in 0..RING_PACKETS + 10 {
        deliver(&mut rig, &of_others);
    }
    while rig.members[0].turn() > 0 {}
    rig.settle();
    let report = rig.report();
    assert_eq!(report.interfaces[0].drops[DropReason::RingFull.index()], 10);
    assert_conserved(&mut rig, &report, 0);
}

/// What comes in at both workers is one flow to the control side, and its session is in both.
#[test]
fn several_cores_are_one_to_the_control_side() {
    for schedulers in 0..3 {
        let layout = Layout {
            workers: 2,
            schedulers,
        };
        let mut rig = Rig::with(&settings("1Gbit/s"), layout);
        let call = Udp::new(HOST, FAR, 4000, 172);
        rig.install(vec![call.session("1Gbit/s", 1_000_000)]);
        for worker in [0, 1, 1] {
            let frame = rig.pool.frame(call.frame());
            rig.members[worker].device_mut().deliver(EDGE, frame);
            rig.advance_to(rig.now + 1_000_000);
            rig.settle();
        }
        rig.advance_to(rig.now + 5_000_000);
        let Answer::Flows(flows) = rig.ask(Request::ReadFlows(vec![call.flow()])) else {
            panic!("no flows");
        };
        let reading = flows[0].unwrap();
        assert_eq!((reading.counters.packets, reading.counters.bytes), (3, 600));
        assert_eq!(reading.idle_ns, Some(5_000_000));
        let report = rig.report();
        assert_eq!((report.entries, report.entry_capacity), (1, 65_536));
        assert_eq!(report.ports[0].port.rx_packets, 3);
        assert_eq!(report.ports[1].port.tx_packets, 3);
        let telephony = &report.ports[1].queues[Phb::Telephony.index()];
        assert_eq!((telephony.sent_packets, telephony.delay_ns.len()), (3, 3));
        assert_eq!(report.ports[1].ef.total.packets, 3);

        // A second report is as whole as the first, and no fuller.
        assert_eq!(counted(&rig.report()), counted(&report));
        let marked = rig
            .sent(CORE)
            .iter()
            .filter(|(_, f)| f[15] >> 2 == Dscp::EF.number())
            .count();
        assert_eq!(marked, 3);

        let link = Request::SetLink {
            port: CORE,
            up: false,
        };
        assert!(matches!(rig.ask(link), Answer::Link));
        rig.deliver(EDGE, &call.frame());
        rig.settle();
        assert_eq!(rig.report().ports[1].port.link_lost_packets, 1);
    }
}

/// Whichever core has the queue and whichever receives: what the queue refuses is no telephony that went on, and
/// the tag that a packet leaves with is not counted. Some are as long with their tag as others without.
#[test]
fn telephony_is_counted_once_and_where_it_came_in() {
    for (workers, schedulers, one_receiver) in [
        (1, 0, false),
        (1, 1, false),
        (2, 0, false),
        (2, 1, false),
        (3, 2, false),
        (2, 0, true),
        (3, 1, true),
    ] {
        let mut settings = settings("1Mbit/s");
        settings.ports[0].vlans = vec![vlan(100, Trust::Bleach), vlan(200, Trust::Bleach)];
        settings.ports[1].vlans = vec![vlan(300, Trust::Keep)];
        settings.ports[1].classes[Phb::Telephony.index()].limit_packets = 10;
        for port in &mut settings.ports {
            port.one_receiver = one_receiver;
        }
        let layout = Layout {
            workers,
            schedulers,
        };
        let mut rig = Rig::with(&settings, layout);
        route_to_vlans(&mut rig);
        let calls =
            [(FAR, 172), (FAR_VLAN, 168)].map(|(to, payload)| Udp::new(HOST, to, 4000, payload));
        let sessions = calls.iter().map(|call| call.session("1Gbit/s", 1_000_000));
        rig.install(sessions.collect());
        for number in 0..80 {
            let frame = rig.pool.frame(calls[number % 2].frame());
            let worker = if one_receiver {
                0
            } else {
                number / 2 % workers
            };
            rig.members[worker].device_mut().deliver(EDGE, frame);
        }
        for _ in 0..200 {
            rig.settle();
            rig.advance_to(rig.now + 1_000_000);
        }
        let report = rig.report();
        let queue = &report.ports[1].queues[Phb::Telephony.index()];
        assert!(queue.refused_packets() > 0, "{layout:?}");
        let sent = rig.sent(CORE);
        let untagged = sent.iter().map(|(_, frame)| match frame[12..14] {
            [0x81, 0] => frame.len() - 4,
            _ => frame.len(),
        });
        let expected = (sent.len() as u64, untagged.sum::<usize>() as u64);
        let came = &report.interfaces[0];
        assert_eq!(
            (came.telephony_packets, came.telephony_bytes),
            expected,
            "{layout:?}, one receives: {one_receiver}"
        );
    }
}

/// Refused by all cores alike: nothing has changed on any.
#[test]
fn a_session_that_is_refused_is_nowhere() {
    let mut settings = settings("1Gbit/s");
    settings.session_entries = 2;
    let layout = Layout {
        workers: 3,
        schedulers: 1,
    };
    let mut rig = Rig::with(&settings, layout);
    let calls = |ports: std::ops::Range<u16>| SessionChange {
        install: ports
            .map(|port| Udp::new(HOST, FAR, port, 1).session("1Mbit/s", 3_000))
            .collect(),
        remove: vec![],
        ..SessionChange::default()
    };
    assert!(matches!(
        rig.ask(Request::Session(calls(1..4))),
        Answer::Session(Err(error)) if error.is_full()
    ));
    assert_eq!(rig.report().entries, 0);
    let change = Request::Session(calls(1..3));
    assert!(matches!(rig.ask(change), Answer::Session(Ok(()))));
    assert_eq!(rig.report().entries, 2);
}

/// The kernel hears from all workers, and what it sends leaves by the port's own core.
#[test]
fn the_kernel_has_one_router_before_it() {
    let layout = Layout {
        workers: 2,
        schedulers: 1,
    };
    let mut rig = Rig::with(&settings("1Gbit/s"), layout);
    let local = Udp::new(HOST, OWN, 1, 1).frame();
    for _ in 0..2 {
        rig.deliver(EDGE, &local);
    }
    rig.settle();
    assert_eq!(rig.twins.from_worker.try_iter().count(), 2);
    let answer = Udp::new(FAR, HOST, 1, 1).frame();
    let frame = rig.pool.frame(answer.clone());
    let edge = InterfaceIndex::from(EDGE);
    rig.twins.to_worker.try_send((edge, frame)).unwrap();
    rig.settle();
    let sent: Vec<_> = rig.sent(EDGE).into_iter().map(|(_, frame)| frame).collect();
    assert_eq!(sent, [answer]);
}

#[test]
fn each_port_has_one_core() {
    let core = |workers, schedulers, port| {
        Layout {
            workers,
            schedulers,
        }
        .scheduler(PortIndex(port))
    };
    assert_eq!([0, 1, 2, 3].map(|port| core(1, 0, port)), [0, 0, 0, 0]);
    assert_eq!([0, 1, 2, 3].map(|port| core(2, 0, port)), [0, 1, 0, 1]);
    assert_eq!([0, 1, 2, 3].map(|port| core(1, 1, port)), [1, 1, 1, 1]);
    assert_eq!([0, 1, 2, 3].map(|port| core(3, 2, port)), [3, 4, 3, 4]);
    for (workers, schedulers, rings) in [(1, 0, 0), (1, 1, 1), (2, 0, 2), (4, 3, 8), (4, 0, 6)] {
        let layout = Layout {
            workers,
            schedulers,
        };
        assert_eq!(layout.rings(2), rings, "{layout:?}");
    }
}

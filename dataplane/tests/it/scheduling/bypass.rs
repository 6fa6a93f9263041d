//! What goes past empty queues is served as if it had been in them.

use std::iter;

use crate::common::*;
use proptest::prelude::*;
use voicelane_dataplane::{
    diffserv::{Dscp, Phb},
    settings::{Settings, Trust},
    stats::{PortReport, QueueCounters},
};

/// A port of which every code point is trusted.
fn trusting(core_rate: &str) -> Settings {
    let mut settings = settings(core_rate);
    settings.ports[0].trust = Trust::Keep;
    settings
}

fn frame(dscp: Dscp, number: u16, bytes: usize) -> Vec<u8> {
    let mut packet = Udp::of_frame(FAR, number, bytes);
    packet.tos = dscp.number() << 2;
    packet.frame()
}

fn phb(frame: &[u8]) -> Phb {
    Phb::of(Dscp::new(u32::from(frame[15] >> 2)).unwrap())
}

fn is_strict(frame: &[u8]) -> bool {
    matches!(phb(frame), Phb::Telephony | Phb::AdmittedTelephony)
}

/// What a port says of its queues, with times or without.
fn figures(port: &PortReport, times: bool) -> Vec<String> {
    let queue = |queue: &QueueCounters| {
        let counts = (
            (queue.enqueued_packets, queue.sent_packets),
            (queue.sent_bytes, queue.dropped_packets()),
            (queue.depth_packets, queue.delay_ns.len()),
        );
        let delay = times.then(|| queue.delay_ns.max());
        format!("{counts:?} {delay:?}")
    };
    let ef = port.ef.total;
    let ef = format!("{} {:?}", ef.packets, times.then_some(ef));
    port.queues.iter().map(queue).chain([ef]).collect()
}

/// Bursts of (class, bytes of the frame), and how long it is until the next.
type Turns = Vec<(Vec<(usize, usize)>, u64)>;

fn turns() -> impl Strategy<Value = Turns> {
    let bytes = prop_oneof![Just(60_usize), Just(214), Just(1514)];
    let burst = prop::collection::vec((0..CLASSES.len(), bytes), 0..64);
    prop::collection::vec((burst, 1_000_u64..400_000), 1..10)
}

const CLASSES: [Dscp; 7] = [
    Dscp::EF,
    Dscp::VOICE_ADMIT,
    Dscp::DF,
    Dscp::CS5,
    Dscp::CS6,
    Dscp::AF41,
    Dscp::LE,
];

/// What leaves a port in each turn, and its figures in the end; first where packets may pass by,
/// then where they may not, as each class has a maximum, though one that none reaches.
fn both(core_rate: &str, turns: &Turns) -> [(Vec<Vec<Vec<u8>>>, PortReport); 2] {
    let passing = trusting(core_rate);
    let mut queueing = passing.clone();
    for class in &mut queueing.ports[1].classes {
        class.maximum = Some(rate("1Tbit/s"));
    }
    [passing, queueing].map(|settings| {
        let mut rig = Rig::new(&settings);
        let mut left = vec![];
        let waits = iter::repeat_n((vec![], 1_000_000), 100);
        for (burst, gap) in turns.iter().cloned().chain(waits) {
            for (number, (class, bytes)) in (1..).zip(burst) {
                rig.deliver(EDGE, &frame(CLASSES[class], number, bytes));
            }
            rig.turn();
            rig.invariants();
            left.push(rig.sent(CORE).into_iter().map(|(_, frame)| frame).collect());
            rig.advance_to(rig.now + gap);
        }
        (left, rig.report().ports[1].clone())
    })
}

fn of_class(class: Phb, sent: &[Vec<u8>]) -> Vec<&Vec<u8>> {
    sent.iter().filter(|frame| phb(frame) == class).collect()
}

#[test]
fn strict_priority_leaves_first_though_nothing_waits() {
    let mut rig = Rig::new(&trusting("10Gbit/s"));
    let classes = [
        Dscp::DF,
        Dscp::EF,
        Dscp::CS5,
        Dscp::VOICE_ADMIT,
        Dscp::DF,
        Dscp::EF,
    ];
    for (number, dscp) in (1..).zip(classes) {
        rig.deliver(EDGE, &frame(dscp, number, 214));
    }
    rig.turn();
    let sent: Vec<_> = rig.sent(CORE).into_iter().map(|(_, frame)| frame).collect();
    let strict: Vec<_> = sent.iter().map(|frame| is_strict(frame)).collect();
    assert_eq!(strict, [true, true, true, false, false, false]);
    let port = &rig.report().ports[1];
    let telephony = &port.queues[Phb::Telephony.index()];
    assert_eq!((telephony.enqueued_packets, telephony.sent_packets), (2, 2));
    assert_eq!(telephony.delay_ns.len(), 2);
    assert_eq!(port.ef.total.packets, 3);
    rig.invariants();
}

/// What has gone past the queues for seconds, within its cap, has priority when others come.
#[test]
fn what_passed_by_is_not_owed() {
    const TURN: u64 = 50_000;
    let mut rig = Rig::new(&trusting("10Gbit/s"));
    let (voice, bulk) = (frame(Dscp::EF, 1, 1514), frame(Dscp::DF, 2, 1514));
    // 3.9 of 5 Gbit/s, then with 11.8 beside it.
    for (turns, beside) in [(50_000, 0), (100, 48)] {
        for _ in 0..turns {
            for frame in iter::repeat_n(&voice, 16).chain(iter::repeat_n(&bulk, beside)) {
                rig.deliver(EDGE, frame);
            }
            rig.turn();
            rig.sent(CORE);
            rig.advance_to(rig.now + TURN);
        }
    }
    let port = &rig.report().ports[1];
    let [telephony, standard] =
        [Phb::Telephony, Phb::Standard].map(|phb| &port.queues[phb.index()]);
    assert!(standard.delay_ns.max() > 10 * TURN, "bulk waits");
    assert_eq!(telephony.sent_packets, 50_100 * 16);
    assert!(
        telephony.delay_ns.max() <= TURN,
        "{} ns",
        telephony.delay_ns.max()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(4), ..ProptestConfig::default() })]

    /// Where the port is fast enough: each turn sends the same, each class's packets in the same
    /// order, and every figure is the same.
    #[test]
    fn passing_by_is_as_queueing(turns in turns()) {
        let [(passed, passing), (queued, queueing)] = both("10Gbit/s", &turns);
        for (passed, queued) in passed.iter().zip(&queued) {
            prop_assert_eq!(passed.len(), queued.len());
            for class in Phb::ALL {
                prop_assert_eq!(of_class(class, passed), of_class(class, queued));
            }
        }
        prop_assert_eq!(figures(&passing, true), figures(&queueing, true));
    }

    /// Where some must wait: the order between classes may differ, as a queue's turn does not move
    /// with what passes by. But all is sent in both, each class's packets in their order.
    #[test]
    fn nothing_overtakes_its_class(
        core_rate in prop_oneof![Just("300Mbit/s"), Just("1Gbit/s")],
        turns in turns(),
    ) {
        let [(passed, passing), (queued, queueing)] = both(core_rate, &turns);
        let (passed, queued) = (passed.concat(), queued.concat());
        for class in Phb::ALL {
            prop_assert_eq!(of_class(class, &passed), of_class(class, &queued));
        }
        prop_assert_eq!(figures(&passing, false), figures(&queueing, false));
    }
}

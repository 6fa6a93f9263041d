//! What goes past empty queues is served as if it had been in them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at what it did not expect"
)]

mod common;

use common::*;
use proptest::prelude::*;
use voicelane_dataplane::{
    counters::PortReport,
    diffserv::{Dscp, Management, Phb},
    settings::{Settings, Trust},
};

/// A port of which every code point is trusted.
fn trusting(core_rate: &str) -> Settings {
    let mut settings = settings(core_rate);
    settings.ports[0].trust = Trust::Keep;
    for class in &mut settings.ports[1].classes {
        // Whose random numbers differ from rig to rig.
        if matches!(class.management, Management::Wred(_)) {
            class.management = Management::TailDrop;
        }
    }
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

/// What a port says of its queues, without what waits for the clock.
fn figures(port: &PortReport) -> Vec<String> {
    let queue = |queue: &voicelane_dataplane::counters::QueueCounters| {
        format!(
            "{} {} {} {} {} {:?} {}",
            queue.enqueued_packets,
            queue.sent_packets,
            queue.sent_wire_bytes,
            queue.dropped_packets(),
            queue.depth_packets,
            queue.delay_ns.max(),
            queue.delay_ns.len(),
        )
    };
    let mut lines: Vec<_> = port.queues.iter().map(queue).collect();
    lines.push(format!("{:?}", port.ef.total));
    lines
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The same packets at the same times, at a port whose classes all have a maximum that none
    /// reaches, and so cannot pass by: what leaves in each turn is the same, each class's packets in
    /// the same order; and so is every figure.
    #[test]
    fn passing_by_is_as_queueing(
        core_rate in prop_oneof![Just("300Mbit/s"), Just("1Gbit/s"), Just("10Gbit/s")],
        turns in prop::collection::vec(
            (
                prop::collection::vec((0_usize..7, prop_oneof![Just(60_usize), Just(214), Just(1514)]), 0..64),
                1_000_u64..400_000,
            ),
            1..40,
        ),
    ) {
        const CLASSES: [Dscp; 7] = [
            Dscp::EF, Dscp::VOICE_ADMIT, Dscp::DF, Dscp::CS5, Dscp::CS6, Dscp::AF41, Dscp::LE,
        ];
        let passing = trusting(core_rate);
        let mut queueing = passing.clone();
        for class in &mut queueing.ports[1].classes {
            class.maximum = Some(rate("1Tbit/s"));
        }
        let mut rigs = [&passing, &queueing].map(Rig::new);
        for (burst, gap) in turns {
            for (number, (class, bytes)) in (1..).zip(burst) {
                for rig in &mut rigs {
                    rig.deliver(EDGE, &frame(CLASSES[class], number, bytes));
                }
            }
            let [passed, queued] = rigs.each_mut().map(|rig| {
                rig.turn();
                rig.invariants();
                let sent: Vec<_> = rig.sent(CORE).into_iter().map(|(_, frame)| frame).collect();
                rig.advance_to(rig.now + gap);
                sent
            });
            prop_assert_eq!(passed.len(), queued.len());
            for class in Phb::ALL {
                let of = |sent: &[Vec<u8>]| -> Vec<Vec<u8>> {
                    sent.iter().filter(|frame| phb(frame) == class).cloned().collect()
                };
                prop_assert_eq!(of(&passed), of(&queued));
            }
        }
        let [passed, queued] = rigs.each_mut().map(|rig| figures(&rig.report().ports[1]));
        prop_assert_eq!(passed, queued);
    }
}

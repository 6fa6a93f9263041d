//! What several workers report together: the sum, once, of what one worker would.

use crate::common::{policy::*, *};
use voicelane_dataplane::{
    diffserv::{ColourAction, ColourMode, Dscp, Marking, MeterKind, MeterSpec, Phb},
    policy::{
        Action, InterfacePolicy, Match, Metering, PolicyReport, PolicySpec, ReversePath, Trust,
    },
    settings::Settings,
    stats::{DropReason, PuntReason, Report},
    units::InterfaceIndex,
    workers::{Layout, RING_PACKETS},
};

const THREE: Layout = Layout {
    workers: 3,
    schedulers: 0,
};
const THREE_AND_TWO: Layout = Layout {
    workers: 3,
    schedulers: 2,
};

/// A part for each of so many workers. The router divides rates alone, as a burst must hold a packet; here bursts
/// are divided, too, so that the sum is exactly one worker's.
fn metering(cir: &str, cbs_bytes: u32, workers: u32) -> Metering {
    let spec = MeterSpec {
        kind: MeterKind::SrTcm {
            ebs_bytes: 30_000 / workers,
        },
        cir: rate(cir),
        cbs_bytes: cbs_bytes / workers,
        mode: ColourMode::Blind,
    };
    Metering {
        spec: spec.share(workers.into()),
        marking: Marking {
            green: ColourAction::Keep,
            yellow: ColourAction::Mark(Dscp::LE),
            red: ColourAction::Drop,
        },
    }
}

/// Two rules with a meter each, of which one binds, and an aggregate that binds.
fn policy(workers: u32) -> PolicySpec {
    let mut roomy = rule("roomy", to_port(80..=80), Action::Keep);
    roomy.meter = Some(metering("1Gbit/s", 1_000_000, workers));
    let mut tight = rule(
        "tight",
        to_port(90..=90),
        Action::Mark(Dscp::af(2, 1).unwrap()),
    );
    tight.meter = Some(metering("8kbit/s", 12_000, workers));
    let interface = |trust, police| InterfacePolicy {
        trust,
        reverse_path: ReversePath::Off,
        police,
    };
    PolicySpec {
        rules: vec![
            roomy,
            tight,
            rule("none", to_port(95..=95), Action::Drop),
            rule("claims", to_port(99..=99), Action::Mark(Dscp::EF)),
        ],
        interfaces: vec![
            interface(
                Trust::Bleach,
                vec![(Phb::Telephony, metering("8kbit/s", 6_000, workers))],
            ),
            interface(Trust::Keep, vec![]),
        ],
        ..PolicySpec::default()
    }
}

/// 12 senders, of whom each sends to every rule, and claims EF and network control.
fn offered() -> Vec<Vec<u8>> {
    let mut frames = vec![];
    for round in 0..40_u8 {
        for sender in 0..3 {
            let host = [10, 1, 1, (round / 10) * 3 + sender].into();
            let udp = |port, dscp: Dscp| Udp {
                tos: dscp.number() << 2,
                ..Udp::new(host, FAR, port, 172)
            };
            let ports = [80, 90, 95, 99].map(|port| udp(port, Dscp::DF).frame());
            let claims = [Dscp::EF, Dscp::CS6].map(|dscp| udp(7, dscp).frame());
            // Of each frame as many come to each worker.
            for frame in ports.into_iter().chain(claims) {
                frames.extend([frame.clone(), frame.clone(), frame]);
            }
        }
    }
    frames
}

fn after_all(layout: Layout) -> (Rig, Report) {
    let mut rig = Rig::with(&settings("10Gbit/s"), layout);
    set_policy(&mut rig, &policy(layout.workers.try_into().unwrap()), 4);
    for frame in offered() {
        rig.deliver(EDGE, &frame);
        rig.settle();
    }
    let report = rig.report();
    (rig, report)
}

/// Rules', aggregates' and senders' counts.
fn policy_counts(
    PolicyReport {
        generation,
        rules,
        interfaces,
    }: &PolicyReport,
) -> String {
    let mut text = format!("{generation}\n");
    for rule in rules {
        text += &format!("{rule:?}\n");
    }
    for interface in interfaces {
        let mut senders: Vec<_> = (interface.senders.iter())
            .map(|it| {
                format!(
                    "{} {} {} {} {}",
                    it.address, it.claims, it.packets, it.error, it.bytes
                )
            })
            .collect();
        senders.sort();
        text += &format!("{:?}\n{senders:#?}\n", interface.aggregates);
    }
    text
}

#[test]
fn several_workers_report_a_policy_as_one() {
    let (_, one) = after_all(Layout::FUSED);
    // Something of each kind is there to be lost.
    let rules = &one.policy.rules;
    assert_eq!(rules[0].colours.map(|it| it.packets), [360, 0, 0]);
    assert!(
        rules[1].colours.iter().all(|it| it.packets > 0),
        "{rules:?}"
    );
    assert_eq!(rules[2].matched.packets, 360);
    let telephony = one.policy.interfaces[0].aggregates[Phb::Telephony.index()];
    assert!(
        telephony[0].packets > 0 && telephony[2].packets > 0,
        "{telephony:?}"
    );
    assert_eq!(one.policy.interfaces[0].senders.len(), 2 * 12);
    for layout in [THREE, THREE_AND_TWO] {
        let (mut rig, several) = after_all(layout);
        assert_eq!(
            policy_counts(&several.policy),
            policy_counts(&one.policy),
            "{layout:?}"
        );
        let interfaces = |report: &Report| format!("{:?}", report.interfaces);
        assert_eq!(interfaces(&several), interfaces(&one), "{layout:?}");
        // The next one in its place has the same, not twice as much; and a new policy's rules start from
        // nothing.
        let again = rig.report_into(several.into());
        assert_eq!(
            policy_counts(&again.policy),
            policy_counts(&one.policy),
            "{layout:?}"
        );
        assert_eq!(interfaces(&again), interfaces(&one), "{layout:?}");
        set_policy(
            &mut rig,
            &spec(vec![rule("other", Match::default(), Action::Keep)]),
            5,
        );
        let fresh = rig.report_into(again.into()).policy;
        assert_eq!((fresh.generation, fresh.rules.len()), (5, 1));
        assert_eq!(fresh.rules[0].matched.packets, 0);
        // An interface is the same under any policy, and keeps what it has counted.
        let kept = |policy: &PolicyReport| format!("{:?}", policy.interfaces[0].aggregates);
        assert_eq!(kept(&fresh), kept(&one.policy));
    }
}

/// The kernel gets no more from three workers than from one, and from one of three a third.
#[test]
fn workers_divide_what_the_kernel_gets() {
    let punted = |layout: Layout, workers: &[usize]| {
        let mut settings = settings("10Gbit/s");
        settings.punt.classes.fill(3_000);
        settings.queue_capacity = 20_000;
        let mut rig = Rig::with(&settings, layout);
        let frame = Udp::new(HOST, OWN, 1, 1).frame();
        for _ in 0..600 {
            for &worker in workers {
                let frame = rig.pool.frame(frame.clone());
                rig.members[worker].device_mut().deliver(EDGE, frame);
            }
            rig.settle();
        }
        let report = rig.report();
        let edge = &report.interfaces[0];
        let (local, refused) = (
            edge.punts[PuntReason::Local.index()],
            edge.drops[DropReason::PuntPoliced.index()],
        );
        assert_eq!(local + refused, 600 * workers.len() as u64);
        assert_eq!(edge.refused_punts.iter().sum::<u64>(), refused);
        assert_eq!(rig.twins.from_worker.try_iter().count() as u64, local);
        local
    };
    // A tenth of a second's worth may come at once.
    assert_eq!(punted(Layout::FUSED, &[0, 0, 0]), 300);
    assert_eq!(punted(THREE, &[0, 1, 2]), 300);
    assert_eq!(punted(THREE, &[1]), 100);
}

/// Where random early detection is on another core, what it drops is counted where it came in, as on one.
#[test]
fn early_drops_are_counted_where_packets_came_in() {
    let drops = |layout| {
        let mut rig = Rig::with(&settings("10Mbit/s"), layout);
        let call = Udp {
            tos: Dscp::af(2, 1).unwrap().number() << 2,
            ..Udp::new(FAR, FAR, 9, 1_000)
        };
        let frame = Udp {
            mac: CORE_MAC,
            ..call
        }
        .frame();
        for _ in 0..2_000 {
            let buffer = rig.pool.frame(frame.clone());
            rig.members[0].device_mut().deliver(CORE, buffer);
            rig.settle();
            rig.advance_to(rig.now + 700_000);
        }
        let report = rig.report();
        let early = DropReason::EarlyDrop.index();
        let queue = &report.ports[1].queues[Phb::LowLatencyData.index()];
        assert_eq!(
            report.interfaces[1].drops[early],
            queue.early_packets.iter().sum::<u64>()
        );
        assert_eq!(report.interfaces[0].drops[early], 0);
        let again = rig.report();
        assert_eq!(
            again.interfaces[1].drops, report.interfaces[1].drops,
            "once"
        );
        report.interfaces[1].drops[early]
    };
    let one = drops(Layout::FUSED);
    assert!(one > 20, "{one}");
    let split = Layout {
        workers: 1,
        schedulers: 1,
    };
    assert_eq!(drops(split), one);
    assert!(drops(THREE_AND_TWO) > 20);
}

/// The scheduler stands still: what the kernel sends finds the ring full, and is counted where it was to go out.
#[test]
fn frames_of_the_kernel_that_find_a_ring_full_are_counted() {
    let mut settings = Settings {
        queue_capacity: 4 * RING_PACKETS,
        ..settings("1Gbit/s")
    };
    settings.ports[1].classes[Phb::Standard.index()].limit_packets = 2 * RING_PACKETS;
    let split = Layout {
        workers: 1,
        schedulers: 1,
    };
    let mut rig = Rig::with(&settings, split);
    let frame = Udp::new(HOST, FAR, 9, 172).frame();
    let core = InterfaceIndex::from(CORE);
    for _ in 0..2 * RING_PACKETS {
        let frame = rig.pool.frame(frame.clone());
        rig.twins.to_worker.try_send((core, frame)).unwrap();
    }
    for _ in 0..2 * RING_PACKETS {
        rig.members[0].turn();
    }
    rig.settle();
    let report = rig.report();
    let ring = RING_PACKETS as u64;
    assert_eq!(report.interfaces[1].twin_packets, 2 * ring);
    // A quarter is kept for strict priority.
    let lost = report.interfaces[1].drops[DropReason::RingFull.index()];
    assert_eq!(lost, 2 * ring - ring * 3 / 4);
    assert_eq!(report.interfaces[0].drops[DropReason::RingFull.index()], 0);
    conserved::assert_conserved(&mut rig, &report, 0);
}

/// The longest stall is the one of any core; a turn that ends in time is none.
#[test]
fn the_longest_stall_is_reported() {
    for (layout, late) in [(Layout::FUSED, 0), (THREE, 2), (THREE_AND_TWO, 4)] {
        let mut rig = Rig::with(&settings("1Gbit/s"), layout);
        for _ in 0..10 {
            rig.advance_to(rig.now + 10_000);
            rig.turn();
        }
        assert_eq!(rig.report().stalls.longest.0, 10_000, "{layout:?}");
        // One core does not come to its turn for 7 ms.
        for _ in 0..7 {
            rig.advance_to(rig.now + 1_000_000);
            for (core, member) in rig.members.iter_mut().enumerate() {
                if core != late {
                    member.turn();
                }
            }
        }
        rig.turn();
        let stalls = rig.report().stalls;
        assert_eq!(stalls.longest.0, 7_000_000, "{layout:?}");
        assert_eq!(
            stalls.seconds.iter().map(|it| it.0).max(),
            Some(7_000_000),
            "{layout:?}"
        );
        // It is remembered for as long as the router runs, but not as one of later seconds.
        for _ in 0..70 {
            for _ in 0..10 {
                rig.advance_to(rig.now + 100_000_000);
                rig.turn();
            }
        }
        let report = rig.report();
        assert_eq!(report.stalls.longest.0, 100_000_000, "{layout:?}");
        assert!(
            report.stalls.seconds.iter().all(|it| it.0 == 100_000_000),
            "{:?}",
            report.stalls
        );
    }
}

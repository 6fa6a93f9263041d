//! What the meters of rules and of aggregates make of packets without sessions.

use crate::common::{policy::*, *};
use voicelane_dataplane::{
    diffserv::{ColourAction, ColourMode, Dscp, Marking, MeterKind, MeterSpec, Phb},
    policy::{Action, InterfacePolicy, Match, Metering, PolicySpec, ReversePath, Trust},
    stats::{Count, DropReason},
};

fn metering(kind: MeterKind, mode: ColourMode, cir: &str, cbs_bytes: u32) -> Metering {
    Metering {
        spec: MeterSpec {
            kind,
            cir: rate(cir),
            cbs_bytes,
            mode,
        },
        marking: Marking {
            green: ColourAction::Keep,
            yellow: ColourAction::Mark(Dscp::af(2, 2).unwrap()),
            red: ColourAction::Drop,
        },
    }
}

#[test]
fn a_rules_meter_colours_what_it_matches() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let kind = MeterKind::SrTcm { ebs_bytes: 600 };
    let mut metered = rule(
        "data",
        to_port(80..=80),
        Action::Mark(Dscp::af(2, 1).unwrap()),
    );
    metered.meter = Some(metering(kind, ColourMode::Blind, "8kbit/s", 400));
    set_policy(&mut rig, &spec(vec![metered]), 1);
    let frame = Udp::new(HOST, FAR, 80, 172).frame(); // 200 bytes at the IP layer
    let mut left = || {
        rig.deliver(EDGE, &frame);
        rig.turn();
        rig.sent(CORE)
            .pop()
            .map(|(_, frame)| dscp(&frame).to_string())
    };
    let got: Vec<_> = (0..6).map(|_| left().unwrap_or_default()).collect();
    assert_eq!(got, ["AF21", "AF21", "AF22", "AF22", "AF22", ""]);
    let report = rig.report();
    let counted = report.policy.rules[0];
    assert_eq!((counted.matched.packets, counted.matched.bytes), (6, 1_200));
    assert_eq!(counted.colours.map(|colour| colour.packets), [2, 3, 1]);
    let drops = report.interfaces[0].drops;
    assert_eq!(drops[DropReason::RuleMetered.index()], 1);
    assert_eq!(drops.iter().sum::<u64>(), 1);
}

#[test]
fn a_colour_aware_meter_heeds_the_precedence_that_a_packet_came_with() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let kind = MeterKind::SrTcm { ebs_bytes: 10_000 };
    let mut metered = rule("data", Match::default(), Action::Keep);
    metered.meter = Some(metering(kind, ColourMode::Aware, "8kbit/s", 10_000));
    set_policy(&mut rig, &spec(vec![metered]), 1);
    let af = |precedence| claiming(Dscp::af(2, precedence).unwrap());
    assert_eq!(
        leaves_with(&mut rig, &af(1).frame()),
        Dscp::af(2, 1).unwrap()
    );
    assert_eq!(
        leaves_with(&mut rig, &af(2).frame()),
        Dscp::af(2, 2).unwrap()
    );
    assert_eq!(
        rig.dropped_for(&af(3).frame()),
        Some(DropReason::RuleMetered)
    );
}

/// What comes in without sessions as telephony, by rule or by trust, shares one rate and burst, to
/// the byte; sessions and other behaviours do not.
#[test]
fn an_aggregate_is_policed_to_its_rate_and_burst() {
    let mut rig = Rig::new(&settings("10Gbit/s"));
    let police = metering(
        MeterKind::SrTcm { ebs_bytes: 0 },
        ColourMode::Blind,
        "800kbit/s",
        1_000,
    );
    let spec = PolicySpec {
        rules: vec![rule("ours", to_port(5000..=5000), Action::Mark(Dscp::EF))],
        interfaces: vec![InterfacePolicy {
            trust: Trust::Keep,
            reverse_path: ReversePath::Off,
            police: vec![(Phb::Telephony, police)],
        }],
        ..PolicySpec::default()
    };
    set_policy(&mut rig, &spec, 1);
    let call = claiming(Dscp::EF);
    rig.install(vec![call.session("80Mbit/s", 100_000)]);
    let trusted = Udp {
        ports: (1, 2),
        ..call.clone()
    };
    let ruled = Udp {
        ports: (1, 5000),
        tos: 0,
        ..call.clone()
    };
    let signalling = Udp {
        tos: Dscp::CS5.number() << 2,
        ..trusted.clone()
    };
    // Every 0.5 ms 200 bytes of each kind: 6.4 Mbit/s against 0.8 Mbit/s, for 10 s.
    let mut sent = 0;
    for _ in 0..20_000 {
        for packet in [&trusted, &ruled, &call, &signalling] {
            rig.deliver(EDGE, &packet.frame());
        }
        rig.turn();
        sent += rig.sent(CORE).len();
        rig.advance_to(rig.now + 500_000);
    }
    let report = rig.report();
    let [green, yellow, red] = report.policy.interfaces[0].aggregates[Phb::Telephony.index()];
    // 10 s less the last step, at 100 bytes a millisecond, behind a burst of 1,000; whole packets.
    let credit: u64 = 1_000 + 999_950;
    assert_eq!(green.packets, credit / 200);
    assert_eq!((green.packets + red.packets, yellow.packets), (40_000, 0));
    let drops = report.interfaces[0].drops;
    assert_eq!(drops[DropReason::AggregatePoliced.index()], red.packets);
    assert_eq!(drops.iter().sum::<u64>(), red.packets);
    let queues = &report.ports[1].queues;
    let queued = |phb: Phb| queues[phb.index()].enqueued_packets;
    assert_eq!(queued(Phb::Telephony), 20_000 + green.packets);
    assert_eq!(queued(Phb::Signalling), 20_000);
    assert_eq!(sent as u64, 40_000 + green.packets);
    for phb in Phb::ALL.into_iter().filter(|&phb| phb != Phb::Telephony) {
        let counted = report.policy.interfaces[0].aggregates[phb.index()];
        assert_eq!(counted, [Count::default(); 3], "{phb:?} has no meter");
    }
}

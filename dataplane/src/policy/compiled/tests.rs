use super::*;
use crate::{
    diffserv::{ColourMode, Marking, MeterKind, MeterSpec},
    policy::{Match, Trust},
};

const CLOCK: u64 = 1_000_000_000;

/// 8 kbit/s, so a byte a millisecond; 1,000 bytes at once.
fn metering(cbs_bytes: u32) -> Metering {
    Metering {
        spec: MeterSpec {
            kind: MeterKind::SrTcm { ebs_bytes: 0 },
            cir: "8kbit/s".parse().unwrap(),
            cbs_bytes,
            mode: ColourMode::Blind,
        },
        marking: Marking {
            green: ColourAction::Keep,
            yellow: ColourAction::Keep,
            red: ColourAction::Drop,
        },
    }
}

fn rule(name: &str, meter: Option<Metering>) -> Rule {
    Rule {
        name: name.to_owned(),
        matches: Match::default(),
        action: Action::Mark(Dscp::CS5),
        meter,
    }
}

fn compile(rules: Vec<Rule>, police: Vec<(Phb, Metering)>) -> Result<Box<Policy>, PolicyError> {
    let interface = InterfacePolicy {
        trust: Trust::Keep,
        reverse_path: ReversePath::Off,
        police,
    };
    let spec = PolicySpec {
        rules,
        interfaces: vec![interface],
        ..PolicySpec::default()
    };
    Policy::new(&spec, 1, TickRate::from_hz(CLOCK))
}

/// How many packets of 100 bytes pass a rule's meter at once.
fn pass(policy: &mut Policy, rule: u8, now: u64) -> usize {
    let mut packet = || {
        let dscps = (Dscp::DF, Dscp::CS5);
        policy.meter_rule(RuleIndex(rule), dscps, 100, Ticks(now))
    };
    (0..50).filter(|_| packet() == Ok(Dscp::CS5)).count()
}

#[test]
fn what_is_in_both_goes_on_and_the_rest_begins() {
    let rules = vec![
        rule("same", Some(metering(1_000))),
        rule("changed", Some(metering(1_000))),
        rule("gone", Some(metering(1_000))),
        rule("unmetered", Some(metering(1_000))),
    ];
    let police = vec![
        (Phb::Telephony, metering(1_000)),
        (Phb::Signalling, metering(1_000)),
    ];
    let mut old = compile(rules, police).unwrap();
    let start = 5 * CLOCK;
    for index in 0..4 {
        assert_eq!(pass(&mut old, index, start), 10);
    }
    let aggregate = |policy: &mut Policy, phb, now| {
        let mut packet =
            || policy.meter_aggregate(InterfaceIndex(0), (phb, Dscp::EF), 100, Ticks(now));
        (0..50).filter(|_| packet().is_ok()).count()
    };
    assert_eq!(aggregate(&mut old, Phb::Telephony, start), 10);
    assert_eq!(aggregate(&mut old, Phb::Signalling, start), 10);
    assert_eq!(aggregate(&mut old, Phb::Standard, start), 50, "not policed");

    // Another order, another action, other terms, a new name.
    let rules = vec![
        rule("unmetered", None),
        rule("new", Some(metering(1_000))),
        rule("changed", Some(metering(2_000))),
        Rule {
            action: Action::Keep,
            ..rule("same", Some(metering(1_000)))
        },
    ];
    let police = vec![
        (Phb::Telephony, metering(1_000)),
        (Phb::Signalling, metering(500)),
    ];
    let mut new = compile(rules, police).unwrap();
    new.take_over(&old);
    // 300 ms later there are three packets' worth of credit, not a burst.
    let now = start + 3 * CLOCK / 10;
    assert_eq!(pass(&mut new, 3, now), 3, "the same meter goes on");
    assert_eq!(pass(&mut new, 2, now), 20, "other terms begin full");
    assert_eq!(pass(&mut new, 1, now), 10, "so does a new rule");
    assert_eq!(pass(&mut new, 0, now), 50, "no meter");
    assert_eq!(aggregate(&mut new, Phb::Telephony, now), 3);
    assert_eq!(aggregate(&mut new, Phb::Signalling, now), 5);
    let mut report = PolicyReport::new(1);
    new.fill(&mut report);
    let matched: Vec<_> = report.rules.iter().map(|r| r.matched.packets).collect();
    assert_eq!(matched, [100, 50, 100, 100], "counters go with the name");
    let [green, yellow, red] = report.rules[3].colours.map(|counted| counted.packets);
    assert_eq!((green, yellow, red), (13, 0, 87));
    let [green, _, red] = report.interfaces[0].aggregates[Phb::Telephony.index()];
    assert_eq!((green.bytes, red.packets), (1_300, 87));
    new.invariants();
}

#[test]
fn impossible_policies_are_refused() {
    let name = |n: usize| rule(&n.to_string(), None);
    assert!(compile((0..256).map(name).collect(), vec![]).is_ok());
    let refused = compile((0..257).map(name).collect(), vec![]).unwrap_err();
    assert_eq!(refused, PolicyError::Rules(257));
    let refused = compile(vec![name(1), name(2), name(1)], vec![]).unwrap_err();
    assert_eq!(refused, PolicyError::Name("1".to_owned()));
    let refused = compile(vec![rule("x", Some(metering(0)))], vec![]).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("the meter of rule \"x\": CBS"),
        "{refused}"
    );
    let refused = compile(vec![], vec![(Phb::Oam, metering(0))]).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("the meter of oam on interface 0: "),
        "{refused}"
    );
}

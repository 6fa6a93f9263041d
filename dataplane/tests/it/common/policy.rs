//! Policies, and what they make of a packet.

use std::ops::RangeInclusive;

use voicelane_dataplane::{
    control::{Answer, Request},
    diffserv::Dscp,
    policy::{Action, Match, Policy, PolicySpec, Prefix, Rule, Trust},
    units::TickRate,
};

use super::{CLOCK_HZ, FAR, HOST, Rig, Udp};

/// Obeys a policy from now on; gives the old one back.
pub fn set_policy(rig: &mut Rig, spec: &PolicySpec, generation: u64) -> Box<Policy> {
    let policy = Policy::new(spec, generation, TickRate::from_hz(CLOCK_HZ)).unwrap();
    match rig.ask(Request::SetPolicy(policy)) {
        Answer::Policy(old) => old,
        other => panic!("{other:?}"),
    }
}

/// These rules, and the usual trust.
pub fn spec(rules: Vec<Rule>) -> PolicySpec {
    PolicySpec {
        rules,
        interfaces: vec![Trust::Bleach.into(), Trust::Keep.into()],
        ..PolicySpec::default()
    }
}

pub fn rule(name: &str, matches: Match, action: Action) -> Rule {
    Rule {
        name: name.to_owned(),
        matches,
        action,
        meter: None,
    }
}

pub fn to_port(ports: RangeInclusive<u16>) -> Match {
    Match {
        destination_ports: vec![ports],
        ..Match::default()
    }
}

pub fn prefix(address: &str, length: u8) -> Vec<Prefix> {
    vec![Prefix::new(address.parse().unwrap(), length).unwrap()]
}

/// The code point of a frame.
pub fn dscp(frame: &[u8]) -> Dscp {
    let class = match frame[12..14] {
        [8, 0] => frame[15],
        _ => frame[14] << 4 | frame[15] >> 4,
    };
    Dscp::new(u32::from(class >> 2)).unwrap()
}

/// What a frame into the edge port leaves the core port with.
pub fn leaves_with(rig: &mut Rig, frame: &[u8]) -> Dscp {
    dscp(&rig.forward(frame).unwrap())
}

pub fn claiming(dscp: Dscp) -> Udp {
    Udp {
        tos: dscp.number() << 2 | 1,
        ..Udp::new(HOST, FAR, 4000, 172)
    }
}

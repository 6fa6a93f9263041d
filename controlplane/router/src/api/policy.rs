//! Rules, aggregates and senders in the words of the API.

use std::{net::IpAddr, ops::RangeInclusive};

use voicelane_dataplane::{
    diffserv::{Colour, ColourAction, Phb},
    policy::{Action, InterfaceReport, Metering, Prefix, RuleCounters, Sender},
    session::Protocol,
    stats::{Count, Report},
    units::Ticks,
};
use voicelane_proto::v1::{
    AggregateStatus, ColourStatus, MeterStatus, PortStatus, RuleStatus, SenderStatus, VlanStatus,
};

use crate::config::{InterfaceTrust, PoliceConfig, RuleConfig};

/// A rule with what it has counted; `interfaces` has their names.
pub(super) fn rule(
    config: &RuleConfig,
    counters: &RuleCounters,
    interfaces: &[&str],
) -> RuleStatus {
    let matches = &config.rule.matches;
    let interface = |index: usize| {
        interfaces
            .get(index)
            .copied()
            .unwrap_or_default()
            .to_owned()
    };
    RuleStatus {
        name: config.rule.name.clone(),
        interfaces: words(&matches.interfaces, |one| interface(one.index())),
        sources: words(&matches.sources, prefix),
        destinations: words(&matches.destinations, prefix),
        protocols: words(&matches.protocols, protocol),
        source_ports: words(&matches.source_ports, ports),
        destination_ports: words(&matches.destination_ports, ports),
        dscps: words(&matches.dscps, ToString::to_string),
        action: match config.rule.action {
            Action::Keep => "keep".to_owned(),
            Action::Mark(dscp) => dscp.to_string(),
            Action::Drop => "drop".to_owned(),
        },
        meter: config
            .meter
            .as_ref()
            .zip(config.rule.meter)
            .map(|(name, metering)| meter(name, &metering, &counters.colours)),
        packets: counters.matched.packets,
        bytes: counters.matched.bytes,
    }
}

/// What is told of an interface, be it a port's or a VLAN.
pub(super) struct Told {
    trust: String,
    reverse_path: String,
    senders: Vec<SenderStatus>,
    aggregates: Vec<AggregateStatus>,
}

impl Told {
    pub(super) fn new(of: &InterfaceTrust<'_>, counted: &InterfaceReport, report: &Report) -> Self {
        Self {
            trust: of.trust.to_string(),
            reverse_path: of.reverse_path.to_string(),
            senders: senders(report, counted),
            aggregates: aggregates(of.police, counted),
        }
    }

    /// Adds it to the rest.
    pub(super) fn of_port(self, port: PortStatus) -> PortStatus {
        PortStatus {
            trust: self.trust,
            reverse_path: self.reverse_path,
            senders: self.senders,
            aggregates: self.aggregates,
            ..port
        }
    }

    /// Adds it to the rest.
    pub(super) fn of_vlan(self, vlan: VlanStatus) -> VlanStatus {
        VlanStatus {
            trust: self.trust,
            reverse_path: self.reverse_path,
            senders: self.senders,
            aggregates: self.aggregates,
            ..vlan
        }
    }
}

fn aggregates(police: &[PoliceConfig], report: &InterfaceReport) -> Vec<AggregateStatus> {
    let aggregate = |one: &PoliceConfig| AggregateStatus {
        phb: one.phb.name().to_owned(),
        meter: Some(meter(
            &one.meter,
            &one.metering,
            &report.aggregates[Phb::index(one.phb)],
        )),
    };
    police.iter().map(aggregate).collect()
}

/// The senders of an interface, the greatest first.
fn senders(report: &Report, interface: &InterfaceReport) -> Vec<SenderStatus> {
    let sender = |sender: &Sender| SenderStatus {
        address: sender.address.to_string(),
        dscp: sender.claims.to_string(),
        packets: sender.packets,
        error_packets: sender.error,
        bytes: sender.bytes,
        last_seen_ms_ago: milliseconds_since(report, sender.last_seen),
        offence: sender.offence.name().to_owned(),
    };
    greatest(&interface.senders).iter().map(sender).collect()
}

/// By what is theirs for sure.
pub(super) fn greatest(senders: &[Sender]) -> Vec<Sender> {
    let mut senders = senders.to_vec();
    let key = |one: &Sender| {
        (
            std::cmp::Reverse(one.packets - one.error),
            one.address,
            one.claims,
        )
    };
    senders.sort_unstable_by_key(key);
    senders
}

fn milliseconds_since(report: &Report, when: Ticks) -> u64 {
    report.clock.nanoseconds(report.now.since(when)) / 1_000_000
}

fn meter(name: &str, metering: &Metering, counted: &[Count; Colour::ALL.len()]) -> MeterStatus {
    let colours = Colour::ALL.iter().zip(counted);
    let colours = colours.map(|(colour, counted)| ColourStatus {
        colour: colour.name().to_owned(),
        action: match metering.marking.action(*colour) {
            ColourAction::Keep => "keep".to_owned(),
            ColourAction::Mark(dscp) => dscp.to_string(),
            ColourAction::Drop => "drop".to_owned(),
        },
        packets: counted.packets,
        bytes: counted.bytes,
    });
    MeterStatus {
        name: name.to_owned(),
        terms: metering.spec.to_string(),
        colours: colours.collect(),
    }
}

fn words<T>(all: &[T], word: impl Fn(&T) -> String) -> Vec<String> {
    all.iter().map(word).collect()
}

fn prefix(prefix: &Prefix) -> String {
    match (prefix.address(), prefix.length()) {
        (IpAddr::V4(host), 32) => host.to_string(),
        (IpAddr::V6(host), 128) => host.to_string(),
        (network, length) => format!("{network}/{length}"),
    }
}

pub(super) fn protocol(protocol: &Protocol) -> String {
    match *protocol {
        Protocol::UDP => "udp".to_owned(),
        Protocol::TCP => "tcp".to_owned(),
        Protocol::ICMP => "icmp".to_owned(),
        Protocol::ICMP_V6 => "icmp6".to_owned(),
        Protocol(number) => number.to_string(),
    }
}

fn ports(ports: &RangeInclusive<u16>) -> String {
    match (ports.start(), ports.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

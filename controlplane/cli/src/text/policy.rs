//! `router rules`, `router senders`, `router reload`: what a router does with packets of no session.

use std::iter;

use serde::Serialize;
use voicelane_proto::v1;

use super::{lines, name, table};

/// Both answers that `router rules` shows.
#[derive(Serialize)]
pub(crate) struct Rules {
    #[serde(flatten)]
    pub(crate) rules: v1::ListRulesResponse,
    pub(crate) ports: Vec<v1::PortStatus>,
}

/// The rules in their order, then what each interface does where no rule matches.
pub(crate) fn rules(Rules { rules, ports }: &Rules) -> String {
    let rows = (1..).zip(&rules.rules).map(|(place, rule): (usize, _)| {
        [
            place.to_string(),
            rule.name.clone(),
            matches(rule),
            rule.action.clone(),
            rule.packets.to_string(),
            rule.bytes.to_string(),
            rule.meter.as_ref().map_or_else(String::new, meter),
        ]
    });
    let mut text = table(
        ["#", "RULE", "MATCHES", "DOES", "PACKETS", "BYTES", "METER"],
        rows,
    );
    let interfaces = ports.iter().flat_map(each_interface).map(|interface| {
        [
            interface.name.to_owned(),
            interface.trust.to_owned(),
            interface.reverse_path.to_owned(),
            lines(interface.aggregates, |one| {
                let meter = one.meter.as_ref().map_or_else(String::new, meter);
                format!("{}: {meter}", one.phb)
            }),
        ]
    });
    text += "\n";
    text += &table(["ELSE, ON", "TRUST", "REVERSE PATH", "POLICE"], interfaces);
    text += &format!(
        "\nfrom the kernel: {}; network control: ARP, ND, IGMP, MLD, {}",
        rules.kernel_trust,
        rules.kernel_routing.join(", ")
    );
    text
}

/// The senders of each interface, and what came in on it without a right to its code point.
pub(crate) fn senders(answer: &v1::ListPortsResponse) -> String {
    let interfaces = || answer.ports.iter().flat_map(each_interface);
    let rows = interfaces().flat_map(|interface| {
        interface.senders.iter().map(move |sender| {
            let packets = match sender.packets.saturating_sub(sender.error_packets) {
                sure if sure == sender.packets => sure.to_string(),
                sure => format!("{sure} to {}", sender.packets),
            };
            [
                interface.name.to_owned(),
                sender.address.clone(),
                sender.dscp.clone(),
                sender.offence.clone(),
                packets,
                sender.bytes.to_string(),
                format!("{} ms ago", sender.last_seen_ms_ago),
            ]
        })
    });
    let mut text = table(
        [
            "INTERFACE",
            "SENDER",
            "CLAIMS",
            "OFFENCE",
            "PACKETS",
            "BYTES",
            "LAST SEEN",
        ],
        rows,
    );
    for interface in interfaces() {
        text += &format!(
            "\n{}: {} packets bleached or remarked, {} with a call's five-tuple that comes in \
             elsewhere",
            interface.name, interface.bleached_packets, interface.spoofed_packets
        );
    }
    text
}

/// What is different after `router reload`, one line each.
pub(crate) fn reloaded(answer: &v1::ReloadResponse) -> String {
    match answer.changes.as_slice() {
        [] => "read again: no change".to_owned(),
        changes => format!("read again and obeyed:\n{}", changes.join("\n")),
    }
}

fn matches(rule: &v1::RuleStatus) -> String {
    let fields = [
        ("on", &rule.interfaces),
        ("from", &rule.sources),
        ("to", &rule.destinations),
        ("protocol", &rule.protocols),
        ("source port", &rule.source_ports),
        ("destination port", &rule.destination_ports),
        ("dscp", &rule.dscps),
    ];
    let fields = fields.iter().filter(|(_, values)| !values.is_empty());
    let fields: Vec<_> = fields
        .map(|(field, values)| format!("{field} {}", values.join(", ")))
        .collect();
    match fields.as_slice() {
        [] => "all".to_owned(),
        some => some.join("\n"),
    }
}

fn meter(meter: &v1::MeterStatus) -> String {
    let colours = meter.colours.iter();
    let colours = colours.map(|one| format!("{} {}: {}", one.colour, one.packets, one.action));
    let colours: Vec<_> = colours.collect();
    format!("{} ({})\n{}", meter.name, meter.terms, colours.join(", "))
}

/// What ports and VLANs have in common.
#[derive(Clone, Copy)]
struct Interface<'a> {
    name: &'a str,
    trust: &'a str,
    reverse_path: &'a str,
    bleached_packets: u64,
    spoofed_packets: u64,
    senders: &'a [v1::SenderStatus],
    aggregates: &'a [v1::AggregateStatus],
}

/// The port's own interface, then its VLANs.
fn each_interface(port: &v1::PortStatus) -> impl Iterator<Item = Interface<'_>> {
    let vlans = port.vlans.iter().map(|vlan| Interface {
        name: name(vlan.interface.as_ref()),
        trust: &vlan.trust,
        reverse_path: &vlan.reverse_path,
        bleached_packets: vlan.bleached_packets,
        spoofed_packets: vlan.spoofed_packets,
        senders: &vlan.senders,
        aggregates: &vlan.aggregates,
    });
    let own = Interface {
        name: name(port.interface.as_ref()),
        trust: &port.trust,
        reverse_path: &port.reverse_path,
        bleached_packets: port.bleached_packets,
        spoofed_packets: port.spoofed_packets,
        senders: &port.senders,
        aggregates: &port.aggregates,
    };
    iter::once(own).chain(vlans)
}

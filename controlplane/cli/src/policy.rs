//! `router rules`, `router senders`, `router reload`: what a router does with what no session covers.

use serde::Serialize;
use voicelane_proto::v1;

use crate::output::table;

/// `router rules`.
#[derive(Serialize)]
pub(crate) struct Rules {
    /// In the order in which they are tried.
    rules: Vec<Rule>,
    /// Of each interface, by name.
    interfaces: Vec<Interface>,
    /// Of frames that the kernel sends.
    kernel: Kernel,
}

#[derive(Serialize)]
struct Kernel {
    /// As an interface's.
    trust: String,
    /// What is network control all the same.
    routing: Vec<String>,
}

#[derive(Serialize)]
struct Rule {
    name: String,
    /// What it matches; an empty list is anything.
    interfaces: Vec<String>,
    sources: Vec<String>,
    destinations: Vec<String>,
    protocols: Vec<String>,
    source_ports: Vec<String>,
    destination_ports: Vec<String>,
    dscps: Vec<String>,
    /// "keep", "drop", or a code point.
    action: String,
    /// null: it has none.
    meter: Option<Meter>,
    packets: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Meter {
    name: String,
    terms: String,
    colours: Vec<Colour>,
}

#[derive(Serialize)]
struct Colour {
    colour: String,
    /// "keep", "drop", or a code point.
    action: String,
    packets: u64,
    bytes: u64,
}

/// What an interface does where no rule matches.
#[derive(Serialize)]
struct Interface {
    name: String,
    /// "keep", "bleach", or "remark" with its map.
    trust: String,
    /// "strict", "loose", "off".
    reverse_path: String,
    aggregates: Vec<Aggregate>,
}

#[derive(Serialize)]
struct Aggregate {
    phb: String,
    meter: Meter,
}

impl Rules {
    pub(crate) fn new(rules: v1::ListRulesResponse, ports: v1::ListPortsResponse) -> Self {
        let interfaces = each_interface(ports).map(|of| Interface {
            name: of.name,
            trust: of.trust,
            reverse_path: of.reverse_path,
            aggregates: of
                .aggregates
                .into_iter()
                .map(|aggregate| Aggregate {
                    phb: aggregate.phb,
                    meter: aggregate.meter.unwrap_or_default().into(),
                })
                .collect(),
        });
        Self {
            rules: rules.rules.into_iter().map(Into::into).collect(),
            interfaces: interfaces.collect(),
            kernel: Kernel {
                trust: rules.kernel_trust,
                routing: rules.kernel_routing,
            },
        }
    }

    /// As people read it.
    pub(crate) fn text(&self) -> String {
        let rules = (1..).zip(&self.rules).map(|(place, rule): (usize, _)| {
            let meter = rule.meter.as_ref();
            [
                place.to_string(),
                rule.name.clone(),
                rule.matches(),
                rule.action.clone(),
                rule.packets.to_string(),
                rule.bytes.to_string(),
                meter.map_or_else(String::new, Meter::text),
            ]
        });
        let mut text = table(
            ["#", "RULE", "MATCHES", "DOES", "PACKETS", "BYTES", "METER"],
            rules,
        );
        let interfaces = self.interfaces.iter().map(|interface| {
            let aggregates = interface.aggregates.iter();
            let aggregates: Vec<_> = aggregates
                .map(|one| format!("{}: {}", one.phb, one.meter.text()))
                .collect();
            [
                interface.name.clone(),
                interface.trust.clone(),
                interface.reverse_path.clone(),
                aggregates.join("\n"),
            ]
        });
        text += "\n";
        text += &table(["ELSE, ON", "TRUST", "REVERSE PATH", "POLICE"], interfaces);
        let Kernel { trust, routing } = &self.kernel;
        text += &format!(
            "\nfrom the kernel: {trust}; network control: ARP, ND, IGMP, MLD, {}",
            routing.join(", ")
        );
        text
    }
}

impl Rule {
    fn matches(&self) -> String {
        let fields = [
            ("on", &self.interfaces),
            ("from", &self.sources),
            ("to", &self.destinations),
            ("protocol", &self.protocols),
            ("source port", &self.source_ports),
            ("destination port", &self.destination_ports),
            ("dscp", &self.dscps),
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
}

impl Meter {
    fn text(&self) -> String {
        let colours = self.colours.iter();
        let colours = colours.map(|one| format!("{} {}: {}", one.colour, one.packets, one.action));
        let colours: Vec<_> = colours.collect();
        format!("{} ({})\n{}", self.name, self.terms, colours.join(", "))
    }
}

impl From<v1::RuleStatus> for Rule {
    fn from(rule: v1::RuleStatus) -> Self {
        Self {
            name: rule.name,
            interfaces: rule.interfaces,
            sources: rule.sources,
            destinations: rule.destinations,
            protocols: rule.protocols,
            source_ports: rule.source_ports,
            destination_ports: rule.destination_ports,
            dscps: rule.dscps,
            action: rule.action,
            meter: rule.meter.map(Into::into),
            packets: rule.packets,
            bytes: rule.bytes,
        }
    }
}

impl From<v1::MeterStatus> for Meter {
    fn from(meter: v1::MeterStatus) -> Self {
        let colours = meter.colours.into_iter().map(|one| Colour {
            colour: one.colour,
            action: one.action,
            packets: one.packets,
            bytes: one.bytes,
        });
        Self {
            name: meter.name,
            terms: meter.terms,
            colours: colours.collect(),
        }
    }
}

/// `router senders`.
#[derive(Serialize)]
pub(crate) struct Senders {
    /// The greatest of each interface first.
    senders: Vec<Sender>,
    /// How many packets there were on each interface.
    interfaces: Vec<Offences>,
}

#[derive(Serialize)]
struct Sender {
    interface: String,
    address: String,
    /// What it claims without a session.
    dscp: String,
    /// What it has no right to: "claim", the code point; "spoofed", a call's five-tuple;
    /// "reverse-path", its address.
    offence: String,
    /// At most.
    packets: u64,
    /// How many of them may be of others.
    error_packets: u64,
    /// Of the packets that are its own for sure.
    bytes: u64,
    last_seen_ms_ago: u64,
}

#[derive(Serialize)]
struct Offences {
    name: String,
    bleached_packets: u64,
    spoofed_packets: u64,
}

impl Senders {
    pub(crate) fn new(ports: v1::ListPortsResponse) -> Self {
        let all: Vec<_> = each_interface(ports).collect();
        let interfaces = all.iter().map(|of| Offences {
            name: of.name.clone(),
            bleached_packets: of.bleached_packets,
            spoofed_packets: of.spoofed_packets,
        });
        let interfaces = interfaces.collect();
        let senders = all.into_iter().flat_map(|of| {
            of.senders.into_iter().map(move |sender| Sender {
                interface: of.name.clone(),
                address: sender.address,
                dscp: sender.dscp,
                offence: sender.offence,
                packets: sender.packets,
                error_packets: sender.error_packets,
                bytes: sender.bytes,
                last_seen_ms_ago: sender.last_seen_ms_ago,
            })
        });
        Self {
            senders: senders.collect(),
            interfaces,
        }
    }

    /// As people read it.
    pub(crate) fn text(&self) -> String {
        let senders = self.senders.iter().map(|sender| {
            let packets = match sender.packets - sender.error_packets.min(sender.packets) {
                sure if sure == sender.packets => sure.to_string(),
                sure => format!("{sure} to {}", sender.packets),
            };
            [
                sender.interface.clone(),
                sender.address.clone(),
                sender.dscp.clone(),
                sender.offence.clone(),
                packets,
                sender.bytes.to_string(),
                format!("{} ms ago", sender.last_seen_ms_ago),
            ]
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
            senders,
        );
        for Offences {
            name,
            bleached_packets,
            spoofed_packets,
        } in &self.interfaces
        {
            text += &format!(
                "\n{name}: {bleached_packets} packets bleached or remarked, {spoofed_packets} with a \
                 call's five-tuple that comes in elsewhere"
            );
        }
        text
    }
}

/// `router reload`.
#[derive(Serialize)]
pub(crate) struct Reloaded {
    /// What is different now; empty: nothing is.
    changes: Vec<String>,
}

impl Reloaded {
    pub(crate) fn new(answer: v1::ReloadResponse) -> Self {
        Self {
            changes: answer.changes,
        }
    }

    /// As people read it.
    pub(crate) fn text(&self) -> String {
        match self.changes.as_slice() {
            [] => "read again: no change".to_owned(),
            changes => format!("read again and obeyed:\n{}", changes.join("\n")),
        }
    }
}

/// What is told of an interface.
struct OfInterface {
    name: String,
    trust: String,
    reverse_path: String,
    bleached_packets: u64,
    spoofed_packets: u64,
    senders: Vec<v1::SenderStatus>,
    aggregates: Vec<v1::AggregateStatus>,
}

fn each_interface(ports: v1::ListPortsResponse) -> impl Iterator<Item = OfInterface> {
    ports.ports.into_iter().flat_map(|port| {
        let vlans = port.vlans.into_iter().map(|vlan| OfInterface {
            name: vlan.interface.unwrap_or_default().name,
            trust: vlan.trust,
            reverse_path: vlan.reverse_path,
            bleached_packets: vlan.bleached_packets,
            spoofed_packets: vlan.spoofed_packets,
            senders: vlan.senders,
            aggregates: vlan.aggregates,
        });
        let own = OfInterface {
            name: port.interface.unwrap_or_default().name,
            trust: port.trust,
            reverse_path: port.reverse_path,
            bleached_packets: port.bleached_packets,
            spoofed_packets: port.spoofed_packets,
            senders: port.senders,
            aggregates: port.aggregates,
        };
        std::iter::once(own).chain(vlans)
    })
}

//! `router stats`: ports, queues and drops of one router.

use std::iter;

use serde::Serialize;
use voicelane_proto::v1;

use super::{lines, name, table};

/// Both answers that `router stats` shows.
#[derive(Serialize)]
pub(crate) struct Stats {
    pub(crate) status: v1::GetStatusResponse,
    pub(crate) ports: Vec<v1::PortStatus>,
    pub(crate) definitions: Vec<v1::CounterDefinition>,
}

/// The router in a sentence, its ports with their VLANs, their queues, and counters of no port.
pub(crate) fn stats(
    Stats {
        status,
        ports,
        definitions,
    }: &Stats,
) -> String {
    let mut text = format!(
        "router {}: up {} s, {}, {} calls, {} of {} entries{}, {} routes{}, {} neighbours, \
         {} of {} buffers free, release {}, {}\n",
        status.router_id,
        status.uptime_ms / 1_000,
        attachment(status),
        status.sessions,
        status.entries,
        status.entry_capacity,
        waiting(status),
        status.routes,
        refused(status),
        status.neighbours,
        status.buffers_free,
        status.buffers_total,
        status.software_version,
        status.dpdk_version
    );
    let rows = ports
        .iter()
        .flat_map(|port| iter::once(row(port)).chain(port.vlans.iter().map(|it| vlan(it, port))));
    text += &table(
        [
            "PORT", "DEVICE", "RX", "TX", "BLEACHED", "SPOOFED", "DROPS", "PUNTS", "REFUSED",
        ],
        rows,
    );
    text += "\n";
    text += &table(
        [
            "PORT", "PHB", "SENT", "DROPPED", "MARKED", "DEPTH", "p50 us", "p99 us", "MAX us",
        ],
        ports
            .iter()
            .flat_map(|port| port.queues.iter().map(|it| queue(it, port))),
    );
    let counters = counters(ports, definitions);
    if !counters.is_empty() {
        text += "\n";
        text += &table(["PORT", "OF", "COUNTER", "VALUE", "MEANING"], counters);
    }
    if !status.counters.is_empty() {
        text += &format!("\n{}", counts(&status.counters));
    }
    for one in &status.bypassed {
        text += &format!("\nforwarded traffic bypasses {one}");
    }
    text
}

fn attachment(status: &v1::GetStatusResponse) -> String {
    match (status.server.as_str(), status.attached) {
        ("", _) => "no server configured".to_owned(),
        (server, true) => format!("attached to {server}"),
        (server, false) => format!("not attached to {server}"),
    }
}

/// How many entries wait for their source, if any.
fn waiting(status: &v1::GetStatusResponse) -> String {
    match status.waiting_latches {
        0 => String::new(),
        waiting => format!(" ({waiting} wait for their source)"),
    }
}

/// How many routes the worker lacks, if any.
fn refused(status: &v1::GetStatusResponse) -> String {
    match status.refused_routes {
        0 => String::new(),
        refused => format!(" ({refused} more by the kernel, for lack of room)"),
    }
}

fn row(port: &v1::PortStatus) -> [String; 9] {
    [
        name(port.interface.as_ref()).to_owned(),
        port.device.clone(),
        port.rx_packets.to_string(),
        port.tx_packets.to_string(),
        port.bleached_packets.to_string(),
        port.spoofed_packets.to_string(),
        counts(&port.drops),
        counts(&port.punts),
        counts(&port.refused_punts),
    ]
}

/// A row below its port's; what is sent is in the port's.
fn vlan(vlan: &v1::VlanStatus, port: &v1::PortStatus) -> [String; 9] {
    let interface = vlan.interface.as_ref();
    let id = interface.map_or(0, |it| it.vlan_id);
    [
        name(interface).to_owned(),
        format!("VLAN {id} of {}", name(port.interface.as_ref())),
        vlan.rx_packets.to_string(),
        String::new(),
        vlan.bleached_packets.to_string(),
        vlan.spoofed_packets.to_string(),
        counts(&vlan.drops),
        counts(&vlan.punts),
        counts(&vlan.refused_punts),
    ]
}

fn queue(queue: &v1::QueueStatus, port: &v1::PortStatus) -> [String; 9] {
    let delay = queue.delay_us.filter(|delay| delay.count > 0);
    let us = |value: Option<f64>| value.map_or_else(String::new, |us| format!("{us:.0}"));
    [
        name(port.interface.as_ref()).to_owned(),
        queue.phb.clone(),
        queue.sent_packets.to_string(),
        queue.dropped_packets.to_string(),
        queue.ecn_marked_packets.to_string(),
        queue.depth_packets.to_string(),
        us(delay.map(|delay| delay.p50)),
        us(delay.map(|delay| delay.p99)),
        us(delay.map(|delay| delay.max)),
    ]
}

/// A row for each counter that occurred and has no column in the tables before.
fn counters(ports: &[v1::PortStatus], definitions: &[v1::CounterDefinition]) -> Vec<[String; 5]> {
    const IN_COLUMNS: [&str; 11] = [
        "rx_packets",
        "tx_packets",
        "bleached_packets",
        "spoofed_packets",
        "drops",
        "punts",
        "refused_punts",
        "sent_packets",
        "enqueued_packets",
        "ecn_marked_packets",
        "depth_packets",
    ];
    let mut rows = Vec::new();
    let mut add = |of: &str, interface: &Option<v1::Interface>, which: &str, counters: &[_]| {
        for counter in counters {
            let v1::CounterValue { name, label, value } = counter;
            if IN_COLUMNS.contains(&name.as_str()) {
                continue;
            }
            let defined = |it: &&v1::CounterDefinition| it.of == of && it.name == *name;
            let definition = definitions.iter().find(defined);
            let label_name = definition.map_or("", |it| it.label.as_str());
            let counter = match label.as_str() {
                "" => name.clone(),
                label => format!("{name} ({label_name} {label})"),
            };
            rows.push([
                self::name(interface.as_ref()).to_owned(),
                which.to_owned(),
                counter,
                value.to_string(),
                definition.map_or_else(String::new, |it| it.help.clone()),
            ]);
        }
    };
    for port in ports {
        add("port", &port.interface, "port", &port.port_counters);
        let untagged = &port.interface_counters;
        add("interface", &port.interface, "interface", untagged);
        for vlan in &port.vlans {
            let counters = &vlan.interface_counters;
            add("interface", &vlan.interface, "interface", counters);
        }
        for queue in &port.queues {
            add("queue", &port.interface, &queue.phb, &queue.counters);
        }
    }
    rows
}

fn counts(counts: &[v1::NamedCount]) -> String {
    lines(counts, |count| format!("{} {}", count.name, count.packets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: v1::GetStatusResponse) -> String {
        stats(&Stats {
            status,
            ports: Vec::new(),
            definitions: Vec::new(),
        })
    }

    #[test]
    fn what_is_bypassed_is_said() {
        let text = shown(v1::GetStatusResponse {
            bypassed: vec!["tc qdisc htb on lan: write rate".to_owned()],
            ..Default::default()
        });
        assert!(text.ends_with("\nforwarded traffic bypasses tc qdisc htb on lan: write rate"));
    }

    #[test]
    fn a_router_without_a_server_says_so() {
        let says = |server: &str, attached| {
            shown(v1::GetStatusResponse {
                server: server.into(),
                attached,
                ..Default::default()
            })
        };
        assert!(says("", false).contains(" s, no server configured, "));
        assert!(says("http://a:1", false).contains(" s, not attached to http://a:1, "));
        assert!(says("http://a:1", true).contains(" s, attached to http://a:1, "));
    }
}

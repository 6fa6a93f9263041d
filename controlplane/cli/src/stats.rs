//! `router stats`: what a router itself says of its ports.

use std::iter;

use serde::Serialize;
use voicelane_proto::v1;

use crate::{json::Interface, output::table};

/// The document.
#[derive(Serialize)]
pub(crate) struct Stats {
    pub(crate) status: Status,
    pub(crate) ports: Vec<Port>,
}

/// Of the router.
#[derive(Serialize)]
pub(crate) struct Status {
    router_id: String,
    /// In hexadecimal.
    epoch: String,
    software_version: String,
    dpdk_version: String,
    uptime_ms: u64,
    attached: bool,
    server: String,
    sessions: u64,
    entries: u64,
    entry_capacity: u64,
    routes: u64,
    refused_routes: u64,
    neighbours: u64,
    buffers_total: u64,
    buffers_free: u64,
    counters: Vec<Count>,
    bypassed: Vec<String>,
}

/// Of a port.
#[derive(Serialize)]
pub(crate) struct Port {
    interface: Option<Interface>,
    device: String,
    rx_packets: u64,
    rx_bytes: u64,
    tx_packets: u64,
    tx_bytes: u64,
    bleached_packets: u64,
    spoofed_packets: u64,
    twin_packets: u64,
    twin_bleached_packets: u64,
    fragment_packets: u64,
    drops: Vec<Count>,
    punts: Vec<Count>,
    /// By class.
    refused_punts: Vec<Count>,
    queues: Vec<Queue>,
    vlans: Vec<Vlan>,
}

/// Of a VLAN of a port.
#[derive(Serialize)]
struct Vlan {
    interface: Option<Interface>,
    rx_packets: u64,
    rx_bytes: u64,
    bleached_packets: u64,
    spoofed_packets: u64,
    twin_packets: u64,
    twin_bleached_packets: u64,
    fragment_packets: u64,
    drops: Vec<Count>,
    punts: Vec<Count>,
    /// By class.
    refused_punts: Vec<Count>,
}

#[derive(Serialize)]
struct Count {
    name: String,
    packets: u64,
}

#[derive(Serialize)]
struct Queue {
    phb: String,
    enqueued_packets: u64,
    sent_packets: u64,
    sent_bytes: u64,
    dropped_packets: u64,
    /// By drop precedence.
    full_packets: Vec<u64>,
    /// By drop precedence.
    early_packets: Vec<u64>,
    delay_dropped_packets: u64,
    ecn_marked_packets: u64,
    depth_packets: u64,
    /// null: nothing was queued.
    delay_us: Option<Quantiles>,
}

#[derive(Serialize)]
struct Quantiles {
    count: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Stats {
    pub(crate) fn new(status: v1::GetStatusResponse, ports: v1::ListPortsResponse) -> Self {
        Self {
            status: status.into(),
            ports: ports.ports.into_iter().map(Into::into).collect(),
        }
    }

    /// As people read it.
    pub(crate) fn text(&self) -> String {
        let of = &self.status;
        let mut text = format!(
            "router {}: up {} s, {}, {} calls, {} of {} entries, {} routes{}, {} neighbours, \
             {} of {} buffers free, release {}, {}\n",
            of.router_id,
            of.uptime_ms / 1_000,
            of.attachment(),
            of.sessions,
            of.entries,
            of.entry_capacity,
            of.routes,
            of.refused(),
            of.neighbours,
            of.buffers_free,
            of.buffers_total,
            of.software_version,
            of.dpdk_version
        );
        let rows = self.ports.iter().flat_map(|port| {
            let own = [
                port.name().to_owned(),
                port.device.clone(),
                port.rx_packets.to_string(),
                port.tx_packets.to_string(),
                port.bleached_packets.to_string(),
                port.spoofed_packets.to_string(),
                counts(&port.drops),
                counts(&port.punts),
                counts(&port.refused_punts),
            ];
            iter::once(own).chain(port.vlans.iter().map(|vlan| vlan.row(port)))
        });
        text += &table(
            [
                "PORT", "DEVICE", "RX", "TX", "BLEACHED", "SPOOFED", "DROPS", "PUNTS", "REFUSED",
            ],
            rows,
        );
        let queues = self.ports.iter().flat_map(|port| {
            port.queues.iter().map(|queue| {
                let delay = queue.delay_us.as_ref();
                let us =
                    |value: Option<f64>| value.map_or_else(String::new, |us| format!("{us:.0}"));
                [
                    port.name().to_owned(),
                    queue.phb.clone(),
                    queue.sent_packets.to_string(),
                    queue.dropped_packets.to_string(),
                    queue.ecn_marked_packets.to_string(),
                    queue.depth_packets.to_string(),
                    us(delay.map(|delay| delay.p50)),
                    us(delay.map(|delay| delay.p99)),
                    us(delay.map(|delay| delay.max)),
                ]
            })
        });
        text += "\n";
        text += &table(
            [
                "PORT", "PHB", "SENT", "DROPPED", "MARKED", "DEPTH", "p50 us", "p99 us", "MAX us",
            ],
            queues,
        );
        if !of.counters.is_empty() {
            text += &format!("\n{}", counts(&of.counters));
        }
        for one in &of.bypassed {
            text += &format!("\nforwarded traffic bypasses {one}");
        }
        text
    }
}

impl Status {
    /// How many routes the worker lacks, if any.
    fn refused(&self) -> String {
        match self.refused_routes {
            0 => String::new(),
            refused => format!(" ({refused} more by the kernel, for lack of room)"),
        }
    }

    fn attachment(&self) -> String {
        match (self.server.as_str(), self.attached) {
            ("", _) => "no server configured".to_owned(),
            (server, true) => format!("attached to {server}"),
            (server, false) => format!("not attached to {server}"),
        }
    }
}

impl Port {
    fn name(&self) -> &str {
        self.interface.as_ref().map_or("", |it| it.name.as_str())
    }
}

impl Vlan {
    /// Below its port's: what is sent is the port's.
    fn row(&self, port: &Port) -> [String; 9] {
        let interface = self.interface.as_ref();
        let id = interface.and_then(|it| it.vlan_id).unwrap_or_default();
        [
            interface.map_or_else(String::new, |it| it.name.clone()),
            format!("VLAN {id} of {}", port.name()),
            self.rx_packets.to_string(),
            String::new(),
            self.bleached_packets.to_string(),
            self.spoofed_packets.to_string(),
            counts(&self.drops),
            counts(&self.punts),
            counts(&self.refused_punts),
        ]
    }
}

fn counts(counts: &[Count]) -> String {
    counts
        .iter()
        .map(|count| format!("{} {}", count.name, count.packets))
        .collect::<Vec<_>>()
        .join("\n")
}

impl From<v1::GetStatusResponse> for Status {
    fn from(status: v1::GetStatusResponse) -> Self {
        Self {
            router_id: status.router_id,
            epoch: format!("{:016x}", status.epoch),
            software_version: status.software_version,
            dpdk_version: status.dpdk_version,
            uptime_ms: status.uptime_ms,
            attached: status.attached,
            server: status.server,
            sessions: status.sessions,
            entries: status.entries,
            entry_capacity: status.entry_capacity,
            routes: status.routes,
            refused_routes: status.refused_routes,
            neighbours: status.neighbours,
            buffers_total: status.buffers_total,
            buffers_free: status.buffers_free,
            counters: status.counters.into_iter().map(Into::into).collect(),
            bypassed: status.bypassed,
        }
    }
}

impl From<v1::PortStatus> for Port {
    fn from(port: v1::PortStatus) -> Self {
        Self {
            interface: port.interface.map(Into::into),
            device: port.device,
            rx_packets: port.rx_packets,
            rx_bytes: port.rx_bytes,
            tx_packets: port.tx_packets,
            tx_bytes: port.tx_bytes,
            bleached_packets: port.bleached_packets,
            spoofed_packets: port.spoofed_packets,
            twin_packets: port.twin_packets,
            twin_bleached_packets: port.twin_bleached_packets,
            fragment_packets: port.fragment_packets,
            drops: port.drops.into_iter().map(Into::into).collect(),
            punts: port.punts.into_iter().map(Into::into).collect(),
            refused_punts: port.refused_punts.into_iter().map(Into::into).collect(),
            queues: port.queues.into_iter().map(Into::into).collect(),
            vlans: port.vlans.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::VlanStatus> for Vlan {
    fn from(vlan: v1::VlanStatus) -> Self {
        Self {
            interface: vlan.interface.map(Into::into),
            rx_packets: vlan.rx_packets,
            rx_bytes: vlan.rx_bytes,
            bleached_packets: vlan.bleached_packets,
            spoofed_packets: vlan.spoofed_packets,
            twin_packets: vlan.twin_packets,
            twin_bleached_packets: vlan.twin_bleached_packets,
            fragment_packets: vlan.fragment_packets,
            drops: vlan.drops.into_iter().map(Into::into).collect(),
            punts: vlan.punts.into_iter().map(Into::into).collect(),
            refused_punts: vlan.refused_punts.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::NamedCount> for Count {
    fn from(count: v1::NamedCount) -> Self {
        Self {
            name: count.name,
            packets: count.packets,
        }
    }
}

impl From<v1::QueueStatus> for Queue {
    fn from(queue: v1::QueueStatus) -> Self {
        Self {
            phb: queue.phb,
            enqueued_packets: queue.enqueued_packets,
            sent_packets: queue.sent_packets,
            sent_bytes: queue.sent_bytes,
            dropped_packets: queue.dropped_packets,
            full_packets: queue.full_packets,
            early_packets: queue.early_packets,
            delay_dropped_packets: queue.delay_dropped_packets,
            ecn_marked_packets: queue.ecn_marked_packets,
            depth_packets: queue.depth_packets,
            delay_us: queue
                .delay_us
                .filter(|delay| delay.count > 0)
                .map(|delay| Quantiles {
                    count: delay.count,
                    p50: delay.p50,
                    p90: delay.p90,
                    p99: delay.p99,
                    p999: delay.p999,
                    max: delay.max,
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bypassed_is_said() {
        let status = v1::GetStatusResponse {
            bypassed: vec!["tc qdisc htb on lan: write rate".to_owned()],
            ..Default::default()
        };
        let text = Stats::new(status, v1::ListPortsResponse::default()).text();
        assert!(text.ends_with("\nforwarded traffic bypasses tc qdisc htb on lan: write rate"));
    }

    #[test]
    fn a_router_without_a_server_says_so() {
        let says = |server: &str, attached| {
            let status = v1::GetStatusResponse {
                server: server.into(),
                attached,
                ..Default::default()
            };
            Stats::new(status, v1::ListPortsResponse::default()).text()
        };
        assert!(says("", false).contains(" s, no server configured, "));
        assert!(says("http://a:1", false).contains(" s, not attached to http://a:1, "));
        assert!(says("http://a:1", true).contains(" s, attached to http://a:1, "));
    }
}

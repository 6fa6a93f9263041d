//! The families, each with its name, its help and its values.

use std::fmt;

use voicelane_dataplane::{
    diffserv::{Colour, Phb},
    stats::{Count, InterfaceCounters, QueueCounters},
};
use voicelane_dpdk::PortStats;

use super::{Figures, Label, Out};
use crate::{
    api::figures::{QUANTILES, delay_seconds},
    sessions::EntryReading,
};

impl Figures {
    pub(super) fn router(&self, out: &mut Out<'_>) -> fmt::Result {
        let uptime = self.uptime_seconds;
        out.gauge("voicelane_uptime_seconds", "Since the start", uptime)?;
        if let Some(attached) = self.attached {
            let help = "1: the router has the QoS server's sessions";
            out.gauge("voicelane_attached", help, u32::from(attached))?;
        }
        let (total, free) = self.buffers;
        out.gauge("voicelane_buffers", "Packet buffers in all", total)?;
        let help = "Packet buffers that are free";
        out.gauge("voicelane_buffers_free", help, free)?;
        let help = "Routes that the worker has";
        out.gauge("voicelane_routes", help, self.routes)?;
        let help = "Routes that the worker has no room for: the kernel forwards";
        out.gauge("voicelane_routes_refused", help, self.refused_routes)?;
        let help = "Neighbours that are known";
        out.gauge("voicelane_neighbours", help, self.neighbours)?;
        out.counters(
            "voicelane_twin_drops",
            "Frames lost between worker and kernel twins",
            self.twins
                .iter()
                .map(|twin| ([("reason", twin.name)], twin.frames)),
        )
    }

    fn each_interface(&self) -> impl Iterator<Item = (&str, &InterfaceCounters)> {
        self.interfaces
            .iter()
            .map(|(name, _)| name.as_str())
            .zip(&self.report.interfaces)
    }

    pub(super) fn interfaces(&self, out: &mut Out<'_>) -> fmt::Result {
        let up = self.interfaces.iter();
        let up = up.map(|(name, up)| ([("interface", name.as_str())], u32::from(*up)));
        let help = "1: the port and the interface's twin are up";
        out.gauges("voicelane_interface_up", help, up)?;
        let each = || {
            self.each_interface()
                .map(|(name, it)| ([("interface", name)], it))
        };
        out.table(each)
    }

    pub(super) fn ports(&self, out: &mut Out<'_>) -> fmt::Result {
        let each = || {
            let ports = self.ports.iter().zip(&self.report.ports);
            ports.map(|(name, it)| ([("port", name.as_str())], &it.port))
        };
        out.table(each)?;
        let devices = self
            .ports
            .iter()
            .zip(&self.devices)
            .flat_map(|(port, stats)| {
                let PortStats {
                    rx_missed,
                    rx_errors,
                    rx_no_buffer,
                    tx_errors,
                } = *stats;
                [
                    ("rx-missed", rx_missed),
                    ("rx-errors", rx_errors),
                    ("rx-no-buffer", rx_no_buffer),
                    ("tx-errors", tx_errors),
                ]
                .map(|(reason, n)| ([("port", port.as_str()), ("reason", reason)], n))
            });
        out.counters(
            "voicelane_device_drops",
            "What the device itself lost",
            devices,
        )
    }

    fn each_queue(&self) -> impl Iterator<Item = ([Label<'_>; 2], &QueueCounters)> {
        self.ports
            .iter()
            .zip(&self.report.ports)
            .flat_map(|(name, port)| {
                Phb::ALL.iter().zip(&port.queues).map(move |(phb, queue)| {
                    ([("port", name.as_str()), ("phb", phb.name())], queue)
                })
            })
    }

    pub(super) fn queues(&self, out: &mut Out<'_>) -> fmt::Result {
        out.table(|| self.each_queue())?;
        let dropped = self
            .each_queue()
            .map(|(labels, queue)| (labels, queue.dropped_packets()));
        let help = "Packets that it refused or gave up, for whatever reason";
        out.counters("voicelane_queue_dropped_packets", help, dropped)?;
        let delayed = self.each_queue();
        let delayed = delayed.filter(|(_, queue)| !queue.delay_ns.is_empty());
        let quantiles = delayed.flat_map(|([port, phb], queue)| {
            QUANTILES.map(|(label, quantile)| {
                (
                    [port, phb, ("quantile", label)],
                    delay_seconds(&queue.delay_ns, quantile),
                )
            })
        });
        out.gauges(
            "voicelane_queue_delay_seconds",
            "How long the packets that were sent had waited",
            quantiles,
        )
    }

    pub(super) fn sessions(&self, out: &mut Out<'_>) -> fmt::Result {
        let help = "Sessions that are installed";
        out.gauge("voicelane_sessions", help, self.sessions)?;
        let (used, capacity) = (self.report.entries, self.report.entry_capacity);
        let help = "Five-tuples that are installed";
        out.gauge("voicelane_session_entries", help, used)?;
        let help = "Five-tuples that fit";
        out.gauge("voicelane_session_entry_capacity", help, capacity)?;
        let help = "Entries that wait for their source";
        out.gauge("voicelane_latches_waiting", help, self.report.latches)?;
        let refused = self.report.latch_refused_packets;
        out.counter(
            "voicelane_latch_refused_packets",
            "Packets to such an entry from another place than it is to learn from",
            refused,
        )?;
        out.counter("voicelane_latched_sources", "Sources learned", self.learned)?;
        let omitted = used.saturating_sub(self.entries.len());
        let help = "Five-tuples without series of their own";
        out.gauge("voicelane_session_entries_omitted", help, omitted)?;

        let named: Vec<_> = self.entries.iter().map(Named::new).collect();
        let each = || {
            let named = named.iter().zip(&self.entries);
            named.map(|(named, entry)| (named.labels(), &entry.reading.counters))
        };
        out.table(each)?;
        type Of = fn(&Count) -> u64;
        let by_colour: [(&str, &str, Of); 2] = [
            (
                "voicelane_session_colour_packets",
                "Packets by the colour that their meter gave them",
                |count| count.packets,
            ),
            (
                "voicelane_session_colour_bytes",
                "Their bytes, IP",
                |count| count.bytes,
            ),
        ];
        for (name, help, of) in by_colour {
            let metered = named.iter().filter_map(|named| {
                let colours = named.entry.reading.counters.colours?;
                Some(Colour::ALL.iter().zip(colours).map(|(colour, count)| {
                    (named.labels_with("colour", colour.name()), of(&count))
                }))
            });
            out.counters(name, help, metered.flatten())?;
        }
        Ok(())
    }
}

/// An entry's labels, which must live while they are written.
struct Named<'a> {
    entry: &'a EntryReading,
    flow_index: String,
    source: String,
    destination: String,
}

impl<'a> Named<'a> {
    fn new(entry: &'a EntryReading) -> Self {
        let flow = entry.entry.spec.flow;
        Self {
            entry,
            flow_index: entry.entry.flow_index.to_string(),
            source: match entry.entry.waits() {
                Some(_) => String::new(),
                None => flow.source.to_string(),
            },
            destination: flow.destination.to_string(),
        }
    }

    /// The labels, and one more.
    fn labels_with<'l>(&'l self, name: &'static str, value: &'l str) -> [Label<'l>; 7] {
        let [a, b, c, d, e, f] = self.labels();
        [a, b, c, d, e, f, (name, value)]
    }

    fn labels(&self) -> [Label<'_>; 6] {
        let kind = match self.entry.entry.kind {
            voicelane_proto::v1::FlowKind::Rtcp => "rtcp",
            _ => "rtp",
        };
        [
            ("agent", self.entry.key.agent()),
            ("session", self.entry.key.session()),
            ("flow", &self.flow_index),
            ("kind", kind),
            ("source", &self.source),
            ("destination", &self.destination),
        ]
    }
}

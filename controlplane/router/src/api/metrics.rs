//! The figures as OpenMetrics text.
//!
//! Counters of the dataplane come from its tables ([`Table`]), a family for each definition. Series: for
//! each interface (a port, or one of its VLANs) about 60, for each port 9 and for each of its queues 18;
//! for each session entry 5, and with a three-colour meter 6 more, of at most
//! [`MAX_SESSION_SERIES`] entries in the order of their keys. What is left out is counted in
//! `voicelane_session_entries_omitted`; `ListEntries` gives all.
//! For each rule there are 2, and 6 more if it has a meter; for each aggregate 6; for each
//! interface's greatest senders 1, at most 8.

mod families;
mod policy;

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::{Registry, Unit},
};
use voicelane_dataplane::stats::{Kind, Report, Table};
use voicelane_dpdk::PortStats;

use super::source::{Source, TwinFigures};
use crate::{policy::Installed, sessions::EntryReading};

/// The most session entries that have series of their own.
pub const MAX_SESSION_SERIES: usize = 1_000;

/// All figures of one moment, as text.
pub(super) fn text(
    source: &Source,
    installed: &Arc<Installed>,
    report: Arc<Report>,
    entries: Vec<EntryReading>,
) -> String {
    let view = Arc::clone(&source.interfaces.view.borrow());
    let figures = Figures {
        ports: source
            .interfaces
            .ports
            .iter()
            .map(|port| port.name.clone())
            .collect(),
        interfaces: source
            .interfaces
            .now()
            .interfaces
            .into_iter()
            .map(|interface| (interface.name, interface.up))
            .collect(),
        devices: source
            .ports
            .iter()
            .map(|open| open.port.stats().unwrap_or_default())
            .collect(),
        installed: Arc::clone(installed),
        report,
        entries,
        sessions: source.sessions.table().len(),
        learned: source.sessions.learned(),
        routes: view.routes,
        refused_routes: view.refused_routes,
        neighbours: view.neighbours,
        buffers: (source.pool.count(), source.pool.free()),
        attached: source.server.is_some().then(|| source.attached()),
        twins: source.twin_figures(),
        uptime_seconds: source.started.elapsed().as_secs_f64(),
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(figures));
    let mut text = String::new();
    // Writing to a String fails only if a collector says so, and this one does not.
    let _ = text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Figures {
    ports: Vec<String>,
    /// Each one's name, and whether it is up.
    interfaces: Vec<(String, bool)>,
    devices: Vec<PortStats>,
    installed: Arc<Installed>,
    report: Arc<Report>,
    entries: Vec<EntryReading>,
    sessions: usize,
    learned: u64,
    routes: usize,
    refused_routes: usize,
    neighbours: usize,
    buffers: (u32, u32),
    attached: Option<bool>,
    twins: [TwinFigures; 3],
    uptime_seconds: f64,
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Out(encoder);
        self.router(&mut out)?;
        self.interfaces(&mut out)?;
        self.ports(&mut out)?;
        self.queues(&mut out)?;
        self.policy(&mut out)?;
        self.sessions(&mut out)
    }
}

/// A label with its value.
type Label<'a> = (&'static str, &'a str);

/// The ends of names that are units.
static UNITS: LazyLock<[(&str, Unit); 3]> = LazyLock::new(|| {
    [
        ("_packets", Unit::Other("packets".to_owned())),
        ("_bytes", Unit::Bytes),
        ("_seconds", Unit::Seconds),
    ]
});

/// Families, one after the other.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    /// A family's description; its unit is what its name ends with.
    fn family<'a>(
        &'a mut self,
        name: &'a str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'a>, fmt::Error> {
        // The encoder puts the unit behind the name.
        let found = UNITS
            .iter()
            .find_map(|(end, unit)| Some((name.strip_suffix(end)?, unit)));
        let (name, unit) = found.map_or((name, None), |(stem, unit)| (stem, Some(unit)));
        self.0.encode_descriptor(name, help, unit, kind)
    }

    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = ([Label<'l>; N], u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        for (labels, value) in values {
            counter(&mut family.encode_family(&labels)?, &value)?;
        }
        Ok(())
    }

    fn gauges<'l, V: EncodeGaugeValue, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = ([Label<'l>; N], V)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        counter(&mut family, &value)
    }

    /// A family for each counter of a table, over all that have such counters.
    fn table<'l, T, I, const N: usize>(&mut self, each: impl Fn() -> I) -> fmt::Result
    where
        T: Table + 'l,
        I: Iterator<Item = ([Label<'l>; N], &'l T)>,
    {
        for (index, definition) in T::DEFINITIONS.iter().enumerate() {
            let name = format!("voicelane_{}_{}", T::OF, definition.name);
            let kind = match definition.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut family = self.family(&name, definition.help, kind)?;
            for (labels, table) in each() {
                let values = table.values().nth(index).unwrap_or_default();
                for (place, value) in values.iter().enumerate() {
                    let mut labels = labels.to_vec();
                    if let Some((label, names)) = definition.by {
                        labels.push((label, names.get(place).copied().unwrap_or_default()));
                    }
                    let mut metric = family.encode_family(&labels)?;
                    match definition.kind {
                        Kind::Counter => counter(&mut metric, value)?,
                        Kind::Gauge => metric.encode_gauge(value)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.family(name, help, MetricType::Gauge)?
            .encode_gauge(&value)
    }
}

fn counter(encoder: &mut MetricEncoder<'_>, value: &impl EncodeCounterValue) -> fmt::Result {
    const NONE: Option<&Exemplar<[Label<'static>; 0], f64>> = None;
    encoder.encode_counter(value, NONE)
}

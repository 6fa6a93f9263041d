//! Quantiles of queue delays, and counters that are not zero.

use hdrhistogram::Histogram;
use voicelane_dataplane::stats::{Definition, Kind, Table};
use voicelane_proto::v1::{CounterDefinition, CounterValue, NamedCount, Quantiles};

/// The quantiles that are shown, with their names as metric labels.
pub(super) const QUANTILES: [(&str, f64); 5] = [
    ("0.5", 0.5),
    ("0.9", 0.9),
    ("0.99", 0.99),
    ("0.999", 0.999),
    ("1", 1.0),
];

/// A quantile of delays, in seconds.
#[allow(
    clippy::cast_precision_loss,
    reason = "the histogram itself has 1 % resolution"
)]
pub(super) fn delay_seconds(delays: &Histogram<u64>, quantile: f64) -> f64 {
    delays.value_at_quantile(quantile) as f64 / 1e9
}

/// Delays, in microseconds.
pub(super) fn quantiles(delays: &Histogram<u64>) -> Quantiles {
    let microseconds = |quantile| delay_seconds(delays, quantile) * 1e6;
    Quantiles {
        count: delays.len(),
        p50: microseconds(0.5),
        p90: microseconds(0.9),
        p99: microseconds(0.99),
        p999: microseconds(0.999),
        max: microseconds(1.0),
    }
}

pub(super) fn occurred(
    counts: impl Iterator<Item = (&'static str, u64)>,
) -> impl Iterator<Item = NamedCount> {
    counts
        .filter(|&(_, packets)| packets > 0)
        .map(|(name, packets)| NamedCount {
            name: name.to_owned(),
            packets,
        })
}

/// What the counters of a table mean.
pub(super) fn definitions<T: Table>() -> impl Iterator<Item = CounterDefinition> {
    T::DEFINITIONS.iter().map(|definition| CounterDefinition {
        of: T::OF.to_owned(),
        name: definition.name.to_owned(),
        unit: definition.unit.name().unwrap_or_default().to_owned(),
        help: definition.help.to_owned(),
        label: definition.by.map_or("", |(label, _)| label).to_owned(),
        gauge: definition.kind == Kind::Gauge,
    })
}

/// The counters of a table that are not 0.
pub(super) fn counters(table: &impl Table) -> Vec<CounterValue> {
    let counts = table.counts().filter(|(.., value)| *value > 0);
    let counter = |(definition, label, value): (&Definition, Option<&str>, u64)| CounterValue {
        name: definition.name.to_owned(),
        label: label.unwrap_or_default().to_owned(),
        value,
    };
    counts.map(counter).collect()
}

//! Quantiles of queue delays, and counters that are not zero.

use hdrhistogram::Histogram;
use voicelane_proto::v1::{NamedCount, Quantiles};

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

/// Those that occurred.
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

//! Figures of a run with changes, as JSON and as Markdown.

use hdrhistogram::Histogram;
use serde::Serialize;
use voicelane_bench::Machine;

/// The longest time that histograms count.
pub(crate) const LONGEST_NS: u64 = 10_000_000_000;

#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// What changed, for people.
    pub(crate) changes: String,
    /// Packets of 214 bytes a second that were offered.
    pub(crate) packets_per_second: u64,
    /// How many of them the receive ring holds.
    pub(crate) ring: u64,
    /// Changes a second that were wanted.
    pub(crate) wanted_per_second: u64,
    pub(crate) machine: Machine,
    pub(crate) quiet: Phase,
    pub(crate) churn: Phase,
    /// Changes that were done in the second phase.
    pub(crate) changes_done: u64,
    pub(crate) changes_per_second: f64,
    pub(crate) failed: u64,
    /// From the call to its answer.
    pub(crate) answer: Quantiles,
    /// From the call to the first marked packet, of additions.
    pub(crate) marked: Option<Quantiles>,
}

/// One part of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Phase {
    pub(crate) seconds: f64,
    /// Packets that were offered.
    pub(crate) offered: u64,
    /// Of these, those that were not sent on.
    pub(crate) lost: u64,
    /// Of these, those that went to a neighbour that no route led to.
    pub(crate) misrouted: u64,
    /// What was lost, as time at the offered rate.
    pub(crate) blocked_us: f64,
    /// The longest that the worker's loop stood still.
    pub(crate) longest_turn_us: f64,
}

/// Quantiles of a time, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

impl Quantiles {
    /// Reads them off a histogram of nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "nanoseconds of seconds")]
        let us = |ns: u64| ns as f64 / 1e3;
        Self {
            count: histogram.len(),
            p50_us: us(histogram.value_at_quantile(0.5)),
            p90_us: us(histogram.value_at_quantile(0.9)),
            p99_us: us(histogram.value_at_quantile(0.99)),
            max_us: us(histogram.max()),
        }
    }

    fn row(&self, what: &str) -> String {
        format!(
            "| {what} | {} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            self.count, self.p50_us, self.p90_us, self.p99_us, self.max_us
        )
    }
}

impl Figures {
    /// The page for people.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "{}: {:.0} changes a second ({} wanted, {} failed) while {} packets a second of 214 bytes \
             come through a ring of {}.\n{}.\n\n\
             | phase | packets | lost | misrouted | blocked, µs | longest turn, µs |\n\
             |---|---|---|---|---|---|\n",
            self.changes,
            self.changes_per_second,
            self.wanted_per_second,
            self.failed,
            self.packets_per_second,
            self.ring,
            self.machine
        );
        for (name, phase) in [("quiet", &self.quiet), ("churn", &self.churn)] {
            text += &format!(
                "| {name} | {} | {} | {} | {:.1} | {:.0} |\n",
                phase.offered, phase.lost, phase.misrouted, phase.blocked_us, phase.longest_turn_us
            );
        }
        text += "\n| from the call to | count | p50 µs | p90 | p99 | max |\n|---|---|---|---|---|---|\n";
        text += &self.answer.row("its answer");
        if let Some(marked) = &self.marked {
            text += &marked.row("the first marked packet");
        }
        text
    }
}

//! What the demo found, for people and for programs.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use voicelane_bench::{Machine, report};
use voicelane_testbed::quality::{Delay, FlowFigures};

use super::Check;

/// Everything that the demo found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In the order in which they ran.
    pub phases: Vec<Phase>,
    /// What must hold, and whether it does.
    pub checks: Vec<Check>,
    /// For how long a router's loop stood still at most; absent where the kernel forwards.
    pub longest_stall_ms: Option<f64>,
    pub machine: Machine,
    /// The commit that was built, with `-dirty` where files had been changed.
    pub commit: String,
    /// The drivers of the routers' ports.
    pub ports: &'static str,
    /// The version of IP of calls and bulk.
    pub ip: u8,
    /// How these figures were taken.
    pub notes: Vec<String>,
}

/// One phase. Of each figure of the calls, the direction in which it is worse.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Phase {
    /// `idle`, `overload`, `sessions`, `ef-marked-bulk`, `deleted`.
    pub name: &'static str,
    pub calls: usize,
    pub seconds: f64,
    /// Packets that did not arrive, of those that were sent in the window.
    pub loss_percent: f64,
    /// One-way, of packets that arrived.
    pub delay_ms: DelayMs,
    /// RFC 3550, mean over the calls, at the window's end.
    pub jitter_ms: f64,
    /// Of the calls, each with its worse direction.
    pub mos: Mos,
    /// Bulk that arrived, at the IP layer.
    pub bulk_mbit_s: f64,
    /// Bulk packets that arrived, by code point.
    pub bulk_dscp: BTreeMap<u8, u64>,
    /// From caller to callee: the way that bulk traffic goes, too.
    pub to_callee: DirectionFigures,
    /// From callee to caller.
    pub to_caller: DirectionFigures,
    /// Media packets sent after AddSession's answer that arrived without EF, since the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmarked_after_answer: Option<u64>,
    /// From AddSession's or DeleteSession's request to its answer, for each call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_ms: Option<DelayMs>,
}

/// Quantiles of a delay in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct DelayMs {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl DelayMs {
    /// Reads them off a histogram.
    pub fn of(delay: &Delay) -> Self {
        Self {
            p50: delay.quantile_ms(0.5),
            p99: delay.quantile_ms(0.99),
            max: delay.max_ms(),
        }
    }

    fn worse(self, other: Self) -> Self {
        Self {
            p50: self.p50.max(other.p50),
            p99: self.p99.max(other.p99),
            max: self.max.max(other.max),
        }
    }
}

/// Mean opinion scores over the calls.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Mos {
    /// Of the worst call.
    pub min: f64,
    pub mean: f64,
    /// Of the best call.
    pub max: f64,
}

/// One direction of all calls.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DirectionFigures {
    /// Packets sent in the window.
    pub sent: u64,
    /// Of these, packets that did not arrive.
    pub lost: u64,
    /// The same in percent.
    pub loss_percent: f64,
    pub delay_ms: DelayMs,
    /// RFC 3550, mean over the calls.
    pub jitter_ms: f64,
    /// BurstR of G.107, mean over the calls.
    pub burst_ratio: f64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets that arrived, by code point.
    pub dscp: BTreeMap<u8, u64>,
}

impl DirectionFigures {
    /// Sums the figures of several flows up.
    pub fn of(flows: &[FlowFigures]) -> Self {
        let mut sum = Self::default();
        let mut delay = Delay::default();
        for flow in flows {
            sum.sent += flow.loss.sent();
            sum.lost += flow.loss.lost();
            sum.duplicates += flow.duplicates;
            sum.reordered += flow.reordered;
            for (&dscp, packets) in &flow.dscp {
                *sum.dscp.entry(dscp).or_default() += packets;
            }
            delay.merge(&flow.delay);
        }
        sum.delay_ms = DelayMs::of(&delay);
        sum.jitter_ms = mean(flows.iter().map(|flow| flow.jitter_ms));
        sum.burst_ratio = mean(flows.iter().map(|flow| flow.loss.burst_ratio()));
        #[allow(clippy::cast_precision_loss)] // packets of one run are far below 2^52
        if sum.sent > 0 {
            sum.loss_percent = 100.0 * sum.lost as f64 / sum.sent as f64;
        }
        sum
    }
}

impl Phase {
    /// Puts both directions of each call together.
    pub fn of_calls(
        name: &'static str,
        to_callee: &[FlowFigures],
        to_caller: &[FlowFigures],
    ) -> Self {
        let scores: Vec<_> = to_callee
            .iter()
            .zip(to_caller)
            .map(|(a, b)| a.mos.min(b.mos))
            .collect();
        let (there, back) = (
            DirectionFigures::of(to_callee),
            DirectionFigures::of(to_caller),
        );
        Self {
            name,
            calls: scores.len(),
            loss_percent: there.loss_percent.max(back.loss_percent),
            delay_ms: there.delay_ms.worse(back.delay_ms),
            jitter_ms: there.jitter_ms.max(back.jitter_ms),
            mos: Mos {
                min: scores.iter().copied().fold(5.0, f64::min),
                mean: mean(scores.iter().copied()),
                max: scores.iter().copied().fold(1.0, f64::max),
            },
            to_callee: there,
            to_caller: back,
            ..Self::default()
        }
    }

    /// Packets of all calls that did not arrive.
    pub fn lost(&self) -> u64 {
        self.to_callee.lost + self.to_caller.lost
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    #[allow(clippy::cast_precision_loss)] // calls of one run
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

/// One table: a phase a row.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = "phase | calls | loss % | delay p50 ms | p99 ms | max ms | jitter ms | \
            MOS min | MOS mean | bulk Mbit/s";
        let mut table = report::table(header, 1);
        for phase in &self.phases {
            table.add_row([
                phase.name.to_owned(),
                phase.calls.to_string(),
                format!("{:.2}", phase.loss_percent),
                format!("{:.2}", phase.delay_ms.p50),
                format!("{:.2}", phase.delay_ms.p99),
                format!("{:.2}", phase.delay_ms.max),
                format!("{:.2}", phase.jitter_ms),
                format!("{:.2}", phase.mos.min),
                format!("{:.2}", phase.mos.mean),
                format!("{:.2}", phase.bulk_mbit_s),
            ]);
        }
        table.fmt(f)
    }
}

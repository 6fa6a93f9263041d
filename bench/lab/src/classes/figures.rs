//! What a window shows of each class.

use std::collections::BTreeMap;

use serde::Serialize;
use voicelane_testbed::{clock::Window, quality::Delay};
use voicelane_types::BitRate;

use super::{
    plan::{CLASSES, Stream, WIRE_BYTES, fair_shares},
    traffic::Log,
};

/// Quantiles of a delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Quantiles {
    /// In milliseconds.
    fn of(delay: &Delay) -> Self {
        Self {
            p50: delay.quantile_ms(0.5),
            p99: delay.quantile_ms(0.99),
            p999: delay.quantile_ms(0.999),
            max: delay.max_ms(),
        }
    }
}

/// One class under one load. Rates are on the wire.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClassFigures {
    /// As routers name its queue.
    pub class: &'static str,
    /// What it should get of the link: what it is offered or, when that is more, its minimum or its
    /// weight's part of what the strict classes and the minimum leave.
    pub fair_mbit_s: f64,
    /// Sent in the window.
    pub offered_mbit_s: f64,
    /// Arrived in the window.
    pub delivered_mbit_s: f64,
    /// Packets sent in the window.
    pub sent: u64,
    /// Of these, packets that never arrived.
    pub lost: u64,
    /// The same in percent.
    pub loss_percent: f64,
    /// By code point; of an AF class, by drop precedence.
    pub loss_percent_by_dscp: BTreeMap<&'static str, f64>,
    /// One-way, of packets that arrived in the window.
    pub delay_ms: Quantiles,
    /// Packets of a data class that came after a later one of the class; calls are each for itself.
    pub reordered: u64,
    /// Packets that arrived with another code point than the class's.
    pub remarked: u64,
}

/// Takes the figures of `window`, in the order of [`CLASSES`], from everything that was sent and
/// arrived.
pub(super) fn figures(
    log: &Log,
    streams: &[Stream],
    window: Window,
    rate: BitRate,
) -> Vec<ClassFigures> {
    let mut arrived: Vec<Vec<bool>> = log
        .sent
        .iter()
        .map(|sent| vec![false; sent.len()])
        .collect();
    let mut classes = fair_shares(streams, rate).map(|fair| Sum {
        fair,
        ..Sum::default()
    });
    for arrival in log.arrived.iter().flatten() {
        let index = usize::try_from(arrival.stream).unwrap_or(usize::MAX);
        let sequence = usize::try_from(arrival.sequence).unwrap_or(usize::MAX);
        let sent = log.sent.get(index).and_then(|sent| sent.get(sequence));
        let seen = arrived
            .get_mut(index)
            .and_then(|seen| seen.get_mut(sequence));
        let (Some(stream), Some(&sent), Some(seen)) = (streams.get(index), sent, seen) else {
            continue;
        };
        let Some(sum) = classes.get_mut(stream.class) else {
            continue;
        };
        *seen = true;
        sum.remarked += u64::from(arrival.tos >> 2 != stream.dscp);
        if !stream.is_call() {
            sum.reordered += u64::from(sum.latest > Some(arrival.order));
            sum.latest = sum.latest.max(Some(arrival.order));
        }
        if window.contains(arrival.at) {
            sum.delivered_bits += wire_bits(stream);
            sum.delay.packet(arrival.at.since(sent));
        }
    }
    for ((stream, sent), arrived) in streams.iter().zip(&log.sent).zip(&arrived) {
        let Some(sum) = classes.get_mut(stream.class) else {
            continue;
        };
        let of_dscp = sum.by_dscp.entry(stream.dscp).or_default();
        for (_, &arrived) in sent
            .iter()
            .zip(arrived)
            .filter(|(sent, _)| window.contains(**sent))
        {
            sum.offered_bits += wire_bits(stream);
            of_dscp.0 += 1;
            of_dscp.1 += u64::from(!arrived);
        }
    }
    CLASSES
        .iter()
        .zip(classes)
        .map(|(class, sum)| sum.figures(class.name, class.points, window.seconds()))
        .collect()
}

fn wire_bits(stream: &Stream) -> u64 {
    u64::from(stream.ip_packet_bytes + WIRE_BYTES) * 8
}

#[derive(Default)]
struct Sum {
    fair: u64,
    offered_bits: u64,
    delivered_bits: u64,
    /// Packets sent and lost, by the code point they were sent with.
    by_dscp: BTreeMap<u8, (u64, u64)>,
    delay: Delay,
    latest: Option<u32>,
    reordered: u64,
    remarked: u64,
}

impl Sum {
    #[allow(clippy::cast_precision_loss)] // counts of one run are far below 2^52
    fn figures(
        self,
        class: &'static str,
        points: &[(&'static str, u8)],
        seconds: f64,
    ) -> ClassFigures {
        let percent = |(sent, lost): (u64, u64)| {
            if sent == 0 {
                0.0
            } else {
                100.0 * lost as f64 / sent as f64
            }
        };
        let (sent, lost) = self
            .by_dscp
            .values()
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let loss_percent_by_dscp = points
            .iter()
            .map(|&(name, dscp)| {
                let of_dscp = self.by_dscp.get(&dscp).copied().unwrap_or_default();
                (name, percent(of_dscp))
            })
            .collect();
        ClassFigures {
            class,
            fair_mbit_s: self.fair as f64 / 1e6,
            offered_mbit_s: self.offered_bits as f64 / seconds / 1e6,
            delivered_mbit_s: self.delivered_bits as f64 / seconds / 1e6,
            sent,
            lost,
            loss_percent: percent((sent, lost)),
            loss_percent_by_dscp,
            delay_ms: Quantiles::of(&self.delay),
            reordered: self.reordered,
            remarked: self.remarked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classes::{plan::streams, traffic::Arrival};
    use voicelane_testbed::{clock::Moment, topology::IpVersion};

    #[test]
    fn a_window_by_hand() {
        let rate = BitRate::from_mbit(10);
        let streams = streams(rate, 100, IpVersion::V4);
        let at = |millis: u64| Moment::from_nanos(millis * 1_000_000);
        let of = |dscp| {
            streams
                .iter()
                .position(|stream| stream.dscp == dscp)
                .unwrap()
        };
        let (af41, af43) = (of(34), of(38));
        let mut log = Log::default();
        log.sent.resize_with(streams.len(), Vec::new);
        // Four of AF41 from 0 ms, the first before the window; two of AF43.
        log.sent[af41] = vec![at(0), at(100), at(200), at(300)];
        log.sent[af43] = vec![at(150), at(250)];
        let arrival = |stream: usize, sequence, order, millis, dscp: u8| Arrival {
            stream: u32::try_from(stream).unwrap(),
            sequence,
            order,
            tos: dscp << 2 | 1,
            at: at(millis),
        };
        log.arrived = vec![vec![
            arrival(af41, 0, 0, 60, 34), // sent before, arrived within
            arrival(af43, 0, 2, 170, 38),
            arrival(af41, 1, 1, 180, 0),    // overtaken and remarked
            arrival(af41, 2, 3, 2_000, 34), // arrived after the window: not lost
        ]];
        let window = Window {
            from: at(50),
            to: at(1_050),
        };
        let figures = figures(&log, &streams, window, rate);
        let class = figures
            .iter()
            .find(|figures| figures.class == "multimedia-conferencing")
            .unwrap();
        assert_eq!((class.sent, class.lost), (5, 2));
        assert_eq!((class.reordered, class.remarked), (1, 1));
        assert!((class.offered_mbit_s - 5.0 * 1_538.0 * 8.0 / 1e6).abs() < 1e-9);
        assert!((class.delivered_mbit_s - 3.0 * 1_538.0 * 8.0 / 1e6).abs() < 1e-9);
        assert!((class.delay_ms.max - 80.0).abs() < 0.1);
        let loss = |name| class.loss_percent_by_dscp[name];
        assert!((loss("AF41") - 100.0 / 3.0).abs() < 1e-9);
        assert_eq!((loss("AF42"), loss("AF43")), (0.0, 50.0));
    }
}

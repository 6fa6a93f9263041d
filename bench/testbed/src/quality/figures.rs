//! The figures of one flow over a window of time.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;

use super::{Codec, FIXED_DELAY_MS, Jitter, LossPattern, mean_opinion_score, transmission_rating};
use crate::{
    clock::{Moment, Window},
    traffic::FRAME_NANOS,
};

/// How long after a window's end a packet sent in it may still arrive. Later ones are lost.
pub const DRAIN: Duration = Duration::from_secs(1);

/// A packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its place among the packets that its flow sent, from 0.
    pub sequence: u32,
    pub received: Moment,
    /// The byte of the IP header that holds DSCP and ECN, as received.
    pub tos: u8,
}

impl Arrival {
    pub fn dscp(&self) -> u8 {
        self.tos >> 2
    }
}

/// One-way delays with three significant digits, in microseconds.
#[derive(Clone)]
pub struct Delay(Histogram<u64>);

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delay")
            .field("count", &self.count())
            .field("p50_ms", &self.quantile_ms(0.5))
            .field("p99_ms", &self.quantile_ms(0.99))
            .field("max_ms", &self.max_ms())
            .finish()
    }
}

impl Default for Delay {
    #[allow(clippy::expect_used)] // three is within 0 to 5, the only thing that can be wrong
    fn default() -> Self {
        Self(Histogram::new(3).expect("three significant digits"))
    }
}

impl Delay {
    /// Takes a packet's delay.
    pub fn packet(&mut self, delay: Duration) {
        // It grows by itself, so the only error (out of range) cannot come.
        self.0
            .record(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX))
            .ok();
    }

    /// Takes all delays of another.
    pub fn merge(&mut self, other: &Self) {
        // As above.
        self.0.add(&other.0).ok();
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// A quantile, from 0 to 1, in milliseconds; 0 without packets.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        millis(self.0.value_at_quantile(quantile))
    }

    /// The longest in milliseconds; 0 without packets.
    pub fn max_ms(&self) -> f64 {
        millis(self.0.max())
    }

    /// The mean in milliseconds; 0 without packets.
    pub fn mean_ms(&self) -> f64 {
        self.0.mean() / 1e3
    }
}

#[allow(clippy::cast_precision_loss)] // microseconds of a delay are far below 2^52
fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

/// What a window shows of one flow.
#[derive(Clone, Debug)]
pub struct FlowFigures {
    /// Of the packets sent in the window.
    pub loss: LossPattern,
    pub delay: Delay,
    /// RFC 3550, at the window's end, in milliseconds.
    pub jitter_ms: f64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets that arrived, by code point.
    pub dscp: BTreeMap<u8, u64>,
    /// Of G.711 with concealment, from mean delay, loss and burst ratio.
    pub mos: f64,
}

/// Takes the figures of the packets that were sent in `window`.
///
/// `sent` holds the moment of sending of each packet by sequence; `arrivals` are in the order in
/// which they came, and may hold packets from outside of the window.
pub fn flow_figures(sent: &[Moment], arrivals: &[Arrival], window: Window) -> FlowFigures {
    let first = sent.partition_point(|&moment| moment < window.from);
    let end = sent.partition_point(|&moment| moment < window.to);
    let in_window = sent.get(first..end).unwrap_or_default();
    let mut arrived = vec![false; in_window.len()];
    let mut delay = Delay::default();
    let mut jitter = Jitter::default();
    let mut dscp = BTreeMap::new();
    let (mut duplicates, mut reordered, mut latest) = (0, 0, None);

    for arrival in arrivals
        .iter()
        .filter(|arrival| arrival.received < window.to + DRAIN)
    {
        let Some(index) = usize::try_from(arrival.sequence)
            .ok()
            .and_then(|sequence| sequence.checked_sub(first))
        else {
            continue;
        };
        let (Some(&sent), Some(seen)) = (in_window.get(index), arrived.get_mut(index)) else {
            continue;
        };
        if std::mem::replace(seen, true) {
            duplicates += 1;
            continue;
        }
        if latest > Some(arrival.sequence) {
            reordered += 1;
        }
        latest = latest.max(Some(arrival.sequence));
        delay.packet(arrival.received.since(sent));
        jitter.arrival(u64::from(arrival.sequence) * FRAME_NANOS, arrival.received);
        *dscp.entry(arrival.dscp()).or_default() += 1;
    }

    let mut loss = LossPattern::default();
    arrived.into_iter().for_each(|arrived| loss.packet(arrived));
    let mouth_to_ear_ms = delay.mean_ms() + FIXED_DELAY_MS;
    let rating = transmission_rating(
        Codec::G711,
        mouth_to_ear_ms,
        loss.percent(),
        loss.burst_ratio(),
    );
    FlowFigures {
        loss,
        delay,
        jitter_ms: jitter.millis(),
        duplicates,
        reordered,
        dscp,
        mos: mean_opinion_score(rating),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn came(sequence: u32, millis: u64) -> Arrival {
        Arrival {
            sequence,
            received: at(millis),
            tos: 46 << 2 | 1,
        }
    }

    #[test]
    fn only_what_was_sent_in_the_window_counts() {
        // Sent at 0, 20, 40, …; the window takes 2 to 5.
        let sent: Vec<_> = (0..10).map(|i| at(i * 20)).collect();
        let window = Window {
            from: at(40),
            to: at(120),
        };
        let arrivals = [
            came(1, 41),
            came(2, 45),
            came(4, 85),
            came(3, 86),
            came(4, 87),
            came(6, 125),
            came(5, 2_000), // past the drain
        ];
        let figures = flow_figures(&sent, &arrivals, window);
        assert_eq!((figures.loss.sent(), figures.loss.lost()), (4, 1));
        assert_eq!((figures.duplicates, figures.reordered), (1, 1));
        assert_eq!(figures.dscp, BTreeMap::from([(46, 3)]));
        assert_eq!(figures.delay.count(), 3);
        assert!((figures.delay.max_ms() - 26.0).abs() < 0.1);
    }

    #[test]
    fn nothing_arrived() {
        let sent: Vec<_> = (0..100).map(|i| at(i * 20)).collect();
        let figures = flow_figures(
            &sent,
            &[],
            Window {
                from: at(0),
                to: at(2_000),
            },
        );
        assert_eq!(figures.loss.percent(), 100.0);
        assert!(figures.mos < 1.3, "{}", figures.mos);
    }

    #[test]
    fn all_arrived_quickly() {
        let sent: Vec<_> = (0..100).map(|i| at(i * 20)).collect();
        let arrivals: Vec<_> = (0..100).map(|i| came(i, u64::from(i) * 20 + 1)).collect();
        let figures = flow_figures(
            &sent,
            &arrivals,
            Window {
                from: at(0),
                to: at(2_000),
            },
        );
        assert_eq!(figures.loss.lost(), 0);
        assert_eq!(figures.jitter_ms, 0.0);
        // R = 93.2 - 0.024 * 61 = 91.736.
        assert!((figures.mos - 4.3792).abs() < 1e-3, "{}", figures.mos);
    }
}

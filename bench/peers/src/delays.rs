//! What the latency measurement found.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;
use voicelane_bench::{Machine, report};

/// Delays, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Delays {
    pub(crate) packets: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    #[serde(rename = "p99.9_us")]
    pub(crate) p99_9_us: f64,
    #[serde(rename = "p99.99_us")]
    pub(crate) p99_99_us: f64,
    pub(crate) max_us: f64,
    /// Share of packets, and within what they came.
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Delays {
    /// Reads them off a histogram of nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Self {
            packets: histogram.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            p99_99_us: at(0.9999),
            max_us: us(histogram.max()),
            curve: histogram
                .iter_quantiles(4)
                .filter(|step| step.quantile() < 1.0)
                .map(|step| (step.quantile(), us(step.value_iterated_to())))
                .collect(),
        }
    }
}

/// Figures of one program at one load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LoadRow {
    pub(crate) program: &'static str,
    pub(crate) load: String,
    /// Millions a second.
    pub(crate) offered_mpps: f64,
    pub(crate) received_mpps: f64,
    pub(crate) sent_mpps: f64,
    /// Packets that came while the receive ring was full: the loop stood still.
    pub(crate) ring_lost_packets: u64,
    /// Delays of sessions' packets.
    pub(crate) ef: Delays,
    /// Delays of all other packets.
    pub(crate) other: Delays,
}

/// How long the machine stood still. No packet can be faster.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Stalls {
    /// The router's loop, at worst, while nothing was overloaded (the search for the highest rate
    /// included).
    pub(crate) worker_us: f64,
    /// The same under overload.
    pub(crate) worker_overloaded_us: f64,
    /// A thread that only reads the clock, on the same core, afterwards: how long a packet that is due
    /// at any time waits for the next reading.
    pub(crate) spinning_us: Delays,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<LoadRow>,
    /// The highest rate without loss, millions of packets a second.
    pub(crate) highest_mpps: f64,
    /// Of the shaper under overload, on the wire.
    pub(crate) shaper_bit_s: u64,
    pub(crate) frame_bytes: u16,
    pub(crate) flows: u32,
    pub(crate) stalls: Stalls,
    pub(crate) machine: Machine,
    /// The commit that was built, with `-dirty` where files had been changed.
    pub(crate) commit: String,
    /// When it began, UTC.
    pub(crate) date: String,
    pub(crate) tsc_hz: f64,
    /// Length of each load.
    pub(crate) seconds: u64,
}

/// The page for people, as Markdown.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = "program | load | packets | offered Mpps | sent | lost in the ring | \
            p50 us | p99 | p99.9 | p99.99 | max";
        let mut table = report::table(header, 3);
        for row in &self.rows {
            for (kind, delays) in [("EF", &row.ef), ("others", &row.other)] {
                let mut cells = vec![
                    row.program.to_owned(),
                    row.load.clone(),
                    kind.to_owned(),
                    format!("{:.2}", row.offered_mpps),
                    format!("{:.2}", row.sent_mpps),
                    row.ring_lost_packets.to_string(),
                ];
                cells.extend(figures(delays));
                table.add_row(cells);
            }
        }
        let mut cells = vec!["a thread that only reads the clock".to_owned()];
        cells.resize(6, String::new());
        cells.extend(figures(&self.stalls.spinning_us));
        table.add_row(cells);
        write!(
            f,
            "# Latency through one core\n\n\
             From the moment when a packet is due at the receive ring (1,024 places) to the moment when it is\n\
             handed to the device, by one clock (TSC). Frames of {} bytes, {} flows, {} s a load. A packet's\n\
             time begins when it is due, whether the router polls then or not. Half of the packets are of\n\
             sessions (EF), under overload a fifth. The highest rate without loss is {:.2} Mpps (one of five\n\
             tries of 0.3 s lost nothing); overload is 90 % of it with the shaper at half of that,\n\
             {:.2} Gbit/s. testpmd only hands packets on: what it takes is the machine's and the bursts'.\n\n\
             {}; TSC {:.2} GHz; commit {}; {}\n\n\
             {table}\n\n\
             The machine stands still at times, and no packet is faster than that: the router's loop for\n\
             {:.0} us at worst, {:.0} us under overload. The table's last line is a thread on the same core\n\
             that only reads the clock: how long a packet due at any time waits for the next reading.\n",
            self.frame_bytes,
            self.flows,
            self.seconds,
            self.highest_mpps,
            self.shaper_bit_s as f64 / 1e9,
            self.machine,
            self.tsc_hz / 1e9,
            self.commit,
            self.date,
            self.stalls.worker_us,
            self.stalls.worker_overloaded_us,
        )
    }
}

fn figures(delays: &Delays) -> [String; 5] {
    [
        delays.p50_us,
        delays.p99_us,
        delays.p99_9_us,
        delays.p99_99_us,
        delays.max_us,
    ]
    .map(|us| match us {
        1_000.0.. => format!("{us:.0}"),
        10.0.. => format!("{us:.1}"),
        _ => format!("{us:.2}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_packets_and_in_order() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        for us in 1..=1_000 {
            histogram.record(us * 1_000).unwrap();
        }
        let delays = Delays::of(&histogram);
        assert_eq!(delays.packets, 1_000);
        for (figure, wanted) in [
            (delays.p50_us, 500.0),
            (delays.p99_us, 990.0),
            (delays.p99_9_us, 999.0),
            (delays.max_us, 1_000.0),
        ] {
            assert!((figure / wanted - 1.0).abs() < 0.002, "{figure} {wanted}");
        }
        assert!(delays.curve.is_sorted());
        assert!(delays.curve.len() > 10);
    }
}

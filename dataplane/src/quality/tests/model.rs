//! The exact model: it remembers every number, and computes with rational ones.

use std::collections::BTreeSet;

use crate::quality::FlowQuality;

const NS: i128 = 1_000_000_000;

/// An RTP packet that came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) at_ns: u64,
    pub(super) number: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
    pub(super) marker: bool,
    pub(super) event: bool,
}

/// One SSRC, until it restarts.
#[derive(Clone, Debug)]
struct Stream {
    ssrc: u32,
    seen: BTreeSet<i64>,
    /// In ticks, times 10^9.
    transit: Option<i128>,
    /// In ticks.
    jitter: f64,
    jitter_max: f64,
}

impl Stream {
    fn new(ssrc: u32) -> Self {
        Self {
            ssrc,
            seen: BTreeSet::new(),
            transit: None,
            jitter: 0.0,
            jitter_max: 0.0,
        }
    }

    fn extend(&self, number: u16) -> i64 {
        let number = i64::from(number);
        let Some(&high) = self.seen.last() else {
            // Earlier ones may come yet: no number is below zero.
            return number + 65_536;
        };
        let near = (high & !0xffff) | number;
        let all = [near - 65_536, near, near + 65_536];
        all.into_iter().min_by_key(|it| (it - high).abs()).unwrap()
    }

    fn fits(&self, number: u16) -> bool {
        let high = self.seen.last();
        high.is_none_or(|high| (-100..=3_000).contains(&(self.extend(number) - high)))
    }

    /// The lost numbers, run by run.
    fn runs(&self) -> Vec<(i64, i64)> {
        let pairs = self.seen.iter().zip(self.seen.iter().skip(1));
        pairs
            .filter(|(one, next)| *next - *one > 1)
            .map(|(one, next)| (one + 1, next - 1))
            .collect()
    }
}

/// A five-tuple: a stream begins with the second of two packets in sequence, and has both.
#[derive(Debug)]
pub(super) struct Model {
    clock_hz: u32,
    streams: Vec<Stream>,
    held: Option<Arrival>,
    counts: FlowQuality,
}

impl Model {
    pub(super) fn new(clock_hz: u32) -> Self {
        Self {
            clock_hz,
            streams: vec![],
            held: None,
            counts: FlowQuality::default(),
        }
    }

    pub(super) fn packet(&mut self, arrival: &Arrival) {
        let held = self.held.take();
        let Some(now) = self.streams.last() else {
            self.streams.push(Stream::new(arrival.ssrc));
            return self.of_stream(arrival);
        };
        if now.ssrc == arrival.ssrc && now.fits(arrival.number) {
            self.counts.foreign += u64::from(held.is_some());
            return self.of_stream(arrival);
        }
        match held {
            Some(first)
                if first.ssrc == arrival.ssrc && first.number.wrapping_add(1) == arrival.number =>
            {
                if now.ssrc == arrival.ssrc {
                    self.counts.restarts += 1;
                } else {
                    self.counts.ssrc_changes += 1;
                }
                self.streams.push(Stream::new(arrival.ssrc));
                self.of_stream(&first);
                self.of_stream(arrival);
            }
            _ => {
                self.counts.foreign += u64::from(held.is_some());
                self.held = Some(*arrival);
            }
        }
    }

    fn of_stream(&mut self, arrival: &Arrival) {
        let (stream, counts) = (self.streams.last_mut().unwrap(), &mut self.counts);
        let number = stream.extend(arrival.number);
        let high = stream.seen.last().copied();
        if !stream.seen.insert(number) {
            counts.duplicates += 1;
            return;
        }
        counts.reordered += u64::from(high.is_some_and(|high| number < high));
        if arrival.event {
            counts.event_packets += 1;
            return;
        }
        counts.talk_spurts += u64::from(arrival.marker);
        let clock = i128::from(self.clock_hz);
        let transit = i128::from(arrival.at_ns) * clock - i128::from(arrival.timestamp) * NS;
        if let Some(before) = stream.transit {
            let (half, whole) = ((1_i128 << 31) * NS, (1_i128 << 32) * NS);
            let difference = (transit - before + half).rem_euclid(whole) - half;
            if difference.abs() > clock * NS {
                counts.timestamp_jumps += 1;
            } else {
                let difference = difference.abs() as f64 / NS as f64;
                stream.jitter += (difference - stream.jitter) / 16.0;
                stream.jitter_max = stream.jitter_max.max(stream.jitter);
            }
        }
        stream.transit = Some(transit);
    }

    /// Of the last stream: jitter and its greatest value.
    pub(super) fn jitter_ticks(&self) -> [f64; 2] {
        let last = self.streams.last();
        last.map_or([0.0; 2], |it| [it.jitter, it.jitter_max])
    }

    /// How many of the first numbers of the last stream never came.
    pub(super) fn lost_in_first(&self, numbers: u32) -> u64 {
        let seen = &self.streams.last().unwrap().seen;
        let first = *seen.first().unwrap();
        let came = seen.range(first..first + i64::from(numbers)).count();
        u64::from(numbers) - came as u64
    }

    pub(super) fn result(&self) -> FlowQuality {
        let mut result = self.counts;
        result.foreign += u64::from(self.held.is_some());
        for stream in &self.streams {
            let (low, high) = (stream.seen.first().unwrap(), stream.seen.last().unwrap());
            result.expected += (high - low + 1) as u64;
            result.received += stream.seen.len() as u64;
            let runs = stream.runs();
            result.runs += runs.len() as u64;
            // RFC 3611 section 4.7.2: runs with fewer than 16 received between belong together.
            let mut cluster: Vec<(i64, i64)> = vec![];
            for run in runs.into_iter().chain([(i64::MAX, i64::MAX)]) {
                if cluster.last().is_some_and(|last| run.0 - last.1 > 16) {
                    let lost: i64 = cluster.iter().map(|(a, b)| b - a + 1).sum();
                    let length = cluster.last().unwrap().1 - cluster[0].0 + 1;
                    if lost > 1 {
                        result.bursts += 1;
                        result.burst_packets += length as u64;
                        result.burst_lost += lost as u64;
                    }
                    cluster.clear();
                }
                cluster.push(run);
            }
        }
        result.lost = result.expected - result.received;
        result
    }
}

//! An overloaded port: streams of packets arrive at the edge and leave through a core port of 10
//! Mbit/s, on which one 1,514-byte frame takes 1.23 ms.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng, rngs::SmallRng};
use voicelane_dataplane::{
    diffserv::{Dscp, Phb},
    session::EntrySpec,
    settings::PortSettings,
};

use super::{CLOCK_HZ, CORE, EDGE, FAR, Rig, Udp, settings};

/// Packets of one code point.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub dscp: Dscp,
    pub frame_bytes: usize,
    pub packets_per_second: u32,
    /// What stands in the ECN field.
    pub ecn: u8,
}

impl Stream {
    pub fn new(dscp: Dscp, frame_bytes: usize, packets_per_second: u32) -> Self {
        Self {
            dscp,
            frame_bytes,
            packets_per_second,
            ecn: 0,
        }
    }

    /// As a rate on the wire.
    pub fn at(dscp: Dscp, frame_bytes: usize, bits_per_second: u64) -> Self {
        let packets = bits_per_second / (8 * wire_bytes(frame_bytes));
        Self::new(dscp, frame_bytes, u32::try_from(packets).unwrap())
    }
}

/// What came out of one code point's packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    pub packets: u64,
    /// On the wire.
    pub bytes: u64,
    /// Nanoseconds from arrival to departure.
    pub longest_wait: u64,
    pub total_wait: u64,
    /// Packets that say "congestion experienced".
    pub marked: u64,
}

pub struct Overload {
    pub rig: Rig,
    pub streams: Vec<Stream>,
    frames: Vec<Vec<u8>>,
    next: Vec<u64>,
    pub sent: BTreeMap<Dscp, Sent>,
    pub packets_by_length: BTreeMap<usize, u64>,
    /// Of each telephony packet: arrival, hand-over to the device, bytes on the wire.
    pub telephony: Vec<(u64, u64, u64)>,
    /// Of each class: when the last packet that left had arrived.
    last: BTreeMap<Phb, u64>,
    /// Packets that left before one of their class that had arrived before them.
    pub reordered: u64,
    random: SmallRng,
}

impl Overload {
    pub fn new(strict_cap: &str, streams: &[(Dscp, usize, u32)]) -> Self {
        let streams = streams
            .iter()
            .map(|&(dscp, bytes, packets)| Stream::new(dscp, bytes, packets));
        Self::with(&streams.collect::<Vec<_>>(), |port| {
            port.strict_cap = super::rate(strict_cap);
        })
    }

    /// With settings of the core port.
    pub fn with(streams: &[Stream], change: impl FnOnce(&mut PortSettings)) -> Self {
        let mut settings = settings("10Mbit/s");
        change(&mut settings.ports[1]);
        let mut rig = Rig::new(&settings);
        let mut frames = vec![];
        for (port, stream) in (4000..).zip(streams) {
            let mut packet = Udp::of_frame(FAR, port, stream.frame_bytes);
            packet.tos = stream.ecn;
            let spec = packet.session("1Gbit/s", 1_000_000);
            rig.install(vec![EntrySpec {
                dscp: stream.dscp,
                ..spec
            }]);
            frames.push(packet.frame());
        }
        Self {
            rig,
            streams: streams.to_vec(),
            next: vec![0; frames.len()],
            frames,
            sent: BTreeMap::new(),
            packets_by_length: BTreeMap::new(),
            telephony: vec![],
            last: BTreeMap::new(),
            reordered: 0,
            random: SmallRng::seed_from_u64(3),
        }
    }

    pub fn run(&mut self, seconds: u64) {
        self.run_until(self.rig.now + seconds * CLOCK_HZ);
        self.rig.invariants();
    }

    pub fn run_until(&mut self, end: u64) {
        while self.rig.now < end {
            self.offer();
            self.rig.turn();
            for (at, frame) in self.rig.sent(CORE) {
                self.note(at, &frame);
            }
            self.rig.advance_to(self.rig.now + 20_000);
        }
    }

    fn offer(&mut self) {
        let streams = self.streams.iter().zip(&mut self.frames);
        for ((stream, frame), next) in streams.zip(&mut self.next) {
            while *next <= self.rig.now {
                // The time of arrival travels in the payload.
                let at = frame.len() - 8;
                frame[at..].copy_from_slice(&self.rig.now.to_be_bytes());
                self.rig.deliver(EDGE, frame);
                // Calls send regularly. The rest is memoryless, or arrivals and departures would
                // fall into step.
                let mean = 1e9 / f64::from(stream.packets_per_second);
                let random = -mean * (1.0 - self.random.random::<f64>()).ln();
                let regular = Phb::of(stream.dscp) == Phb::Telephony;
                *next += nanoseconds(if regular { mean } else { random });
            }
        }
    }

    fn note(&mut self, at: u64, frame: &[u8]) {
        let dscp = Dscp::new(u32::from(frame[15] >> 2)).unwrap();
        let arrived = u64::from_be_bytes(*frame.last_chunk().unwrap());
        *self.packets_by_length.entry(frame.len()).or_default() += 1;
        let sent = self.sent.entry(dscp).or_default();
        sent.packets += 1;
        sent.bytes += wire_bytes(frame.len());
        sent.longest_wait = sent.longest_wait.max(at - arrived);
        sent.total_wait += at - arrived;
        sent.marked += u64::from(frame[15] & 3 == 3);
        let last = self.last.entry(Phb::of(dscp)).or_default();
        self.reordered += u64::from(arrived < *last);
        *last = arrived;
        if dscp == Dscp::EF {
            self.telephony.push((arrived, at, wire_bytes(frame.len())));
        }
    }

    pub fn of(&self, dscp: Dscp) -> Sent {
        self.sent.get(&dscp).copied().unwrap_or_default()
    }

    pub fn bytes(&self, dscp: Dscp) -> u64 {
        self.of(dscp).bytes
    }

    pub fn wait(&self, dscp: Dscp) -> u64 {
        self.of(dscp).longest_wait
    }
}

/// What a frame takes of the wire.
pub fn wire_bytes(frame: usize) -> u64 {
    u64::try_from(frame.max(60) + 24).unwrap()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a short interval"
)]
fn nanoseconds(interval: f64) -> u64 {
    interval as u64
}

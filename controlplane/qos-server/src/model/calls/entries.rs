//! What a session means to a dataplane: five-tuples with a code point and a policer or meter each.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use voicelane_proto::limits::MAX_BURST_BYTES;
use voicelane_types::{ColourMode, MeterKind};
use xxhash_rust::xxh3::Xxh3;

use super::{
    codec::Codec,
    course::{Course, Latch, Path},
    meter::{Meter, sum},
    session::{Dscp, Learned, MediaFlow, Rtcp, SessionSpec, Terms},
};
use crate::model::{error::Error, ids::Fingerprint};

/// RTCP's share of the session bandwidth (RFC 3550 section 6.2): 5 %.
pub(in crate::model) const RTCP_SHARE: u64 = 20;
/// The least rate of RTCP, bit/s: a compound packet of 500 bytes every half second.
const RTCP_MIN_BPS: u64 = 8_000;
/// The least default burst, bytes.
const MIN_DEFAULT_BURST: u64 = 3_000;

/// One UDP five-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FiveTuple(pub Path);

impl FiveTuple {
    /// The IANA protocol number of UDP.
    pub const PROTOCOL: u32 = 17;
}

impl fmt::Display for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UDP {}", self.0)
    }
}

/// What a five-tuple carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowKind {
    /// Media, with RTCP on the same ports or not.
    Rtp,
    /// Reports.
    Rtcp,
}

/// One five-tuple, and what to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowEntry {
    /// Index in [`SessionSpec::flows`].
    pub flow: usize,
    /// What it carries.
    pub kind: FlowKind,
    /// Which packets; of an entry that latches, from anywhere.
    pub tuple: FiveTuple,
    /// Its source is learned.
    pub latch: Option<Latch>,
    /// What to write into them.
    pub dscp: Dscp,
    /// The policer's rate, bit/s at the IP layer; beside a meter, the most that is not red.
    pub rate_bps: u64,
    /// The policer's bucket.
    pub burst_bytes: u32,
    /// In place of the policer.
    pub meter: Option<Meter>,
    /// At its source's router, the interface where it comes in; elsewhere, or before it is placed,
    /// nothing.
    pub ingress: Option<Arc<str>>,
    /// What its payload types are, of RTP.
    pub codecs: Box<[Codec]>,
}

impl FlowEntry {
    /// The path of the field in the request that this entry comes from.
    pub fn field(&self) -> String {
        match self.kind {
            FlowKind::Rtp => format!("spec.flows[{}]", self.flow),
            FlowKind::Rtcp => format!("spec.flows[{}].rtcp", self.flow),
        }
    }
}

/// All entries of a session as asked for, in the order of its flows, RTP before RTCP. A half-open flow
/// has none.
pub fn expand(spec: &SessionSpec) -> Vec<FlowEntry> {
    expand_learned(spec, &[])
}

/// The same with the sources that latching flows have learned.
pub fn expand_learned(spec: &SessionSpec, learned: &[Learned]) -> Vec<FlowEntry> {
    let mut entries = Vec::with_capacity(2 * spec.flows.len());
    for (index, flow) in spec.flows.iter().enumerate() {
        let source = |kind| {
            let mut of = learned.iter().filter(|it| it.flow == index);
            of.find(|it| it.kind == kind).map(|it| it.source)
        };
        let mut push = |kind, rate_bps, burst_bytes, meter| {
            let course = flow.course_of(kind);
            if let Some((path, latch)) = course.and_then(|it| path_of(it, source(kind))) {
                entries.push(FlowEntry {
                    flow: index,
                    kind,
                    tuple: FiveTuple(path),
                    latch,
                    dscp: spec.class.dscp(),
                    rate_bps,
                    burst_bytes,
                    meter,
                    ingress: None,
                    codecs: match kind {
                        FlowKind::Rtp => flow.codecs.clone(),
                        FlowKind::Rtcp => Box::default(),
                    },
                });
            }
        };
        let (rtp_bps, rtp_burst, meter) = most(flow);
        let rtcp_bps = (rtp_bps / RTCP_SHARE).max(RTCP_MIN_BPS);
        let rtcp_burst = default_burst(rtcp_bps);
        if let Rtcp::Mux = flow.rtcp {
            // One five-tuple has one policer or meter, with room for both.
            let meter = meter.map(|meter| meter.with_room(rtcp_bps, rtcp_burst));
            let burst = sum(rtp_burst, rtcp_burst);
            push(FlowKind::Rtp, rtp_bps + rtcp_bps, burst, meter);
        } else {
            push(FlowKind::Rtp, rtp_bps, rtp_burst, meter);
            push(FlowKind::Rtcp, rtcp_bps, rtcp_burst, None);
        }
    }
    entries
}

/// The most that a flow may send, bit/s, at once, bytes, and its meter if it has one.
pub(in crate::model) fn most(flow: &MediaFlow) -> (u64, u32, Option<Meter>) {
    match flow.terms {
        Terms::Policer { rate, burst } => {
            let bps = rate.get();
            let burst = burst.map_or_else(|| default_burst(bps), |burst| burst.get());
            (bps, burst, None)
        }
        Terms::Meter(meter) => {
            let (bps, burst) = meter.most();
            (bps, burst, Some(meter))
        }
    }
}

/// Which packets are of a course. What was learned has been checked against the latch.
fn path_of(course: Course, learned: Option<SocketAddr>) -> Option<(Path, Option<Latch>)> {
    match course {
        Course::Whole(path) => Some((path, None)),
        Course::Half(..) => None,
        Course::Latching(latch) => {
            let path = learned.and_then(|source| latch.path_from(source).ok());
            Some(match path {
                Some(path) => (path, None),
                None => (Path::from_anywhere(latch.destination), Some(latch)),
            })
        }
    }
}

/// The entries, if no five-tuple occurs twice in them.
pub fn expand_distinct(spec: &SessionSpec, learned: &[Learned]) -> Result<Vec<FlowEntry>, Error> {
    let entries = expand_learned(spec, learned);
    for (index, entry) in entries.iter().enumerate() {
        // There are at most 64.
        let mut before = entries[..index].iter();
        if let Some(first) = before.find(|before| before.tuple == entry.tuple) {
            return Err(Error::invalid(
                entry.field(),
                format!(
                    "{} is that of {} too; describe media that share a five-tuple as one flow \
                     with the sum of their rates",
                    entry.tuple,
                    first.field()
                ),
            ));
        }
    }
    Ok(entries)
}

/// 200 ms of the rate, at least 3,000 bytes and at most what routers count.
fn default_burst(rate_bps: u64) -> u32 {
    u32::try_from((rate_bps / 40).max(MIN_DEFAULT_BURST))
        .unwrap_or(u32::MAX)
        .min(MAX_BURST_BYTES)
}

/// XXH3-64, seed 0, over each entry's fields in order, integers big-endian: flow (u32), kind
/// (u8: 1 RTP, 2 RTCP), source and destination (u8 4 or 6, address, port u16), protocol (u8),
/// DSCP (u8), rate (u64), burst (u32); of a meter, marker (u8: 1 srTCM, 2 trTCM, 3 RFC 4115), CIR
/// (u64), CBS (u32), second rate (u64; of srTCM 0), second burst (u32), colour-aware (u8), drop red
/// (u8); of an ingress 4 (u8), its length (u32) and name; of a latch 5 (u8) and its address (u8 4 or 6,
/// address), or 0 (u8). It does not depend on the process, the machine or the compiler, so it survives
/// a restart of the server.
pub fn fingerprint(entries: &[FlowEntry]) -> Fingerprint {
    let mut hash = Xxh3::new();
    for entry in entries {
        hash.update(&u32::try_from(entry.flow).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(&[match entry.kind {
            FlowKind::Rtp => 1,
            FlowKind::Rtcp => 2,
        }]);
        hash_end(&mut hash, entry.tuple.0.source());
        hash_end(&mut hash, entry.tuple.0.destination());
        hash.update(&[17, entry.dscp.number()]);
        hash.update(&entry.rate_bps.to_be_bytes());
        hash.update(&entry.burst_bytes.to_be_bytes());
        if let Some(meter) = &entry.meter {
            hash_meter(&mut hash, meter);
        }
        if let Some(ingress) = &entry.ingress {
            hash.update(&[4]);
            let length = u32::try_from(ingress.len()).unwrap_or(u32::MAX);
            hash.update(&length.to_be_bytes());
            hash.update(ingress.as_bytes());
        }
        if let Some(latch) = &entry.latch {
            hash.update(&[5]);
            match latch.from {
                Some(from) => hash_address(&mut hash, from),
                None => hash.update(&[0]),
            }
        }
        hash_codecs(&mut hash, &entry.codecs);
    }
    Fingerprint(hash.digest())
}

/// What a router measures by. Entries without codecs are as they were before these were told.
fn hash_codecs(hash: &mut Xxh3, codecs: &[Codec]) {
    for codec in codecs {
        hash.update(&[6, codec.payload_type]);
        hash.update(&codec.clock_rate.to_be_bytes());
        let length = u32::try_from(codec.encoding.len()).unwrap_or(u32::MAX);
        hash.update(&length.to_be_bytes());
        hash.update(codec.encoding.as_bytes());
    }
}

/// The first byte is not 0, as that of the next entry is: nothing is read as something else.
fn hash_meter(hash: &mut Xxh3, meter: &Meter) {
    let (marker, rate, burst) = match meter.spec.kind {
        MeterKind::SrTcm { ebs_bytes } => (1, 0, ebs_bytes),
        MeterKind::TrTcm { pir, pbs_bytes } => (2, pir.bps(), pbs_bytes),
        MeterKind::Rfc4115 { eir, ebs_bytes } => (3, eir.bps(), ebs_bytes),
    };
    hash.update(&[marker]);
    hash.update(&meter.spec.cir.bps().to_be_bytes());
    hash.update(&meter.spec.cbs_bytes.to_be_bytes());
    hash.update(&rate.to_be_bytes());
    hash.update(&burst.to_be_bytes());
    let aware = meter.spec.mode == ColourMode::Aware;
    hash.update(&[u8::from(aware), u8::from(meter.drop_red)]);
}

fn hash_end(hash: &mut Xxh3, end: SocketAddr) {
    hash_address(hash, end.ip());
    hash.update(&end.port().to_be_bytes());
}

fn hash_address(hash: &mut Xxh3, address: IpAddr) {
    match address {
        IpAddr::V4(ip) => {
            hash.update(&[4]);
            hash.update(&ip.octets());
        }
        IpAddr::V6(ip) => {
            hash.update(&[6]);
            hash.update(&ip.octets());
        }
    }
}

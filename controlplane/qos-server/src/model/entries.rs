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
    error::Error,
    ids::Fingerprint,
    meter::{Meter, sum},
    session::{Dscp, MediaFlow, Path, Rtcp, SessionSpec, Terms},
};

/// RTCP's share of the session bandwidth (RFC 3550 section 6.2): 5 %.
const RTCP_SHARE: u64 = 20;
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
    /// Which packets.
    pub tuple: FiveTuple,
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

/// All entries of a session, in the order of its flows, RTP before RTCP.
pub fn expand(spec: &SessionSpec) -> Vec<FlowEntry> {
    let dscp = spec.class.dscp();
    let of = |(flow, media): (usize, &MediaFlow)| {
        let (rtp_bps, rtp_burst, meter) = match media.terms {
            Terms::Policer { rate, burst } => {
                let bps = rate.get();
                let burst = burst.map_or_else(|| default_burst(bps), |burst| burst.get());
                (bps, burst, None)
            }
            Terms::Meter(meter) => {
                let (bps, burst) = meter.most();
                (bps, burst, Some(meter))
            }
        };
        let rtcp_bps = (rtp_bps / RTCP_SHARE).max(RTCP_MIN_BPS);
        let rtcp_burst = default_burst(rtcp_bps);
        let rtp = FlowEntry {
            flow,
            kind: FlowKind::Rtp,
            tuple: FiveTuple(media.path),
            dscp,
            rate_bps: rtp_bps,
            burst_bytes: rtp_burst,
            meter,
            ingress: None,
        };
        let (rtp, rtcp) = match media.rtcp {
            Rtcp::NextPort(path) | Rtcp::Explicit(path) => {
                let rtcp = FlowEntry {
                    kind: FlowKind::Rtcp,
                    tuple: FiveTuple(path),
                    rate_bps: rtcp_bps,
                    burst_bytes: rtcp_burst,
                    meter: None,
                    ..rtp.clone()
                };
                (rtp, Some(rtcp))
            }
            // One five-tuple has one policer or meter, with room for both.
            Rtcp::Mux => {
                let both = FlowEntry {
                    rate_bps: rtp_bps + rtcp_bps,
                    burst_bytes: sum(rtp_burst, rtcp_burst),
                    meter: meter.map(|meter| meter.with_room(rtcp_bps, rtcp_burst)),
                    ..rtp
                };
                (both, None)
            }
            Rtcp::None => (rtp, None),
        };
        std::iter::once(rtp).chain(rtcp)
    };
    spec.flows.iter().enumerate().flat_map(of).collect()
}

/// The entries, if no five-tuple occurs twice in them.
pub fn expand_distinct(spec: &SessionSpec) -> Result<Vec<FlowEntry>, Error> {
    let entries = expand(spec);
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
/// (u8); of an ingress 4 (u8), its length (u32) and name. It does not depend on the process, the machine or the compiler, so it survives a restart
/// of the server.
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
    }
    Fingerprint(hash.digest())
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
    match end.ip() {
        IpAddr::V4(ip) => {
            hash.update(&[4]);
            hash.update(&ip.octets());
        }
        IpAddr::V6(ip) => {
            hash.update(&[6]);
            hash.update(&ip.octets());
        }
    }
    hash.update(&end.port().to_be_bytes());
}

//! What a session means to a dataplane: five-tuples with a code point and a policer each.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use xxhash_rust::xxh3::Xxh3;

use super::{
    error::Error,
    ids::Fingerprint,
    session::{Dscp, MediaFlow, Path, Rtcp, SessionSpec},
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEntry {
    /// Index in [`SessionSpec::flows`].
    pub flow: usize,
    /// What it carries.
    pub kind: FlowKind,
    /// Which packets.
    pub tuple: FiveTuple,
    /// What to write into them.
    pub dscp: Dscp,
    /// The policer's rate, bit/s at the IP layer.
    pub rate_bps: u64,
    /// The policer's bucket.
    pub burst_bytes: u32,
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
        let rtp_bps = media.rate.get();
        let rtcp_bps = (rtp_bps / RTCP_SHARE).max(RTCP_MIN_BPS);
        let rtp_burst = media
            .burst
            .map_or_else(|| default_burst(rtp_bps), |burst| burst.get());
        let rtcp_burst = default_burst(rtcp_bps);
        let entry = |kind, path, rate_bps, burst_bytes| FlowEntry {
            flow,
            kind,
            tuple: FiveTuple(path),
            dscp,
            rate_bps,
            burst_bytes,
        };
        let (rtp, rtcp) = match media.rtcp {
            Rtcp::NextPort(path) | Rtcp::Explicit(path) => (
                entry(FlowKind::Rtp, media.path, rtp_bps, rtp_burst),
                Some(entry(FlowKind::Rtcp, path, rtcp_bps, rtcp_burst)),
            ),
            // One five-tuple has one policer, with room for both.
            Rtcp::Mux => {
                let burst = rtp_burst.saturating_add(rtcp_burst);
                (
                    entry(FlowKind::Rtp, media.path, rtp_bps + rtcp_bps, burst),
                    None,
                )
            }
            Rtcp::None => (entry(FlowKind::Rtp, media.path, rtp_bps, rtp_burst), None),
        };
        std::iter::once(rtp).chain(rtcp)
    };
    spec.flows.iter().enumerate().flat_map(of).collect()
}

/// The entries, if no five-tuple occurs twice in them.
pub fn expand_distinct(spec: &SessionSpec) -> Result<Vec<FlowEntry>, Error> {
    let entries = expand(spec);
    let mut seen: HashMap<FiveTuple, &FlowEntry> = HashMap::new();
    for entry in &entries {
        if let Some(first) = seen.insert(entry.tuple, entry) {
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

/// 200 ms of the rate, at least 3,000 bytes.
fn default_burst(rate_bps: u64) -> u32 {
    u32::try_from((rate_bps / 40).max(MIN_DEFAULT_BURST)).unwrap_or(u32::MAX)
}

/// XXH3-64, seed 0, over each entry's fields in order, integers big-endian: flow (u32), kind
/// (u8: 1 RTP, 2 RTCP), source and destination (u8 4 or 6, address, port u16), protocol (u8),
/// DSCP (u8), rate (u64), burst (u32). It does not depend on the process, the machine or the
/// compiler, so it survives a restart of the server.
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
        hash.update(&[17, entry.dscp.get()]);
        hash.update(&entry.rate_bps.to_be_bytes());
        hash.update(&entry.burst_bytes.to_be_bytes());
    }
    Fingerprint(hash.digest())
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

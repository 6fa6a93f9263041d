//! SDP (RFC 8866), as far as flows and their rates need it.
//!
//! [`read()`] never fails on a line: what it does not understand is as if it were not there.

use std::{net::IpAddr, sync::Arc};

mod attribute;
mod read;

pub use read::{MAX_FORMATS, MAX_STREAMS, MAX_TEXT, Refused, read};

/// What one side sends and wants to receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The version of `o=`, which grows with each change.
    pub version: Option<u64>,
    /// One for each `m=` line, in their order. At most [`MAX_STREAMS`].
    pub streams: Vec<Stream>,
    /// `a=group:BUNDLE`: the `mid`s of each group (RFC 9143).
    pub bundles: Vec<Vec<Box<[u8]>>>,
}

/// One `m=` line, with what holds for it from the session's level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The media of the `m=` line.
    pub kind: Kind,
    /// Where RTP is received. 0: refused, or [`bundle_only`](Self::bundle_only).
    pub port: u16,
    /// How many streams there are, each two ports above the one before.
    pub ports: u16,
    /// The protocol of the `m=` line.
    pub transport: Transport,
    /// Where it is received.
    pub connection: Option<Connection>,
    /// In order of preference. Empty where formats are no RTP payload types.
    pub formats: Arc<[Format]>,
    /// The packet time wanted, ms.
    pub ptime_ms: Option<u32>,
    /// The longest packet time accepted, ms.
    pub maxptime_ms: Option<u32>,
    /// Who sends; it is not so while on hold.
    pub direction: Direction,
    /// Where RTCP is received, if that is not the next port (RFC 3605).
    pub rtcp: Option<RtcpPort>,
    /// RTCP may come on RTP's port (RFC 5761).
    pub rtcp_mux: bool,
    /// SRTP by keys in the SDP (RFC 4568).
    pub crypto: Vec<Crypto>,
    /// SRTP by DTLS (RFC 5763).
    pub fingerprint: bool,
    /// There are RTP header extensions (RFC 8285).
    pub extmap: bool,
    /// Its name in groups.
    pub mid: Option<Box<[u8]>>,
    /// It is there only as part of a bundle (RFC 9143).
    pub bundle_only: bool,
    /// There are ICE candidates or credentials.
    pub ice: bool,
    /// How much is wanted.
    pub bandwidth: Bandwidth,
    /// The most packets a second (RFC 3890).
    pub maxprate: Option<u32>,
}

/// The medium of an `m=` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the RFC")]
pub enum Kind {
    Audio,
    Video,
    Text,
    Application,
    /// `m=image`, mostly T.38 fax.
    Image,
    Other,
}

/// The protocol of an `m=` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RTP in the clear, or with SRTP if the other side wants it.
    Rtp,
    /// RTP that must be SRTP.
    Srtp,
    /// UDP without RTP: T.38, data channels.
    Udp,
    /// Not over UDP: it has no flows.
    Other,
}

/// Where a side receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// At an IP address.
    Address(IpAddr),
    /// At a name, which nobody here resolves.
    Name,
}

/// Who sends, seen from who wrote the SDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the RFC")]
pub enum Direction {
    #[default]
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

/// `a=rtcp` (RFC 3605).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcpPort {
    /// Where RTCP is received.
    pub port: u16,
    /// Absent: at the address of RTP.
    pub address: Option<IpAddr>,
}

/// A payload type, and what `a=rtpmap` and `a=fmtp` say of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// As in the `m=` line.
    pub payload_type: u8,
    /// What `a=rtpmap` says of it.
    pub encoding: Option<Encoding>,
    /// `a=fmtp`, what stands behind the payload type.
    pub parameters: Option<Box<[u8]>>,
}

/// What a payload type means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// Without regard to case.
    pub name: Box<str>,
    /// The RTP clock rate in Hz.
    pub clock_hz: u32,
    /// 1 if left out.
    pub channels: u8,
}

/// One `a=crypto` line (RFC 4568).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crypto {
    /// The suite's name, in capitals.
    pub suite: Box<str>,
    /// The length of the master key identifier in each packet, bytes.
    pub mki_bytes: u8,
}

/// `b=` lines. `RR` and `RS` say nothing about the media's rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// `AS`, kbit/s, IP headers included.
    pub as_kbps: Option<u32>,
    /// `TIAS`, bit/s, without IP and UDP headers (RFC 3890).
    pub tias_bps: Option<u64>,
}

impl Direction {
    /// Neither side or only one sends.
    pub fn is_hold(self) -> bool {
        self != Self::SendRecv
    }
}

impl Stream {
    /// Refused or removed by a port of 0 (RFC 3264 section 8.2).
    pub fn is_removed(&self) -> bool {
        self.port == 0 && !self.bundle_only
    }
}

#[cfg(test)]
mod tests;

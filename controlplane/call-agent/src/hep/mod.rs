//! HEPv3, the protocol by which SIP servers mirror their signalling.
//!
//! ```text
//! "HEP3" | u16 total length | chunk ...
//! chunk: u16 vendor | u16 type | u16 length, these six bytes included | value
//! ```
//!
//! All numbers are big-endian. What a sender says of addresses is not to be relied on: see
//! [`Packet::source`].

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

mod inflate;
mod stream;
#[cfg(test)]
mod tests;

pub use stream::{Frames, MAX_SKIPPED, NotHep};

/// Every frame begins with it.
pub const MAGIC: &[u8; 4] = b"HEP3";
/// Magic and total length, bytes.
const HEADER: usize = 6;
/// Vendor, type and length of a chunk, bytes.
const CHUNK_HEADER: usize = 6;
/// The most that a compressed payload may grow to, bytes: what an uncompressed one can be at most.
const MAX_INFLATED: usize = 65_535;

/// A HEPv3 frame: the mirrored message, and what its sender says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Where the message is said to come from. Absent if the sender left it out or gave a value of
    /// the wrong size. Several servers send wrong addresses and ports: never identify a call by it.
    pub source: Option<SocketAddr>,
    /// Where the message is said to go to.
    pub destination: Option<SocketAddr>,
    /// When the sender saw the message, us since 1970 by its clock.
    pub captured_us: Option<u64>,
    /// What the payload is.
    pub kind: Kind,
    /// The shared secret, in clear text.
    pub key: Option<&'a [u8]>,
    /// The mirrored message, inflated if it came compressed.
    pub payload: Cow<'a, [u8]>,
}

/// What a frame carries (chunk 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A SIP message (protocol type 1).
    Sip,
    /// Anything else: RTCP, logs, statistics.
    Other(u8),
}

/// Why a frame was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Refused {
    #[error("HEP version {0}; configure the sender to send HEPv3")]
    Version(u8),
    #[error("does not begin with \"HEP3\"")]
    Magic,
    #[error("says it has {said} bytes, has {came}")]
    Length { said: usize, came: usize },
    #[error("a chunk of type {0} is longer than the frame, or shorter than its own header")]
    Chunk(u16),
    #[error("no payload")]
    NoPayload,
    #[error("the compressed payload is damaged, or grows beyond {MAX_INFLATED} bytes")]
    Compressed,
}

/// Reads one frame. Bytes after its end are ignored, and so are unknown chunks, chunks of a vendor,
/// and chunks whose value has the wrong size.
pub fn read(frame: &[u8]) -> Result<Packet<'_>, Refused> {
    let mut chunks = Chunks::new(frame)?;
    let mut source = Address::default();
    let mut destination = Address::default();
    let (mut seconds, mut micros) = (None, None);
    let (mut payload, mut compressed) = (None, None);
    let mut packet = Packet {
        source: None,
        destination: None,
        captured_us: None,
        kind: Kind::Sip,
        key: None,
        payload: Cow::Borrowed(&[]),
    };
    while let Some(chunk) = chunks.next_chunk()? {
        if chunk.vendor != 0 {
            continue;
        }
        match chunk.kind {
            3 => source.set(fixed(chunk.value).map(Ipv4Addr::from_octets)),
            4 => destination.set(fixed(chunk.value).map(Ipv4Addr::from_octets)),
            5 => source.set(fixed(chunk.value).map(Ipv6Addr::from_octets)),
            6 => destination.set(fixed(chunk.value).map(Ipv6Addr::from_octets)),
            7 => source.port = fixed(chunk.value).map(u16::from_be_bytes),
            8 => destination.port = fixed(chunk.value).map(u16::from_be_bytes),
            9 => seconds = fixed(chunk.value).map(u32::from_be_bytes),
            10 => micros = fixed(chunk.value).map(u32::from_be_bytes),
            11 => packet.kind = kind(chunk.value),
            14 => packet.key = Some(chunk.value),
            15 => payload = Some(chunk.value),
            16 => compressed = Some(chunk.value),
            _ => {}
        }
    }
    packet.source = source.socket();
    packet.destination = destination.socket();
    packet.captured_us = seconds.map(|seconds| {
        u64::from(seconds) * 1_000_000 + u64::from(micros.unwrap_or(0).min(999_999))
    });
    packet.payload = match (payload, compressed) {
        (Some(plain), _) => Cow::Borrowed(plain),
        (None, Some(compressed)) => {
            Cow::Owned(inflate::inflate(compressed, MAX_INFLATED).ok_or(Refused::Compressed)?)
        }
        (None, None) => return Err(Refused::NoPayload),
    };
    Ok(packet)
}

fn kind(value: &[u8]) -> Kind {
    match value {
        [1] => Kind::Sip,
        [other] => Kind::Other(*other),
        _ => Kind::Other(0),
    }
}

fn fixed<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.try_into().ok()
}

/// One end as chunks tell it, in any order.
#[derive(Default)]
struct Address {
    ip: Option<IpAddr>,
    port: Option<u16>,
}

impl Address {
    fn set(&mut self, ip: Option<impl Into<IpAddr>>) {
        if let Some(ip) = ip {
            self.ip = Some(ip.into());
        }
    }

    fn socket(self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.ip?, self.port.unwrap_or(0)))
    }
}

struct Chunk<'a> {
    vendor: u16,
    kind: u16,
    value: &'a [u8],
}

/// The chunks of one frame.
struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Chunks<'a> {
    fn new(frame: &'a [u8]) -> Result<Self, Refused> {
        let total = match frame {
            [b'H', b'E', b'P', b'3', high, low, ..] => {
                usize::from(u16::from_be_bytes([*high, *low]))
            }
            [b'H', b'E', b'P', b'3', ..] => 0,
            // HEPv1 and HEPv2 begin with their version and the length of their header.
            [version @ 1..=2, 16 | 28 | 40, ..] => return Err(Refused::Version(*version)),
            _ => return Err(Refused::Magic),
        };
        let rest = frame.get(HEADER..total).ok_or(Refused::Length {
            said: total,
            came: frame.len(),
        })?;
        Ok(Self { rest })
    }

    fn next_chunk(&mut self) -> Result<Option<Chunk<'a>>, Refused> {
        let [v0, v1, k0, k1, l0, l1, ..] = *self.rest else {
            // Fewer bytes than a chunk's header are padding.
            return Ok(None);
        };
        let kind = u16::from_be_bytes([k0, k1]);
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = self
            .rest
            .get(CHUNK_HEADER..length)
            .ok_or(Refused::Chunk(kind))?;
        self.rest = self.rest.get(length..).unwrap_or_default();
        Ok(Some(Chunk {
            vendor: u16::from_be_bytes([v0, v1]),
            kind,
            value,
        }))
    }
}

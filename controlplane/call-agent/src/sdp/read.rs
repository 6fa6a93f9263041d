//! The lines of an SDP.

use std::sync::Arc;

use super::{
    Bandwidth, Connection, Direction, Format, Kind, Session, Stream, Transport,
    attribute::{self, Attribute},
};
use crate::text::{lines, number, parsed, split_once, words};

/// The most `m=` lines that are read. Later ones are ignored.
pub const MAX_STREAMS: usize = 32;
/// The most formats of an `m=` line that are read.
pub const MAX_FORMATS: usize = 64;
/// The longest SDP that is read, bytes. Browsers' offers have less than 10,000.
pub const MAX_TEXT: usize = 16_384;
/// The most formats of all `m=` lines together that are read.
const MAX_ALL_FORMATS: usize = 512;
/// The most `a=crypto` lines of a stream that are read.
const MAX_CRYPTO: usize = 16;
/// The most groups that are read.
const MAX_BUNDLES: usize = 8;
/// The longest `a=fmtp` that is kept, bytes.
const MAX_PARAMETERS: usize = 512;

/// Why an SDP was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Refused {
    #[error("no line of it is SDP's")]
    NotSdp,
    #[error("more than {MAX_TEXT} bytes")]
    TooLong,
}

/// Reads an SDP with line ends of any kind, in any character set.
pub fn read(text: &[u8]) -> Result<Session, Refused> {
    if text.len() > MAX_TEXT {
        return Err(Refused::TooLong);
    }
    let mut reader = Reader::default();
    let mut known = false;
    for line in lines(text) {
        let Some((kind, value)) = split_once(line, b'=') else {
            continue;
        };
        known |= matches!(kind, b"v" | b"o" | b"c" | b"m");
        match kind {
            b"o" => reader.session.version = words(value).nth(2).and_then(number),
            b"c" => reader.connection(value),
            b"b" => reader.bandwidth(value),
            b"m" => reader.stream(value),
            b"a" => reader.attribute(value),
            _ => {}
        }
    }
    if !known {
        return Err(Refused::NotSdp);
    }
    Ok(reader.session)
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    session: Session,
    /// What the session's level says, which holds for each stream that says nothing else.
    common: Common,
    /// Within an `m=` line that is not kept.
    skip: bool,
    /// The stream read last has a `c=` line of its own.
    has_connection: bool,
}

/// What may be said once for all streams.
#[derive(Clone, Copy, Default)]
struct Common {
    connection: Option<Connection>,
    bandwidth: Bandwidth,
    direction: Direction,
    ptime_ms: Option<u32>,
    maxptime_ms: Option<u32>,
    fingerprint: bool,
    extmap: bool,
    ice: bool,
}

impl Reader {
    fn connection(&mut self, value: &[u8]) {
        let connection = words(value)
            .nth(2)
            .and_then(|address| address.split(|&byte| byte == b'/').next())
            .map(|address| parsed(address).map_or(Connection::Name, Connection::Address));
        match self.session.streams.last_mut() {
            _ if self.skip => {}
            // A second line of one stream is for layered multicast: the first is the base.
            Some(stream) if !self.has_connection => {
                self.has_connection = true;
                stream.connection = connection.or(stream.connection);
            }
            Some(_) => {}
            None => self.common.connection = connection,
        }
    }

    fn bandwidth(&mut self, value: &[u8]) {
        let Some((kind, amount)) = split_once(value, b':') else {
            return;
        };
        let bandwidth = match self.session.streams.last_mut() {
            _ if self.skip => return,
            Some(stream) => &mut stream.bandwidth,
            None => &mut self.common.bandwidth,
        };
        match kind {
            b"AS" => bandwidth.as_kbps = number(amount).or(bandwidth.as_kbps),
            b"TIAS" => bandwidth.tias_bps = number(amount).or(bandwidth.tias_bps),
            _ => {}
        }
    }

    /// `m=<media> <port>[/<ports>] <protocol> <format> ...`
    fn stream(&mut self, value: &[u8]) {
        let formats: usize = self.session.streams.iter().map(|of| of.formats.len()).sum();
        let room = MAX_ALL_FORMATS.saturating_sub(formats).min(MAX_FORMATS);
        let stream = stream(value, &self.common, room);
        self.has_connection = false;
        self.skip = stream.is_none() || self.session.streams.len() >= MAX_STREAMS;
        if let (false, Some(stream)) = (self.skip, stream) {
            self.session.streams.push(stream);
        }
    }

    fn attribute(&mut self, value: &[u8]) {
        let Some(attribute) = attribute::read(value) else {
            return;
        };
        match self.session.streams.last_mut() {
            _ if self.skip => {}
            Some(stream) => add_to_stream(stream, attribute),
            None => self.add_to_session(attribute),
        }
    }

    fn add_to_session(&mut self, attribute: Attribute<'_>) {
        let common = &mut self.common;
        match attribute {
            Attribute::Direction(direction) => common.direction = direction,
            Attribute::Ptime(ms) => common.ptime_ms = Some(ms),
            Attribute::MaxPtime(ms) => common.maxptime_ms = Some(ms),
            Attribute::Fingerprint => common.fingerprint = true,
            Attribute::ExtMap => common.extmap = true,
            Attribute::Ice => common.ice = true,
            Attribute::Bundle(mids) if self.session.bundles.len() < MAX_BUNDLES => {
                let mids = words(mids).take(MAX_STREAMS).map(Box::from).collect();
                self.session.bundles.push(mids);
            }
            _ => {}
        }
    }
}

/// With `formats` at most.
fn stream(value: &[u8], common: &Common, formats: usize) -> Option<Stream> {
    let mut fields = words(value);
    let kind = match fields.next()?.to_ascii_lowercase().as_slice() {
        b"audio" => Kind::Audio,
        b"video" => Kind::Video,
        b"text" => Kind::Text,
        b"application" => Kind::Application,
        b"image" => Kind::Image,
        _ => Kind::Other,
    };
    let port = fields.next()?;
    let (port, ports) = match split_once(port, b'/') {
        Some((port, ports)) => (number(port)?, number(ports).unwrap_or(1).max(1)),
        None => (number(port)?, 1),
    };
    let transport = transport(fields.next().unwrap_or(b"RTP/AVP"));
    let formats = match transport {
        Transport::Rtp | Transport::Srtp => fields
            .filter_map(number)
            .take(formats)
            .map(|payload_type| Format {
                payload_type,
                encoding: None,
                parameters: None,
            })
            .collect(),
        Transport::Udp | Transport::Other => Arc::default(),
    };
    Some(Stream {
        kind,
        port,
        ports,
        transport,
        connection: common.connection,
        formats,
        ptime_ms: common.ptime_ms,
        maxptime_ms: common.maxptime_ms,
        direction: common.direction,
        rtcp: None,
        rtcp_mux: false,
        crypto: Vec::new(),
        fingerprint: common.fingerprint,
        extmap: common.extmap,
        mid: None,
        bundle_only: false,
        ice: common.ice,
        bandwidth: common.bandwidth,
        maxprate: None,
    })
}

fn transport(protocol: &[u8]) -> Transport {
    let protocol = protocol.to_ascii_uppercase();
    let starts = |with: &[u8]| protocol.starts_with(with);
    if starts(b"TCP") || starts(b"TLS") || starts(b"SCTP") {
        Transport::Other
    } else if crate::text::find(&protocol, b"RTP/SAVP").is_some() {
        Transport::Srtp
    } else if crate::text::find(&protocol, b"RTP/").is_some() {
        Transport::Rtp
    } else if starts(b"UDP") || starts(b"DTLS") {
        Transport::Udp
    } else {
        Transport::Other
    }
}

fn add_to_stream(stream: &mut Stream, attribute: Attribute<'_>) {
    match attribute {
        Attribute::RtpMap(payload_type, encoding) => {
            if let Some(format) = format(stream, payload_type) {
                format.encoding.get_or_insert(encoding);
            }
        }
        Attribute::Fmtp(payload_type, parameters) => {
            if let Some(format) = format(stream, payload_type)
                && parameters.len() <= MAX_PARAMETERS
            {
                format.parameters.get_or_insert(parameters.into());
            }
        }
        Attribute::Ptime(ms) => stream.ptime_ms = Some(ms),
        Attribute::MaxPtime(ms) => stream.maxptime_ms = Some(ms),
        Attribute::MaxPacketRate(rate) => stream.maxprate = Some(rate),
        Attribute::Direction(direction) => stream.direction = direction,
        Attribute::Rtcp(port) => stream.rtcp = Some(port),
        Attribute::RtcpMux => stream.rtcp_mux = true,
        Attribute::Crypto(crypto) if stream.crypto.len() < MAX_CRYPTO => stream.crypto.push(crypto),
        Attribute::Crypto(_) | Attribute::Bundle(_) => {}
        Attribute::Fingerprint => stream.fingerprint = true,
        Attribute::ExtMap => stream.extmap = true,
        Attribute::Mid(mid) => stream.mid = Some(mid.into()),
        Attribute::BundleOnly => stream.bundle_only = true,
        Attribute::Ice => stream.ice = true,
    }
}

fn format(stream: &mut Stream, payload_type: u8) -> Option<&mut Format> {
    // Nobody else has it while it is read.
    Arc::get_mut(&mut stream.formats)?
        .iter_mut()
        .find(|format| format.payload_type == payload_type)
}

//! `a=` lines.

use super::{Crypto, Direction, Encoding, RtcpPort};
use crate::text::{number, parsed, split_once, words};

/// What an `a=` line says, if it is of use here.
pub(super) enum Attribute<'a> {
    RtpMap(u8, Encoding),
    Fmtp(u8, &'a [u8]),
    Ptime(u32),
    MaxPtime(u32),
    MaxPacketRate(u32),
    Direction(Direction),
    Rtcp(RtcpPort),
    RtcpMux,
    Crypto(Crypto),
    Fingerprint,
    ExtMap,
    Mid(&'a [u8]),
    Bundle(&'a [u8]),
    BundleOnly,
    Ice,
}

pub(super) fn read(line: &[u8]) -> Option<Attribute<'_>> {
    let (name, value) = split_once(line, b':').unwrap_or((line.trim_ascii(), b""));
    Some(match name.to_ascii_lowercase().as_slice() {
        b"rtpmap" => rtpmap(value)?,
        b"fmtp" => {
            let payload_type = words(value).next()?;
            let rest = value.get(payload_type.len()..)?.trim_ascii();
            Attribute::Fmtp(number(payload_type)?, rest)
        }
        b"ptime" => Attribute::Ptime(milliseconds(value)?),
        b"maxptime" => Attribute::MaxPtime(milliseconds(value)?),
        b"maxprate" => Attribute::MaxPacketRate(milliseconds(value)?),
        b"sendrecv" => Attribute::Direction(Direction::SendRecv),
        b"sendonly" => Attribute::Direction(Direction::SendOnly),
        b"recvonly" => Attribute::Direction(Direction::RecvOnly),
        b"inactive" => Attribute::Direction(Direction::Inactive),
        b"rtcp" => rtcp(value)?,
        // RFC 8858: whoever offers only that, has it.
        b"rtcp-mux" | b"rtcp-mux-only" => Attribute::RtcpMux,
        b"crypto" => crypto(value)?,
        b"fingerprint" => Attribute::Fingerprint,
        b"extmap" => Attribute::ExtMap,
        b"mid" => Attribute::Mid(value),
        b"group" => {
            let semantics = words(value).next()?;
            if !semantics.eq_ignore_ascii_case(b"BUNDLE") {
                return None;
            }
            Attribute::Bundle(value.get(semantics.len()..)?)
        }
        b"bundle-only" => Attribute::BundleOnly,
        b"candidate" | b"ice-ufrag" => Attribute::Ice,
        _ => return None,
    })
}

/// `<payload type> <name>/<clock>[/<channels>]`
fn rtpmap(value: &[u8]) -> Option<Attribute<'_>> {
    let mut fields = words(value);
    let payload_type = number(fields.next()?)?;
    let mut encoding = fields.next()?.split(|&byte| byte == b'/');
    let name = str::from_utf8(encoding.next()?).ok()?;
    Some(Attribute::RtpMap(
        payload_type,
        Encoding {
            name: name.into(),
            clock_hz: number(encoding.next()?)?,
            channels: encoding.next().and_then(number).unwrap_or(1),
        },
    ))
}

/// A positive number; what stands behind it is ignored ("20.5", "30 ").
fn milliseconds(value: &[u8]) -> Option<u32> {
    let end = value
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(value.len());
    number(value.get(..end)?).filter(|&ms| ms > 0)
}

/// `<port> [IN IP4 <address>]`
fn rtcp(value: &[u8]) -> Option<Attribute<'_>> {
    let mut fields = words(value);
    Some(Attribute::Rtcp(RtcpPort {
        port: number(fields.next()?).filter(|&port| port > 0)?,
        address: fields.nth(2).and_then(parsed),
    }))
}

/// `<tag> <suite> inline:<key>[|<lifetime>][|<MKI>:<length>]`
fn crypto(value: &[u8]) -> Option<Attribute<'_>> {
    let mut fields = words(value);
    let suite = str::from_utf8(fields.nth(1)?).ok()?.to_ascii_uppercase();
    let mki_bytes = fields
        .next()
        .and_then(|key| key.split(|&byte| byte == b'|').skip(1).last())
        .and_then(|mki| split_once(mki, b':'))
        .and_then(|(_, length)| number(length))
        .unwrap_or(0);
    Some(Attribute::Crypto(Crypto {
        suite: suite.into(),
        mki_bytes,
    }))
}

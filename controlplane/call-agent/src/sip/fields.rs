//! Values of headers.

use std::net::IpAddr;

use crate::text::{number, parsed, split_once, split_outside_quotes, unquoted, words};

/// What a request asks for. Methods are case-sensitive (RFC 3261 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the RFCs")]
pub enum Method<'a> {
    Invite,
    Ack,
    Bye,
    Cancel,
    Prack,
    Update,
    /// Any other; it changes no call.
    Other(&'a [u8]),
}

impl<'a> Method<'a> {
    pub(super) fn named(name: &'a [u8]) -> Self {
        match name {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"BYE" => Self::Bye,
            b"CANCEL" => Self::Cancel,
            b"PRACK" => Self::Prack,
            b"UPDATE" => Self::Update,
            other => Self::Other(other),
        }
    }
}

/// One value of `Via`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// Host and port of who added it, as they stand.
    pub sent_by: &'a [u8],
    /// Names the hop; empty if there is none (RFC 2543).
    pub branch: &'a [u8],
    /// Where the request came from, where that was not `sent_by`.
    pub received: Option<IpAddr>,
}

/// `Content-Type` (RFC 3261, section 20.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentType<'a> {
    /// `application` of `application/sdp`.
    pub kind: &'a [u8],
    /// `sdp` of `application/sdp`.
    pub subtype: &'a [u8],
    /// What separates the parts of a multipart body.
    pub boundary: Option<&'a [u8]>,
}

impl<'a> ContentType<'a> {
    pub(super) fn read(value: &'a [u8]) -> Option<Self> {
        let media_type = split_outside_quotes(value, b';').next()?;
        let (kind, subtype) = split_once(media_type, b'/')?;
        Some(Self {
            kind,
            subtype,
            boundary: parameter(value, b"boundary"),
        })
    }

    pub(super) fn is_sdp(&self) -> bool {
        self.kind.eq_ignore_ascii_case(b"application") && self.subtype.eq_ignore_ascii_case(b"sdp")
    }

    pub(super) fn is_multipart(&self) -> bool {
        self.kind.eq_ignore_ascii_case(b"multipart")
    }
}

/// The value of a `;name=value` outside of quotes and `<>`, without quotes.
fn parameter<'a>(value: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    split_outside_quotes(value, b';')
        .skip(1)
        .filter_map(|parameter| split_once(parameter, b'='))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| unquoted(value))
}

/// The tag of `From` or `To`; empty if there is none.
pub(super) fn tag(value: &[u8]) -> &[u8] {
    let found = parameter(value, b"tag").or_else(|| {
        // A quote or `<` that is never closed hides the parameters; they stand behind the last `>`.
        let at = value.iter().rposition(|&byte| byte == b'>')?;
        parameter(value.get(at + 1..)?, b"tag")
    });
    found.and_then(|tag| words(tag).next()).unwrap_or_default()
}

pub(super) fn cseq(value: &[u8]) -> Option<(u32, &[u8])> {
    let mut parts = words(value);
    Some((number(parts.next()?)?, parts.next()?))
}

/// Of `RAck` (RFC 3262 section 7.2): the response's number, the request's, and its method.
pub(super) fn acknowledged_cseq(value: &[u8]) -> Option<u32> {
    let mut parts = words(value);
    let _response: u32 = number(parts.next()?)?;
    let request = number(parts.next()?)?;
    parts.next().map(|_method| request)
}

/// The number before the parameters.
pub(super) fn leading_number(value: &[u8]) -> Option<u32> {
    number(split_outside_quotes(value, b';').next()?)
}

/// `SIP/2.0/UDP host:port;branch=...`, with white space wherever RFC 3261 allows it.
pub(super) fn via(value: &[u8]) -> Option<Via<'_>> {
    let protocol_and_host = split_outside_quotes(value, b';').next()?;
    let (_, rest) = split_once(protocol_and_host, b'/')?;
    let (_, transport_and_host) = split_once(rest, b'/')?;
    let transport = words(transport_and_host).next()?;
    let sent_by = transport_and_host.get(transport.len()..)?.trim_ascii();
    if sent_by.is_empty() {
        return None;
    }
    Some(Via {
        sent_by,
        branch: parameter(value, b"branch").unwrap_or_default(),
        received: parameter(value, b"received").and_then(address),
    })
}

/// An IP address, in brackets or not.
fn address(text: &[u8]) -> Option<IpAddr> {
    let inner = text
        .strip_prefix(b"[")
        .and_then(|inner| inner.strip_suffix(b"]"));
    parsed(inner.unwrap_or(text))
}

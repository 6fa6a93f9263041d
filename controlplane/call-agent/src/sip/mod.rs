//! SIP messages (RFC 3261), as far as the call model needs them.
//!
//! [`read`] borrows everything from the message. White space includes the line ends of folded lines,
//! so nothing has to be unfolded. Of each header that stands once, the first that can be read counts.

use std::net::IpAddr;

mod body;
mod fields;
mod head;

pub use body::sdp;
pub use fields::{ContentType, Method, Via};

use crate::text::{number, split_outside_quotes, words};
use head::{Head, Name};

/// The most Via values that are read. RFC 3261's loop limit is 70 hops.
pub const MAX_VIAS: usize = 70;
/// The longest Call-ID or tag that is read, bytes.
pub const MAX_TOKEN: usize = 1_024;

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Which of the two.
    pub start: Start<'a>,
    /// Compared byte by byte.
    pub call_id: &'a [u8],
    /// The requester's tag, in responses too. Empty if there is none (RFC 2543).
    pub from_tag: &'a [u8],
    /// The responder's tag. Empty outside of dialogs.
    pub to_tag: &'a [u8],
    /// The request's number, in responses too.
    pub cseq: u32,
    /// The request's method, in responses too.
    pub method: Method<'a>,
    /// Topmost first. At least one.
    pub vias: Vec<Via<'a>>,
    /// The number of the request whose response a PRACK acknowledges.
    pub acknowledged_cseq: Option<u32>,
    /// Seconds (RFC 4028).
    pub session_expires: Option<u32>,
    /// The SDP, if the body is one or has one among its parts.
    pub sdp: Option<&'a [u8]>,
    /// Header lines that could not be read, and so are as if they were not there.
    pub bad_lines: u16,
}

/// The start line (RFC 3261, sections 7.1 and 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// Its method is [`Message::method`].
    Request {
        /// As it stands, maybe with white space that RFC 3261 forbids.
        uri: &'a [u8],
    },
    /// Its reason phrase is not kept.
    Response {
        /// 100 to 699.
        code: u16,
    },
}

/// Why a message was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Refused {
    #[error("only line ends: a keep-alive")]
    KeepAlive,
    #[error("the first line is neither a request's nor a response's of SIP/2.0")]
    StartLine,
    #[error("the status is not between 100 and 699")]
    Status,
    #[error("no Call-ID, or one of more than {MAX_TOKEN} bytes")]
    CallId,
    #[error("no From")]
    From,
    #[error("no To")]
    To,
    #[error("a tag of more than {MAX_TOKEN} bytes")]
    Tag,
    #[error("no CSeq with a number below 2^32 and a method")]
    CSeq,
    #[error("CSeq has another method than the first line")]
    Method,
    #[error("no Via")]
    Via,
}

/// Reads one message, which is the whole datagram: `Content-Length` is not needed.
pub fn read(datagram: &[u8]) -> Result<Message<'_>, Refused> {
    let head = Head::read(datagram)?;
    let (start, own_method) = start_line(head.start_line)?;
    let call_id = head
        .first(Name::CallId, |value| words(value).next())
        .filter(|call_id| call_id.len() <= MAX_TOKEN)
        .ok_or(Refused::CallId)?;
    let from_tag = head
        .first(Name::From, |value| Some(fields::tag(value)))
        .ok_or(Refused::From)?;
    let to_tag = head
        .first(Name::To, |value| Some(fields::tag(value)))
        .ok_or(Refused::To)?;
    if from_tag.len().max(to_tag.len()) > MAX_TOKEN {
        return Err(Refused::Tag);
    }
    let (cseq, method) = head.first(Name::CSeq, fields::cseq).ok_or(Refused::CSeq)?;
    if own_method.is_some_and(|own| !own.eq_ignore_ascii_case(method)) {
        return Err(Refused::Method);
    }
    let vias: Vec<_> = head
        .all(Name::Via)
        .flat_map(|value| split_outside_quotes(value, b','))
        .filter_map(fields::via)
        .take(MAX_VIAS)
        .collect();
    if vias.is_empty() {
        return Err(Refused::Via);
    }
    Ok(Message {
        start,
        call_id,
        from_tag,
        to_tag,
        cseq,
        method: Method::named(method),
        vias,
        acknowledged_cseq: head.first(Name::RAck, fields::acknowledged_cseq),
        session_expires: head.first(Name::SessionExpires, fields::leading_number),
        sdp: body::of_message(&head),
        bad_lines: head.bad_lines,
    })
}

impl Message<'_> {
    /// A response's status; `None` for a request.
    pub fn code(&self) -> Option<u16> {
        match self.start {
            Start::Request { .. } => None,
            Start::Response { code } => Some(code),
        }
    }

    /// The address that the user agent's own request came from, as the first server saw it
    /// (`received`, RFC 3261 section 18.2.1).
    pub fn received(&self) -> Option<IpAddr> {
        self.vias.last().and_then(|via| via.received)
    }
}

fn start_line(line: &[u8]) -> Result<(Start<'_>, Option<&[u8]>), Refused> {
    const VERSION: &[u8] = b"SIP/2.0";
    let mut parts = words(line);
    let first = parts.next().ok_or(Refused::StartLine)?;
    if first.eq_ignore_ascii_case(VERSION) {
        let code = parts.next().and_then(number).ok_or(Refused::Status)?;
        if !(100..700).contains(&code) {
            return Err(Refused::Status);
        }
        return Ok((Start::Response { code }, None));
    }
    let rest = line.trim_ascii();
    let uri = rest
        .len()
        .checked_sub(VERSION.len())
        .and_then(|at| rest.split_at_checked(at))
        .filter(|(_, version)| version.eq_ignore_ascii_case(VERSION))
        .and_then(|(before, _)| before.strip_suffix(b" "))
        .and_then(|before| before.get(first.len()..))
        .map(<[u8]>::trim_ascii)
        .filter(|uri| !uri.is_empty())
        .ok_or(Refused::StartLine)?;
    Ok((Start::Request { uri }, Some(first)))
}

#[cfg(test)]
mod tests;

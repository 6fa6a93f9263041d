//! Bodies: where the SDP stands.

use super::{
    fields::ContentType,
    head::{Fields, Head, Name},
};
use crate::text::{find, number, split_once};

/// How deep multipart bodies are searched.
const MAX_DEPTH: usize = 4;
/// How many parts of a multipart body are looked at.
const MAX_PARTS: usize = 32;

/// The SDP of a message. A body without a `Content-Type` counts if it looks like one.
pub(super) fn of_message<'a>(head: &Head<'a>) -> Option<&'a [u8]> {
    let content_type = head.first(Name::ContentType, ContentType::read);
    let body = by_content_length(head, content_type.is_some());
    match content_type {
        Some(content_type) => sdp(body, &content_type),
        None => body.starts_with(b"v=0").then_some(body),
    }
}

/// The body. `Content-Length` is believed if what it leaves can be whole. Otherwise the body is all
/// that came: servers that change line ends or addresses forget to count again.
fn by_content_length<'a>(head: &Head<'a>, has_content_type: bool) -> &'a [u8] {
    let Some(length) = head.first(Name::ContentLength, number::<usize>) else {
        return head.rest;
    };
    match head.rest.split_at_checked(length) {
        Some((b"", _)) if has_content_type => head.rest,
        Some((body, _)) if body.is_empty() || body.ends_with(b"\n") => body,
        _ => head.rest,
    }
}

/// The SDP in a body of this type: the body itself, or the first part that is one.
pub fn sdp<'a>(body: &'a [u8], content_type: &ContentType<'_>) -> Option<&'a [u8]> {
    find_sdp(body, content_type, MAX_DEPTH)
}

fn find_sdp<'a>(body: &'a [u8], content_type: &ContentType<'_>, depth: usize) -> Option<&'a [u8]> {
    if content_type.is_sdp() {
        return (!body.trim_ascii().is_empty()).then_some(body);
    }
    if !content_type.is_multipart() || depth == 0 {
        return None;
    }
    let boundary = content_type.boundary.or_else(|| guessed(body))?;
    parts(body, boundary).take(MAX_PARTS).find_map(|part| {
        let mut fields = Fields { rest: part };
        let part_type = fields
            .by_ref()
            .filter_map(|field| split_once(field, b':'))
            .filter(|(name, _)| {
                name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"c")
            })
            .find_map(|(_, value)| ContentType::read(value))?;
        // The search above stops at the type: go on to the end of the part's head.
        fields.by_ref().for_each(drop);
        find_sdp(fields.rest, &part_type, depth - 1)
    })
}

/// The boundary of a body whose type names none: its first line that begins with two hyphens.
fn guessed(body: &[u8]) -> Option<&[u8]> {
    crate::text::lines(body).find_map(|line| line.strip_prefix(b"--"))
}

/// What stands between boundaries (RFC 2046 section 5.1.1).
fn parts<'a>(body: &'a [u8], boundary: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let delimiter = [b"--", boundary].concat();
    let mut rest = after_delimiter(body, &delimiter).map(|(_, rest)| rest);
    std::iter::from_fn(move || {
        let body = rest?;
        if body.starts_with(b"--") {
            return None;
        }
        // The rest of the delimiter's line is white space.
        let line = body.iter().position(|&byte| byte == b'\n')?;
        let part = body.get(line + 1..)?;
        let (part, next) = match after_delimiter(part, &delimiter) {
            Some((part, next)) => (part, Some(next)),
            None => (part, None),
        };
        rest = next;
        Some(part)
    })
}

/// What stands before and behind the first delimiter that begins a line. The line end before it is
/// the delimiter's.
fn after_delimiter<'a>(body: &'a [u8], delimiter: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut from = 0;
    loop {
        let at = from + find(body.get(from..)?, delimiter)?;
        let (before, rest) = body.split_at_checked(at)?;
        if before.is_empty() || before.ends_with(b"\n") {
            let before = before.strip_suffix(b"\n").unwrap_or(before);
            let before = before.strip_suffix(b"\r").unwrap_or(before);
            return Some((before, rest.get(delimiter.len()..)?));
        }
        from = at + 1;
    }
}

//! The lines of a message's head.

use super::Refused;
use crate::text::split_once;

/// The most header lines that are kept. All others are ignored.
const MAX_HEADERS: usize = 256;

/// Headers that something here asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    CallId,
    From,
    To,
    CSeq,
    Via,
    RAck,
    SessionExpires,
    ContentType,
    ContentLength,
}

impl Name {
    fn of(name: &[u8]) -> Option<Self> {
        // The compact forms are those of RFC 3261 section 7.3.3 and RFC 4028 section 4.
        const NAMES: [(&[u8], &[u8], Name); 9] = [
            (b"Call-ID", b"i", Name::CallId),
            (b"From", b"f", Name::From),
            (b"To", b"t", Name::To),
            (b"CSeq", b"", Name::CSeq),
            (b"Via", b"v", Name::Via),
            (b"RAck", b"", Name::RAck),
            (b"Session-Expires", b"x", Name::SessionExpires),
            (b"Content-Type", b"c", Name::ContentType),
            (b"Content-Length", b"l", Name::ContentLength),
        ];
        NAMES
            .iter()
            .find(|(long, compact, _)| {
                name.eq_ignore_ascii_case(long)
                    || (!compact.is_empty() && name.eq_ignore_ascii_case(compact))
            })
            .map(|&(_, _, name)| name)
    }
}

/// Start line, headers and what follows them.
pub(super) struct Head<'a> {
    pub(super) start_line: &'a [u8],
    headers: Vec<(Name, &'a [u8])>,
    /// Everything behind the empty line.
    pub(super) rest: &'a [u8],
    pub(super) bad_lines: u16,
}

impl<'a> Head<'a> {
    pub(super) fn read(datagram: &'a [u8]) -> Result<Self, Refused> {
        // RFC 3261 section 7.5: empty lines before the start line are ignored.
        let message = datagram.trim_ascii_start();
        if message.is_empty() {
            return Err(Refused::KeepAlive);
        }
        let mut fields = Fields { rest: message };
        let mut head = Self {
            start_line: fields.next().unwrap_or_default(),
            headers: Vec::with_capacity(16),
            rest: &[],
            bad_lines: 0,
        };
        for field in fields.by_ref() {
            match split_once(field, b':') {
                Some((name, value)) if !name.is_empty() => {
                    if let Some(name) = Name::of(name)
                        && head.headers.len() < MAX_HEADERS
                    {
                        head.headers.push((name, value));
                    }
                }
                _ => head.bad_lines = head.bad_lines.saturating_add(1),
            }
        }
        head.rest = fields.rest;
        Ok(head)
    }

    /// All values of a header, in the message's order.
    pub(super) fn all(&self, name: Name) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(of, _)| *of == name)
            .map(|&(_, value)| value)
    }

    /// What `read` makes of the first value that it can read.
    pub(super) fn first<T>(&self, name: Name, read: impl Fn(&'a [u8]) -> Option<T>) -> Option<T> {
        self.all(name).find_map(read)
    }
}

/// Lines with the lines folded into them, until the empty line.
pub(super) struct Fields<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut end = 0;
        loop {
            let line = self.rest.get(end..).unwrap_or_default();
            let length = line
                .iter()
                .position(|&byte| byte == b'\n')
                .map_or(line.len(), |at| at + 1);
            end += length;
            let folded = matches!(self.rest.get(end), Some(b' ' | b'\t'));
            if length == 0 || !folded {
                break;
            }
        }
        let (field, rest) = self.rest.split_at(end);
        self.rest = rest;
        let field = field.strip_suffix(b"\n").unwrap_or(field);
        let field = field.strip_suffix(b"\r").unwrap_or(field);
        (!field.is_empty()).then_some(field)
    }
}

//! What a SIP server gets for a command.

use std::borrow::Cow;

use super::{
    Encoding, Refused,
    bencode::{self, write_text},
    json,
    value::Value,
};

/// A real rtpengine's answer, as far as the agent needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// What the SIP server sends on, if the command was carried out and has one.
    pub sdp: Option<Cow<'a, [u8]>>,
}

impl<'a> Reply<'a> {
    /// Reads a dictionary without cookie.
    pub fn read(dictionary: &'a [u8]) -> Result<Self, Refused> {
        let value = match dictionary.first() {
            Some(b'd') => bencode::read(dictionary)?,
            Some(b'{') => json::read(dictionary)?,
            _ => return Err(Refused::Dictionary),
        };
        let text = |key| value.get(key).and_then(Value::text);
        let is_ok = text("result").is_some_and(|result| *result == *b"ok");
        Ok(Self {
            sdp: text("sdp").filter(|_| is_ok),
        })
    }
}

/// What the agent answers to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The answer to `ping`.
    Pong,
    /// To `offer` and `answer`: the SDP that the server sends on.
    Sdp(&'a [u8]),
    /// The answer to `delete`.
    Deleted {
        /// There was no such call.
        unknown: bool,
    },
    /// The server goes on as its script says. Never "Parallel session limit reached" nor "load
    /// limit", at which Kamailio tries another node.
    Error(&'a str),
}

impl Answer<'_> {
    /// Appends the dictionary. As bencode it is byte for byte what was given; as JSON, an SDP that is no
    /// UTF-8 loses the bytes that are none.
    pub fn write_dictionary(&self, encoding: Encoding, out: &mut Vec<u8>) {
        let entries = self.entries();
        let entries = entries.iter().flatten();
        match encoding {
            Encoding::Bencode => {
                out.push(b'd');
                for (key, value) in entries {
                    write_text(key.as_bytes(), out);
                    write_text(value, out);
                }
                out.push(b'e');
            }
            Encoding::Json => {
                let object: serde_json::Map<_, _> = entries
                    .map(|(key, value)| ((*key).into(), String::from_utf8_lossy(value).into()))
                    .collect();
                out.extend_from_slice(serde_json::Value::Object(object).to_string().as_bytes());
            }
        }
    }

    /// Keys in the order that bencode asks for, and their values.
    fn entries(&self) -> [Option<(&'static str, &[u8])>; 2] {
        match self {
            Self::Pong => [None, Some(("result", b"pong"))],
            Self::Sdp(sdp) => [Some(("result", b"ok")), Some(("sdp", sdp))],
            Self::Deleted { unknown: false } => [None, Some(("result", b"ok"))],
            Self::Deleted { unknown: true } => [
                Some(("result", b"ok")),
                Some(("warning", b"Call-ID not found")),
            ],
            Self::Error(reason) => [
                Some(("error-reason", reason.as_bytes())),
                Some(("result", b"error")),
            ],
        }
    }
}

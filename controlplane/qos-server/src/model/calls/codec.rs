//! What a payload type of a flow is, as SDP says it.

use crate::model::error::Error;

/// The most of a flow.
pub const MAX_CODECS: usize = 32;
/// How much of them a session may have, bytes of their messages.
pub const MAX_CODEC_BYTES: usize = 4_096;
const MAX_PAYLOAD_TYPE: u32 = 127;
const MAX_ENCODING: usize = 32;
const MAX_CLOCK_RATE: u32 = 1_000_000;
const MAX_PTIME_MS: u32 = 1_000;
const MAX_FMTP: usize = 256;

/// A codec, every field valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// 0 to 127.
    pub payload_type: u8,
    /// As in `a=rtpmap`.
    pub encoding: Box<str>,
    /// Of RTP's timestamps, Hz.
    pub clock_rate: u32,
    /// 0: not said.
    pub ptime_ms: u32,
    /// As in `a=fmtp`.
    pub fmtp: Box<str>,
}

impl Codec {
    /// Checks every field.
    pub fn parse(
        payload_type: u32,
        encoding: &str,
        clock_rate: u32,
        ptime_ms: u32,
        fmtp: &str,
    ) -> Result<Self, Error> {
        let printable = |text: &str| text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        let wrong = |field: &str, reason: String| Err(Error::invalid(field, reason));
        let payload_type = match u8::try_from(payload_type) {
            Ok(it) if u32::from(it) <= MAX_PAYLOAD_TYPE => it,
            _ => {
                let reason = format!("is {payload_type}; give 0 to {MAX_PAYLOAD_TYPE}");
                return wrong("payload_type", reason);
            }
        };
        if encoding.is_empty() || encoding.len() > MAX_ENCODING || !printable(encoding) {
            let shown: String = encoding.chars().take(MAX_ENCODING).collect();
            let reason =
                format!("is {shown:?}; give 1 to {MAX_ENCODING} printable ASCII characters");
            return wrong("encoding", reason);
        }
        if !(1..=MAX_CLOCK_RATE).contains(&clock_rate) {
            let reason = format!("is {clock_rate} Hz; give 1 to {MAX_CLOCK_RATE}");
            return wrong("clock_rate", reason);
        }
        if ptime_ms > MAX_PTIME_MS {
            let reason = format!("is {ptime_ms}; give 1 to {MAX_PTIME_MS}, or 0 if it is not said");
            return wrong("ptime_ms", reason);
        }
        text("fmtp", fmtp, MAX_FMTP)?;
        Ok(Self {
            payload_type,
            encoding: encoding.into(),
            clock_rate,
            ptime_ms,
            fmtp: fmtp.into(),
        })
    }
}

/// Checks that a text is short and has no control characters.
pub(crate) fn text(field: &str, text: &str, most: usize) -> Result<(), Error> {
    if text.len() > most {
        let reason = format!("has {} bytes; give at most {most}", text.len());
        return Err(Error::invalid(field, reason));
    }
    match text.chars().find(|it| it.is_control()) {
        Some(bad) => {
            let reason = format!("holds the control character {bad:?}; leave it out");
            Err(Error::invalid(field, reason))
        }
        None => Ok(()),
    }
}

//! What the server is asked for, as protocol messages.

use std::sync::Arc;

use prost::Message as _;
use voicelane_proto::v1;
use voicelane_types::codec::{Codec, with_clock_room};

use crate::{
    call::{Flow, Half, Rtcp, SessionId, Source},
    sdp::Format,
};

/// The least and the most that the server takes, bit/s.
const RATES: std::ops::RangeInclusive<u64> = 1_000..=400_000_000_000;

/// The longest correlation id that the server takes, bytes.
const MAX_CORRELATION_ID: usize = 256;

/// What the server takes of codecs: of a flow, and bytes of a session.
const MAX_CODECS: usize = 32;
const MAX_CODEC_BYTES: usize = 4_096;
const MAX_ENCODING: usize = 32;
const CLOCK_RATES: std::ops::RangeInclusive<u32> = 1..=1_000_000;
const MAX_PTIME_MS: u32 = 1_000;
const MAX_FMTP: usize = 256;

/// What a session has.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// Both sides are known.
    Flows(Arc<[Flow]>),
    /// Only one side's address is known.
    Halves(Arc<[Half]>),
}

/// What is the same in all of an agent's sessions.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) agent_id: String,
    pub(super) service_class: v1::ServiceClass,
}

impl Terms {
    pub(super) fn key(&self, id: &SessionId) -> v1::SessionKey {
        v1::SessionKey {
            agent_id: self.agent_id.clone(),
            session_id: id.as_str().to_owned(),
        }
    }

    /// What the server is asked for.
    pub(super) fn spec(
        &self,
        id: &SessionId,
        revision: u64,
        call_id: &[u8],
        content: &Content,
        lifetime_s: u32,
    ) -> v1::SessionSpec {
        v1::SessionSpec {
            key: Some(self.key(id)),
            revision,
            flows: content.flows(),
            service_class: self.service_class.into(),
            correlation_id: correlation_id(call_id),
            lifetime_s,
            priority: 0,
            may_preempt: false,
            preemptable: false,
            hold: content.is_held(),
        }
    }
}

impl Content {
    /// A call on hold may be silent.
    fn is_held(&self) -> bool {
        matches!(self, Self::Flows(flows) if flows.iter().all(|flow| flow.held))
    }

    fn flows(&self) -> Vec<v1::MediaFlow> {
        match self {
            Self::Flows(flows) => {
                let mut room = MAX_CODEC_BYTES;
                flows.iter().map(|of| flow(of, &mut room)).collect()
            }
            Self::Halves(halves) => halves.iter().flat_map(half).collect(),
        }
    }
}

/// `room`: how many bytes of codecs the session may have still.
fn flow(flow: &Flow, room: &mut usize) -> v1::MediaFlow {
    let (mode, ends) = match &flow.rtcp {
        Rtcp::NextPort => (v1::rtcp::Mode::NextPort, None),
        Rtcp::Mux => (v1::rtcp::Mode::Mux, None),
        Rtcp::None => (v1::rtcp::Mode::None, None),
        Rtcp::Explicit(ends) => (v1::rtcp::Mode::Explicit, Some(ends)),
    };
    let (source, latch) = match flow.source {
        Source::Fixed(source) => (Some(source.into()), None),
        Source::Learned { hint } => {
            let address = hint.map(|ip| ip.to_string()).unwrap_or_default();
            (None, Some(v1::Latch { address }))
        }
    };
    v1::MediaFlow {
        source,
        destination: Some(flow.destination.into()),
        max_bitrate_bps: rate(flow.rate_bps),
        rtcp: Some(v1::Rtcp {
            mode: mode.into(),
            source: ends.map(|ends| ends.source.into()),
            destination: ends.map(|ends| ends.destination.into()),
        }),
        latch,
        packet_time_us: packet_time(flow.packet_us),
        codecs: codecs(flow, room),
        ..v1::MediaFlow::default()
    }
}

/// What the side may send, and what it may be sent.
fn half(half: &Half) -> [v1::MediaFlow; 2] {
    let end = Some(v1::Endpoint::from(half.end));
    let flow = v1::MediaFlow {
        max_bitrate_bps: rate(half.rate_bps),
        ..v1::MediaFlow::default()
    };
    [
        v1::MediaFlow {
            source: end.clone(),
            ..flow.clone()
        },
        v1::MediaFlow {
            destination: end,
            ..flow
        },
    ]
}

/// What the server takes of a flow's payload types.
fn codecs(flow: &Flow, room: &mut usize) -> Vec<v1::Codec> {
    let mut codecs: Vec<v1::Codec> = Vec::new();
    for codec in flow.codecs.iter().filter_map(|of| codec(of, flow.ptime_ms)) {
        let is_known = codecs
            .iter()
            .any(|of| of.payload_type == codec.payload_type);
        let left = room.checked_sub(codec.encoded_len());
        if let (false, Some(left), ..MAX_CODECS) = (is_known, left, codecs.len()) {
            *room = left;
            codecs.push(codec);
        }
    }
    codecs
}

/// `None`: neither the SDP nor RFC 3551 says what it is, or it says so in a way that the server refuses.
fn codec(format: &Format, ptime_ms: u32) -> Option<v1::Codec> {
    let (encoding, clock_rate) = match &format.encoding {
        Some(encoding) => (&*encoding.name, encoding.clock_hz),
        None => {
            let codec = Codec::of_payload_type(format.payload_type)?;
            (codec.name, codec.clock_hz)
        }
    };
    let is_name = (1..=MAX_ENCODING).contains(&encoding.len())
        && encoding.bytes().all(|byte| byte.is_ascii_graphic());
    let is_valid = format.payload_type <= 127 && is_name && CLOCK_RATES.contains(&clock_rate);
    let fmtp = format.parameters.as_deref().unwrap_or_default();
    let fmtp = str::from_utf8(fmtp).unwrap_or_default();
    let is_short = fmtp.len() <= MAX_FMTP && !fmtp.contains(char::is_control);
    is_valid.then(|| v1::Codec {
        payload_type: format.payload_type.into(),
        encoding: encoding.to_owned(),
        clock_rate,
        ptime_ms: if ptime_ms <= MAX_PTIME_MS {
            ptime_ms
        } else {
            0
        },
        fmtp: if is_short { fmtp } else { "" }.to_owned(),
    })
}

/// As the server takes it: 1 ms to 1 s; 0: not told.
fn packet_time(us: u32) -> u32 {
    if us == 0 {
        0
    } else {
        us.clamp(1_000, 1_000_000)
    }
}

fn rate(bps: u64) -> u64 {
    with_clock_room(bps).clamp(*RATES.start(), *RATES.end())
}

/// A Call-ID as far as the server takes it: up to 256 bytes of it, what is no printable ASCII escaped.
fn correlation_id(call_id: &[u8]) -> String {
    let mut text = call_id.escape_ascii().to_string();
    text.truncate(MAX_CORRELATION_ID);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::Encoding;

    fn named(payload_type: u8, name: &str, clock_hz: u32, fmtp: &[u8]) -> Format {
        Format {
            payload_type,
            encoding: Some(Encoding {
                name: name.into(),
                clock_hz,
                channels: 1,
            }),
            parameters: Some(fmtp.into()),
        }
    }

    fn flow_with(codecs: impl IntoIterator<Item = Format>) -> Flow {
        Flow {
            source: Source::Fixed(([10, 1, 0, 5], 4_000).into()),
            destination: ([10, 2, 0, 7], 4_000).into(),
            rate_bps: 80_000,
            packet_us: 20_000,
            ptime_ms: 20,
            codecs: codecs.into_iter().collect(),
            rtcp: Rtcp::NextPort,
            kind: crate::sdp::Kind::Audio,
            held: false,
        }
    }

    #[test]
    fn what_the_server_would_refuse_of_codecs_is_left_out() {
        let plain = |payload_type| Format {
            payload_type,
            encoding: None,
            parameters: None,
        };
        let list = [
            named(96, "opus", 48_000, b"a=1"),
            named(96, "again", 8_000, b""),
            named(97, "", 8_000, b""),
            named(98, &"x".repeat(33), 8_000, b""),
            named(99, "x y", 8_000, b""),
            named(100, "clock", 0, b""),
            named(101, "clock", 1_000_001, b""),
            named(128, "type", 8_000, b""),
            named(102, "fmtp", 8_000, b"a\tb"),
            named(103, "fmtp", 8_000, b"\xff"),
            named(104, "fmtp", 8_000, &[b'a'; 257]),
            plain(18),
            plain(105),
        ];
        let made = codecs(&flow_with(list), &mut MAX_CODEC_BYTES.clone());
        let told: Vec<_> = made
            .iter()
            .map(|of| (of.payload_type, &*of.encoding, &*of.fmtp))
            .collect();
        let expected = [
            (96, "opus", "a=1"),
            (102, "fmtp", ""),
            (103, "fmtp", ""),
            (104, "fmtp", ""),
            (18, "G729", ""),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_session_has_no_more_codecs_than_the_server_takes() {
        let many = (0..60).map(|number| named(number, "x", 8_000, &[b'a'; 200]));
        let content = Content::Flows([flow_with(many.clone()), flow_with(many)].into());
        let flows = content.flows();
        let bytes: usize = flows
            .iter()
            .flat_map(|flow| &flow.codecs)
            .map(prost::Message::encoded_len)
            .sum();
        assert!(
            (MAX_CODEC_BYTES - 220..=MAX_CODEC_BYTES).contains(&bytes),
            "{bytes}"
        );
        let short = (0..60).map(|number| named(number, "x", 8_000, b""));
        let flow = codecs(&flow_with(short), &mut MAX_CODEC_BYTES.clone());
        assert_eq!(flow.len(), MAX_CODECS);
    }
}

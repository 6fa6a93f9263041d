//! What a stream may send, from what both sides said.
//!
//! A policer that is too low kills the call, one that is too high only costs admission: where the SDP
//! leaves a choice, the higher rate counts.

use serde::{Deserialize, Deserializer, de::Error as _};
use voicelane_types::{
    BitRate,
    codec::{Codec, IPV4_HEADERS, IPV6_HEADERS, rate_bps},
};

use crate::{
    sdp::{Format, Kind, Stream, Transport},
    text::{number, split_once},
};

/// The longest packet that is reckoned with, ms: whoever asks for more may still send these.
const PACKET_MS: u32 = 20;
/// RTP header extensions, as they are in WebRTC, bytes a packet.
const EXTENSIONS: u32 = 12;
/// RTP's own header, which what is not RTP does not have, bytes.
const RTP_HEADER: u32 = 12;
/// How large packets of video are reckoned with, bytes. Smaller ones have more headers.
const VIDEO_PACKET: u64 = 1_000;
/// The least packets a second of what has no packet time.
const MIN_PACKETS: u64 = 50;
/// No stream has more, bit/s.
const MAX_BPS: u64 = 400_000_000_000;

/// Rates of what SDP does not tell, bit/s.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Configured {
    /// Opus without `maxaveragebitrate`, without headers.
    #[serde(rename = "opus", deserialize_with = "typed")]
    pub opus_bps: u64,
    /// Video without `b=`, IP headers included.
    #[serde(rename = "video", deserialize_with = "typed")]
    pub video_bps: u64,
    /// Audio of an unknown codec, fax and all else without `b=`, IP headers included.
    #[serde(rename = "other", deserialize_with = "typed")]
    pub other_bps: u64,
}

/// A rate as people write it.
fn typed<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let rate = String::deserialize(from)?.parse::<BitRate>();
    rate.map(BitRate::bps).map_err(D::Error::custom)
}

impl Default for Configured {
    fn default() -> Self {
        Self {
            opus_bps: 64_000,
            video_bps: 2_000_000,
            other_bps: 80_000,
        }
    }
}

/// What a stream sends at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Bit/s of IP packets.
    pub bps: u64,
    /// The shortest time from a packet to the next; 0: SDP does not tell.
    pub packet_us: u32,
}

/// What `sender` may send to `receiver`, bit/s of IP packets: the highest of the codecs that the
/// receiver accepts and the sender has.
pub fn bps(sender: &Stream, receiver: &Stream, ipv6: bool, configured: &Configured) -> u64 {
    terms(sender, receiver, ipv6, configured).bps
}

/// As [`bps`], with the packet time.
pub fn terms(sender: &Stream, receiver: &Stream, ipv6: bool, configured: &Configured) -> Terms {
    let packets = Packets::new(sender, receiver, ipv6);
    let common = |format: &&Format| {
        let meaning = Meaning::of(format, sender);
        let has = |other: &Format| Meaning::of(other, receiver).is_same(&meaning);
        sender.formats.iter().any(has)
    };
    let red = receiver
        .formats
        .iter()
        .filter(common)
        .find(|format| matches!(Meaning::of(format, sender), Meaning::Red));
    let of_format = |format: &Format| {
        let payload = match Meaning::of(format, sender) {
            Meaning::Codec(codec) => payload(codec, format, packets.wanted_ms),
            Meaning::Opus => opus(format, packets.wanted_ms, configured),
            Meaning::Red | Meaning::Event => return None,
            Meaning::Unknown { .. } => {
                return Some(Terms {
                    bps: by_bandwidth(receiver, &packets, configured),
                    packet_us: 0,
                });
            }
        };
        let copies = red.map_or(1, |red| copies(red, format.payload_type));
        let bytes = u64::from(payload.bytes) * copies + u64::from(packets.overhead);
        Some(Terms {
            bps: rate_bps(bytes, payload.packet_us),
            packet_us: payload.packet_us,
        })
    };
    let most = |all: Terms, one: Terms| Terms {
        bps: all.bps.max(one.bps),
        packet_us: match (all.packet_us, one.packet_us) {
            (0, known) | (known, 0) => known,
            (a, b) => a.min(b),
        },
    };
    let formats = || receiver.formats.iter();
    let terms = formats()
        .filter(common)
        .filter_map(of_format)
        .reduce(most)
        // No codec in common: the sender has some other name for what the receiver accepts.
        .or_else(|| formats().filter_map(of_format).reduce(most))
        .unwrap_or_else(|| Terms {
            bps: by_bandwidth(receiver, &packets, configured),
            packet_us: 0,
        });
    Terms {
        bps: terms.bps.min(MAX_BPS),
        ..terms
    }
}

/// Whether `stream` has the same codec under the same number as `format`, which is of `peer`.
pub(crate) fn has_alike(stream: &Stream, format: &Format, peer: &Stream) -> bool {
    let meaning = Meaning::of(format, stream);
    let is_alike = |of: &Format| {
        of.payload_type == format.payload_type && Meaning::of(of, peer).is_same(&meaning)
    };
    stream.formats.iter().any(is_alike)
}

/// What may be sent to whoever offered `stream`, before it is answered.
pub fn offered_bps(stream: &Stream, ipv6: bool, configured: &Configured) -> u64 {
    bps(stream, stream, ipv6, configured)
}

/// Video, or what is not known here: `b=TIAS` and headers, else `b=AS`, else as configured.
fn by_bandwidth(receiver: &Stream, packets: &Packets, configured: &Configured) -> u64 {
    let bandwidth = receiver.bandwidth;
    if let Some(tias_bps) = bandwidth.tias_bps {
        let a_second = match (receiver.maxprate, receiver.kind) {
            (Some(rate), _) => u64::from(rate),
            (None, Kind::Audio) => 1_000_u64.div_ceil(packets.wanted_ms.into()),
            (None, _) => tias_bps.div_ceil(8 * VIDEO_PACKET).max(MIN_PACKETS),
        };
        return tias_bps.saturating_add(a_second.saturating_mul(8 * u64::from(packets.overhead)));
    }
    if let Some(as_kbps) = bandwidth.as_kbps {
        return u64::from(as_kbps) * 1_000;
    }
    match receiver.kind {
        Kind::Video => configured.video_bps,
        _ => configured.other_bps,
    }
}

/// What all packets of one direction have in common.
struct Packets {
    /// All but the payload, bytes.
    overhead: u32,
    /// The packet time that a codec may shorten to whole frames, or lengthen to one.
    wanted_ms: u32,
}

impl Packets {
    fn new(sender: &Stream, receiver: &Stream, ipv6: bool) -> Self {
        let headers = if ipv6 { IPV6_HEADERS } else { IPV4_HEADERS };
        let overhead = match receiver.transport {
            Transport::Rtp | Transport::Srtp => {
                let extensions = if sender.extmap && receiver.extmap {
                    EXTENSIONS
                } else {
                    0
                };
                headers + srtp(sender, receiver) + extensions
            }
            Transport::Udp | Transport::Other => headers - RTP_HEADER,
        };
        let wanted_ms = [sender, receiver]
            .into_iter()
            .flat_map(|side| [side.ptime_ms, side.maxptime_ms])
            .flatten()
            .fold(PACKET_MS, u32::min);
        Self {
            overhead,
            wanted_ms,
        }
    }
}

/// What SRTP adds to a packet, bytes.
fn srtp(sender: &Stream, receiver: &Stream) -> u32 {
    const DTLS: u32 = 16;
    // RFC 3711's default.
    const UNNAMED: u32 = 10;

    let has = |stream: &Stream, suite: &str| stream.crypto.iter().any(|of| *of.suite == *suite);
    let must = sender.transport == Transport::Srtp || receiver.transport == Transport::Srtp;
    let agreed = |suite: &str| has(sender, suite) && has(receiver, suite);
    let any_agreed = sender.crypto.iter().any(|of| agreed(&of.suite));
    let by_keys = sender
        .crypto
        .iter()
        .chain(&receiver.crypto)
        .filter(|of| (must && !any_agreed) || agreed(&of.suite))
        .map(|of| suite_bytes(&of.suite) + u32::from(of.mki_bytes))
        .max();
    let by_dtls = if must {
        sender.fingerprint || receiver.fingerprint
    } else {
        sender.fingerprint && receiver.fingerprint
    };
    match by_keys.max(by_dtls.then_some(DTLS)) {
        Some(bytes) => bytes,
        None if must => UNNAMED,
        None => 0,
    }
}

/// The authentication tag of a suite (RFC 4568, 6188, 7714), bytes.
fn suite_bytes(suite: &str) -> u32 {
    if suite.ends_with("NULL_AUTH") {
        0
    } else if suite.ends_with("_32") {
        4
    } else if suite.ends_with("_80") {
        10
    } else {
        16
    }
}

/// What a payload type stands for.
enum Meaning<'a> {
    Codec(&'static Codec),
    Opus,
    /// RFC 2198: a packet holds earlier ones again.
    Red,
    /// Keys, comfort noise: less than any codec beside it.
    Event,
    Unknown {
        name: &'a str,
        payload_type: u8,
    },
}

impl<'a> Meaning<'a> {
    /// By the format's own `a=rtpmap`, else by RFC 3551, else by the other side's.
    fn of(format: &'a Format, peer: &'a Stream) -> Self {
        let payload_type = format.payload_type;
        let theirs = || {
            let alike = |of: &&Format| of.payload_type == payload_type;
            peer.formats.iter().find(alike)?.encoding.as_ref()
        };
        let Some(encoding) = format.encoding.as_ref() else {
            return match (payload_type, Codec::of_payload_type(payload_type)) {
                (13 | 19, _) => Self::Event,
                (_, Some(codec)) => Self::Codec(codec),
                (96.., None) => theirs().map_or(
                    Self::Unknown {
                        name: "",
                        payload_type,
                    },
                    Self::named,
                ),
                (_, None) => Self::Unknown {
                    name: "",
                    payload_type,
                },
            };
        };
        Self::named(encoding)
    }

    fn named(encoding: &'a crate::sdp::Encoding) -> Self {
        let name = &*encoding.name;
        let is = |other| name.eq_ignore_ascii_case(other);
        if is("opus") {
            Self::Opus
        } else if is("red") {
            Self::Red
        } else if is("telephone-event") || is("CN") || is("tone") {
            Self::Event
        } else {
            Codec::named(name, encoding.clock_hz, encoding.channels).map_or(
                Self::Unknown {
                    name,
                    payload_type: 0,
                },
                Self::Codec,
            )
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Codec(a), Self::Codec(b)) => a == b,
            (Self::Opus, Self::Opus) | (Self::Red, Self::Red) | (Self::Event, Self::Event) => true,
            (
                Self::Unknown { name, payload_type },
                Self::Unknown {
                    name: other_name,
                    payload_type: other_type,
                },
            ) => name.eq_ignore_ascii_case(other_name) && payload_type == other_type,
            _ => false,
        }
    }
}

struct Payload {
    bytes: u32,
    packet_us: u32,
}

fn payload(codec: &Codec, format: &Format, wanted_ms: u32) -> Payload {
    let parameter = |name: &str| parameter(format, name);
    let mut codec = *codec;
    match codec.name {
        // RFC 3952 section 5: 20 ms only if it is said.
        "iLBC" if parameter("mode").and_then(number::<u32>) != Some(20) => {
            codec.frame_us = 30_000;
            codec.frame_bytes = 50;
        }
        "AMR" => {
            const MODES: &[u32] = &[95, 103, 118, 134, 148, 159, 204, 244];
            let bits = highest_mode(MODES, parameter("mode-set"));
            codec.frame_bytes = bits.div_ceil(8) + 2;
        }
        "AMR-WB" => {
            const MODES: &[u32] = &[132, 177, 253, 285, 317, 365, 397, 461, 477];
            let bits = highest_mode(MODES, parameter("mode-set"));
            // RFC 4867 sections 4.3 and 4.4: 10 bits before the frame, or whole bytes.
            codec.frame_bytes = if parameter("octet-align") == Some(b"1") {
                bits.div_ceil(8) + 2
            } else {
                (bits + 10).div_ceil(8)
            };
        }
        _ => {}
    }
    let packet_us = codec.packet_us(wanted_ms * 1_000);
    Payload {
        bytes: codec.payload_bytes(packet_us),
        packet_us,
    }
}

/// The bits of the highest mode in `mode-set`, or of the highest there is.
fn highest_mode(modes: &[u32], mode_set: Option<&[u8]>) -> u32 {
    let highest = modes.last().copied().unwrap_or_default();
    mode_set
        .into_iter()
        .flat_map(|set| set.split(|&byte| byte == b','))
        .filter_map(|mode| number::<usize>(mode.trim_ascii()))
        .filter_map(|mode| modes.get(mode).copied())
        .max()
        .unwrap_or(highest)
}

/// RFC 7587 section 6.1: the receiver says what it accepts.
fn opus(format: &Format, wanted_ms: u32, configured: &Configured) -> Payload {
    let average_bps = parameter(format, "maxaveragebitrate")
        .and_then(number::<u64>)
        .map_or(configured.opus_bps, |bps| bps.clamp(6_000, 510_000));
    let bytes = (average_bps * u64::from(wanted_ms)).div_ceil(8_000);
    Payload {
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        packet_us: wanted_ms * 1_000,
    }
}

/// How often a packet holds a frame of this payload type: `a=fmtp:<red> 111/111` is twice.
fn copies(red: &Format, payload_type: u8) -> u64 {
    let Some(types) = red.parameters.as_deref() else {
        return 2;
    };
    let types = || types.split(|&byte| byte == b'/');
    if types().any(|of| number(of.trim_ascii()) == Some(payload_type)) {
        types().count() as u64
    } else {
        1
    }
}

/// A parameter of `a=fmtp`.
fn parameter<'a>(format: &'a Format, name: &str) -> Option<&'a [u8]> {
    format
        .parameters
        .as_deref()?
        .split(|&byte| byte == b';')
        .filter_map(|pair| split_once(pair, b'='))
        .find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests;

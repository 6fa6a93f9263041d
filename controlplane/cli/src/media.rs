//! Codecs, rates and the ends of flows.

use std::{fmt, net::SocketAddr, str::FromStr};

use clap::ValueEnum;
use voicelane_proto::v1;
use voicelane_types::codec::{self, IPV4_HEADERS, IPV6_HEADERS};

use crate::{
    args::{Media, RtcpMode},
    client::Failure,
};

/// Packet time where a call names none, in microseconds.
const PACKET_US: u32 = 20_000;
/// What SRTP's tag adds to a packet (AES_CM_128_HMAC_SHA1_80), bytes.
const SRTP_TAG: u32 = 10;

/// Codecs with a fixed rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    /// 80.8 kbit/s over IPv4.
    G711,
    /// 80.8 kbit/s over IPv4.
    G722,
    /// 24.24 kbit/s over IPv4.
    G729,
    /// 40.4 kbit/s over IPv4.
    #[value(name = "opus-24k")]
    Opus24k,
    /// 48.48 kbit/s over IPv4.
    #[value(name = "opus-32k")]
    Opus32k,
    /// 40.804 kbit/s over IPv4, its highest mode (23.85).
    AmrWb,
}

impl Codec {
    /// Bytes of a packet behind its headers, and the packet time, at most as asked for but a whole frame.
    fn payload(self, packet_us: u32) -> (u32, u32) {
        let of = |codec: &codec::Codec| {
            let packet_us = codec.packet_us(packet_us);
            (codec.payload_bytes(packet_us), packet_us)
        };
        match self {
            Self::G711 => of(&codec::PCMA),
            Self::G722 => of(&codec::G722),
            Self::G729 => of(&codec::G729),
            Self::AmrWb => of(&codec::AMR_WB),
            Self::Opus24k => (60 * packet_us / PACKET_US, packet_us),
            Self::Opus32k => (80 * packet_us / PACKET_US, packet_us),
        }
    }

    /// Bit/s at the IP layer, with room for a fast clock.
    pub(crate) fn rate_bps(self, packet_us: u32, ipv6: bool, srtp: bool) -> u64 {
        let headers = if ipv6 { IPV6_HEADERS } else { IPV4_HEADERS };
        let (payload, packet_us) = self.payload(packet_us);
        let bytes = payload + headers + if srtp { SRTP_TAG } else { 0 };
        codec::with_clock_room(codec::rate_bps(bytes.into(), packet_us))
    }
}

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End(SocketAddr);

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.trim().parse().map(Self).map_err(|_| {
            format!("{text:?} is no address and port like 10.1.0.5:4000 or [2001:db8::5]:4000")
        })
    }
}

/// One direction of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Absent: not known yet, or to be learned.
    pub(crate) source: Option<End>,
    /// Absent: not known yet.
    pub(crate) destination: Option<End>,
}

impl FromStr for Flow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (source, destination) = text
            .split_once("->")
            .or_else(|| text.split_once(','))
            .ok_or_else(|| {
                format!("{text:?} is no flow; write 'SOURCE:PORT->DESTINATION:PORT', in quotes")
            })?;
        let end = |text: &str| match text.trim() {
            "" => Ok(None),
            end => end.parse().map(Some),
        };
        let (source, destination) = (end(source)?, end(destination)?);
        if source.is_none() && destination.is_none() {
            return Err(format!("{text:?} has neither source nor destination"));
        }
        Ok(Self {
            source,
            destination,
        })
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |end: Option<End>| end.map_or_else(String::new, |end| end.0.to_string());
        write!(f, "{}->{}", end(self.source), end(self.destination))
    }
}

/// The session that the options describe.
pub(crate) fn spec(
    key: v1::SessionKey,
    revision: u64,
    media: &Media,
) -> Result<v1::SessionSpec, Failure> {
    let meter = media.meter.message().map_err(Failure::Usage)?;
    let mode = match media.rtcp {
        RtcpMode::Next => v1::rtcp::Mode::NextPort,
        RtcpMode::Mux => v1::rtcp::Mode::Mux,
        RtcpMode::None => v1::rtcp::Mode::None,
    };
    let flow = |flow: &Flow| v1::MediaFlow {
        source: flow.source.map(|end| end.0.into()),
        destination: flow.destination.map(|end| end.0.into()),
        max_bitrate_bps: match (meter, media.rate) {
            (Some(_), _) => 0,
            (None, Some(rate)) => rate.bps(),
            (None, None) => {
                let is_ipv6 = flow
                    .source
                    .or(flow.destination)
                    .is_some_and(|end| end.0.is_ipv6());
                let packet_us = media.packet_time.unwrap_or(PACKET_US);
                media.codec.rate_bps(packet_us, is_ipv6, media.srtp)
            }
        },
        max_burst_bytes: media.burst,
        rtcp: Some(v1::Rtcp {
            mode: mode.into(),
            source: None,
            destination: None,
        }),
        meter,
        packet_time_us: media.packet_time.unwrap_or(0),
        latch: match (&media.latch, flow.source) {
            (Some(address), None) => Some(v1::Latch {
                address: address.map(|it| it.to_string()).unwrap_or_default(),
            }),
            _ => None,
        },
        ..v1::MediaFlow::default()
    };
    let flows = media.ends.all();
    if media.latch.is_some() && flows.iter().all(|flow| flow.source.is_some()) {
        let reason = "--latch: every flow has a source; give one as '->DESTINATION:PORT'";
        return Err(Failure::Usage(reason.to_owned()));
    }
    Ok(v1::SessionSpec {
        key: Some(key),
        revision,
        flows: flows.iter().map(flow).collect(),
        service_class: v1::ServiceClass::from(media.class).into(),
        correlation_id: media.correlation_id.clone(),
        lifetime_s: media.lifetime,
        priority: media.priority,
        may_preempt: media.may_preempt,
        preemptable: media.preemptable,
        hold: media.hold,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_have_the_rates_of_the_field_and_one_percent() {
        for (codec, ipv6, srtp, bps) in [
            (Codec::G711, false, false, 80_800),
            (Codec::G722, true, false, 88_880),
            (Codec::G711, false, true, 84_840),
            (Codec::G711, true, true, 92_920),
            (Codec::G729, false, false, 24_240),
            (Codec::Opus24k, false, false, 40_400),
            (Codec::Opus32k, false, false, 48_480),
            (Codec::AmrWb, false, false, 40_804),
        ] {
            assert_eq!(codec.rate_bps(PACKET_US, ipv6, srtp), bps, "{codec:?}");
        }
        // Headers come twice as often; a frame of 20 ms cannot.
        assert_eq!(Codec::G711.rate_bps(10_000, false, false), 96_960);
        assert_eq!(Codec::AmrWb.rate_bps(10_000, false, false), 40_804);
    }

    #[test]
    fn flows_are_read() {
        for text in [
            "10.0.0.1:1->10.0.0.2:2",
            "10.0.0.1:1 -> 10.0.0.2:2",
            "10.0.0.1:1,10.0.0.2:2",
        ] {
            assert_eq!(
                text.parse::<Flow>().unwrap().to_string(),
                "10.0.0.1:1->10.0.0.2:2"
            );
        }
        assert!("[2001:db8::1]:1->[2001:db8::2]:2".parse::<Flow>().is_ok());
        assert!("10.0.0.1:1".parse::<Flow>().is_err());
        for half in ["10.0.0.1:1->", "->10.0.0.2:2"] {
            assert_eq!(half.parse::<Flow>().unwrap().to_string(), half);
        }
        assert!("->".parse::<Flow>().is_err());
        assert!("10.0.0.1:70000->10.0.0.2:2".parse::<Flow>().is_err());
    }
}

//! What the server is asked for, as protocol messages.

use std::{net::SocketAddr, sync::Arc};

use voicelane_proto::v1;
use voicelane_types::codec::with_clock_room;

use crate::call::{Flow, Half, Rtcp, SessionId, Source};

/// The least and the most that the server takes, bit/s.
const RATES: std::ops::RangeInclusive<u64> = 1_000..=400_000_000_000;

/// The longest correlation id that the server takes, bytes.
const MAX_CORRELATION_ID: usize = 256;

/// What a session has.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    /// Both sides are known.
    Flows(Arc<[Flow]>),
    /// One side is.
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
        }
    }
}

impl Content {
    fn flows(&self) -> Vec<v1::MediaFlow> {
        match self {
            Self::Flows(flows) => flows.iter().map(flow).collect(),
            Self::Halves(halves) => halves.iter().flat_map(half).collect(),
        }
    }

    /// Whether there is anything that the server takes.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Flows(flows) => flows.is_empty(),
            Self::Halves(halves) => halves.is_empty(),
        }
    }
}

fn flow(flow: &Flow) -> v1::MediaFlow {
    let (mode, ends) = match &flow.rtcp {
        Rtcp::NextPort => (v1::rtcp::Mode::NextPort, None),
        Rtcp::Mux => (v1::rtcp::Mode::Mux, None),
        Rtcp::None => (v1::rtcp::Mode::None, None),
        Rtcp::Explicit(ends) => (v1::rtcp::Mode::Explicit, Some(ends)),
    };
    let (source, latch) = match flow.source {
        Source::Fixed(source) => (Some(endpoint(source)), None),
        Source::Learned { hint } => {
            let address = hint.map(|ip| ip.to_string()).unwrap_or_default();
            (None, Some(v1::Latch { address }))
        }
    };
    v1::MediaFlow {
        source,
        destination: Some(endpoint(flow.destination)),
        max_bitrate_bps: rate(flow.rate_bps),
        rtcp: Some(v1::Rtcp {
            mode: mode.into(),
            source: ends.as_ref().map(|ends| endpoint(ends.source)),
            destination: ends.as_ref().map(|ends| endpoint(ends.destination)),
        }),
        latch,
        packet_time_us: packet_time(flow.packet_us),
        ..v1::MediaFlow::default()
    }
}

/// What the side may send, and what it may be sent.
fn half(half: &Half) -> [v1::MediaFlow; 2] {
    let end = Some(endpoint(half.end));
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

fn endpoint(address: SocketAddr) -> v1::Endpoint {
    v1::Endpoint {
        address: address.ip().to_string(),
        port: address.port().into(),
    }
}

/// A Call-ID as far as the server takes it: up to 256 bytes of it, what is no printable ASCII escaped.
fn correlation_id(call_id: &[u8]) -> String {
    let mut text = call_id.escape_ascii().to_string();
    text.truncate(MAX_CORRELATION_ID);
    text
}

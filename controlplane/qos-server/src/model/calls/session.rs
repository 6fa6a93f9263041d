//! What an agent asks for: a session of one-way media flows.

use std::{net::SocketAddr, time::Duration};

use voicelane_proto::limits::MAX_BURST_BYTES;
use voicelane_types::BitRate;
pub use voicelane_types::{Dscp, ServiceClass};

use super::{codec::Codec, course::Course, entries::FlowKind, meter::Meter};
use crate::model::{
    error::Error,
    ids::{Revision, SessionKey},
};

/// The most flows of a session.
pub const MAX_FLOWS: usize = 32;
/// The least rate of a flow, bit/s at the IP layer.
pub const MIN_RATE_BPS: u64 = 1_000;
/// The most, bit/s: more than any port that carries it.
pub const MAX_RATE_BPS: u64 = 400_000_000_000;
/// The least burst that an agent may ask for: one packet of Ethernet's usual MTU. Less would let
/// large packets never pass.
pub const MIN_BURST_BYTES: u32 = 1_500;

/// The longest `correlation_id`, bytes.
pub const MAX_CORRELATION_ID: usize = 256;
/// The longest lease, seconds.
pub const MAX_LIFETIME_S: u32 = 86_400;
/// The packet times that a flow may have, in microseconds.
pub const PACKET_TIMES_US: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;
/// The packet time of a flow that does not say.
pub const DEFAULT_PACKET_TIME_US: u32 = 20_000;

/// A session as asked for, every field valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSpec {
    /// Its name.
    pub key: SessionKey,
    /// Its version.
    pub revision: Revision,
    /// 1 to 32.
    pub flows: Vec<MediaFlow>,
    /// The treatment that it asks for.
    pub class: ServiceClass,
    /// What the call is called elsewhere; empty: not said.
    pub correlation_id: Box<str>,
    /// For how many seconds it is good; 0: until it is deleted.
    pub lifetime_s: u32,
    /// How important it is.
    pub priority: Priority,
    /// It may take the place of less important sessions where a link has no room for it.
    pub may_preempt: bool,
    /// More important sessions may take its place.
    pub preemptable: bool,
    /// The call is on hold: it may be without packets for longer.
    pub hold: bool,
}

impl SessionSpec {
    /// One that says no more than it must.
    pub fn new(
        key: SessionKey,
        revision: Revision,
        flows: Vec<MediaFlow>,
        class: ServiceClass,
    ) -> Self {
        Self {
            key,
            revision,
            flows,
            class,
            correlation_id: Box::default(),
            lifetime_s: 0,
            priority: Priority::default(),
            may_preempt: false,
            preemptable: false,
            hold: false,
        }
    }

    /// Whether a flow of it is half-open, so that it is not more than a reservation.
    pub fn is_reserved(&self) -> bool {
        let mut flows = self.flows.iter();
        flows.any(|flow| matches!(flow.course, Course::Half(..)))
    }

    /// How long its lease is, if it has one.
    pub fn lease(&self) -> Option<Duration> {
        (self.lifetime_s > 0).then(|| Duration::from_secs(self.lifetime_s.into()))
    }

    /// What still holds for a later version of the session of what was learned for this one: what is
    /// of flows that latch as they did.
    pub fn still_learned(&self, later: &Self, learned: &[Learned]) -> Box<[Learned]> {
        if learned.is_empty() {
            return Box::default();
        }
        let of = |(index, flow): (usize, &MediaFlow)| {
            [FlowKind::Rtp, FlowKind::Rtcp].map(|kind| {
                let course = flow.course_of(kind)?;
                let before = learned.iter().find(|it| {
                    let old = self.flows.get(it.flow);
                    it.kind == kind && old.and_then(|old| old.course_of(kind)) == Some(course)
                })?;
                matches!(course, Course::Latching(_)).then_some(Learned {
                    flow: index,
                    ..*before
                })
            })
        };
        let flows = later.flows.iter().enumerate();
        flows.flat_map(of).flatten().collect()
    }
}

/// One direction of one medium, over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaFlow {
    /// Where its packets come from and go to.
    pub course: Course,
    /// How much it may send.
    pub terms: Terms,
    /// Where its RTCP goes.
    pub rtcp: Rtcp,
    /// What its payload types are.
    pub codecs: Box<[Codec]>,
    /// From a packet to the next, microseconds; 0: not said.
    pub packet_time_us: u32,
}

impl MediaFlow {
    /// One that says no more than it must.
    pub fn new(course: impl Into<Course>, terms: Terms, rtcp: Rtcp) -> Self {
        Self {
            course: course.into(),
            terms,
            rtcp,
            codecs: Box::default(),
            packet_time_us: 0,
        }
    }

    /// Where its RTP goes, or its RTCP if that has a course of its own.
    pub fn course_of(&self, kind: FlowKind) -> Option<Course> {
        match (kind, &self.rtcp) {
            (FlowKind::Rtp, _) => Some(self.course),
            (FlowKind::Rtcp, Rtcp::NextPort) => self.course.next_ports(),
            (FlowKind::Rtcp, Rtcp::Explicit(course)) => Some(**course),
            (FlowKind::Rtcp, Rtcp::Mux | Rtcp::None) => None,
        }
    }
}

/// The source that a latching flow has learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Index in [`SessionSpec::flows`].
    pub flow: usize,
    /// Of its RTP or its RTCP.
    pub kind: FlowKind,
    /// Where the packets come from.
    pub source: SocketAddr,
}

/// How important a session is: 1, the most, to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    /// The least important that may use a link's reserve.
    const LAST_EMERGENCY: u8 = 2;
    /// The least important.
    const LAST: u8 = 15;

    /// 0 is the default; `field` is where it came from.
    pub fn parse(field: &str, value: u32) -> Result<Self, Error> {
        match u8::try_from(value) {
            Ok(0) => Ok(Self::default()),
            Ok(value @ 1..=Self::LAST) => Ok(Self(value)),
            _ => Err(Error::invalid(
                field,
                format!("is {value}; give 1 to {}, or 0 for 10", Self::LAST),
            )),
        }
    }

    /// The priority, 1 (highest) to 15.
    pub fn get(self) -> u8 {
        self.0
    }

    /// Whether it may use a link's reserve.
    pub fn is_emergency(self) -> bool {
        self.0 <= Self::LAST_EMERGENCY
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(10)
    }
}

/// How much a flow may send, and what becomes of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// One rate; the rest is dropped.
    Policer {
        /// The most that it may send.
        rate: RateBps,
        /// The most that may come at once; absent: from the rate.
        burst: Option<BurstBytes>,
    },
    /// Each packet is marked with its colour.
    Meter(Meter),
}

/// Bit/s at the IP layer, within the bounds of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RateBps(BitRate);

impl RateBps {
    /// Checks the bounds; `field` is where it came from.
    pub fn parse(field: &str, value: u64) -> Result<Self, Error> {
        BitRate::from_bps(value)
            .ok()
            .filter(|_| (MIN_RATE_BPS..=MAX_RATE_BPS).contains(&value))
            .map(Self)
            .ok_or_else(|| {
                let reason = format!("is {value} bit/s; give {MIN_RATE_BPS} to {MAX_RATE_BPS}");
                Error::invalid(field, reason)
            })
    }

    /// As a rate without these bounds.
    pub fn rate(self) -> BitRate {
        self.0
    }

    /// As a number.
    pub fn get(self) -> u64 {
        self.0.bps()
    }
}

/// Bytes at the IP layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BurstBytes(u32);

impl BurstBytes {
    /// 0 is absent: the burst follows from the rate.
    pub fn parse(field: &str, value: u32) -> Result<Option<Self>, Error> {
        match value {
            0 => Ok(None),
            1..MIN_BURST_BYTES => Err(Error::invalid(
                field,
                format!(
                    "is {value} bytes, less than a full packet; give at least {MIN_BURST_BYTES}, \
                     or 0 for 200 ms of the rate"
                ),
            )),
            _ if value > MAX_BURST_BYTES => Err(Error::invalid(
                field,
                format!(
                    "is {value} bytes, more than routers count; give at most {MAX_BURST_BYTES}"
                ),
            )),
            _ => Ok(Some(Self(value))),
        }
    }

    /// As a number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Where a flow's RTCP goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rtcp {
    /// The ports after RTP's (RFC 3550 section 11). The course was checked to have them.
    NextPort,
    /// RTP's own ports (RFC 5761).
    Mux,
    /// Elsewhere (RFC 3605).
    Explicit(Box<Course>),
    /// Nowhere.
    None,
}

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Sent to routers, not all have acknowledged.
    Installing,
    /// Every router has it.
    Active,
    /// Every router has what is known, and a flow is half-open.
    Reserved,
    /// A router of it is away or lacks it, or nobody reaches an address of it any more.
    Degraded,
    /// Being taken away.
    Removing,
}

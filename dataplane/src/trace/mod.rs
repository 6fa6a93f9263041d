//! Tracing: what each stage did with some packets, written down while they pass.
//!
//! The control side makes a [`Tracer`] with room for so many records and lends it to a worker, which fills
//! it and gives it back for the next one. Which packets of a burst are traced is decided after `classify`;
//! what became of each is written once, at `queue`, out of the burst's columns, and at `schedule` how it left its
//! queue, where that is the same worker's.

mod queued;

use std::net::SocketAddr;

use arrayvec::ArrayVec;

pub(crate) use queued::Lengths;
use queued::Waiting;

use crate::{
    diffserv::{Dscp, Phb},
    policy::RuleIndex,
    session::FiveTuple,
    stats::{DropReason, PuntReason},
    units::{InterfaceIndex, MacAddress, PortIndex, Ticks, VlanId},
};

/// How many bytes of a frame a record has.
pub const TRACED_BYTES: usize = 256;

/// The most records of a tracer.
pub const MAX_RECORDS: usize = 1_000;

/// Which packets are traced: those to which all of it applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// Of one of these flows; empty: any packet. Fragments without ports are a session's or none's.
    pub flows: Vec<FlowFilter>,
    /// Without a session, and [near](FiveTuple::is_near) one of these flows; empty: any packet. Of a full burst
    /// only every eighth packet is looked at, so that a search costs little where there are most.
    pub near: Vec<FiveTuple>,
    /// That came in on this interface.
    pub interface: Option<InterfaceIndex>,
    /// That are dropped, or refused to the kernel.
    pub drops_only: bool,
}

/// Flows with these ends, of any protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowFilter {
    /// Where packets come from; `None`: anywhere.
    pub source: Option<SocketAddr>,
    /// Where packets go.
    pub destination: SocketAddr,
}

impl FlowFilter {
    pub(crate) fn takes(&self, flow: &FiveTuple) -> bool {
        self.source.is_none_or(|source| source == flow.source)
            && self.destination == flow.destination
    }
}

/// What a packet's headers said as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedHeader {
    /// Addresses, protocol, and ports; these are 0 where there are none.
    pub flow: FiveTuple,
    /// Whether it shows ports. A fragment other than the first shows none.
    pub has_ports: bool,
    /// Its code point before anything changed it.
    pub dscp: Dscp,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The IP packet's length.
    pub ip_bytes: u16,
}

/// The neighbour that a packet goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedExit {
    /// The port that it leaves by.
    pub port: PortIndex,
    /// The VLAN whose tag it gets; `None`: untagged.
    pub vlan: Option<VlanId>,
    /// The destination of its Ethernet header.
    pub neighbour: MacAddress,
}

/// A stage of a packet's way, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(
    missing_docs,
    reason = "the crate's module `pipeline` says what each does"
)]
pub enum Stage {
    Rx,
    Parse,
    Classify,
    Verify,
    Measure,
    Police,
    Mark,
    Route,
    Queue,
    Schedule,
}

impl Stage {
    /// All, in the order of the packet's way.
    pub const ALL: [Self; 10] = [
        Self::Rx,
        Self::Parse,
        Self::Classify,
        Self::Verify,
        Self::Measure,
        Self::Police,
        Self::Mark,
        Self::Route,
        Self::Queue,
        Self::Schedule,
    ];

    /// As it is called in the packet's way.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rx => "rx",
            Self::Parse => "parse",
            Self::Classify => "classify",
            Self::Verify => "verify",
            Self::Measure => "measure",
            Self::Police => "police",
            Self::Mark => "mark",
            Self::Route => "route",
            Self::Queue => "queue",
            Self::Schedule => "schedule",
        }
    }
}

impl DropReason {
    /// The stage that finds it.
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::Runt
            | Self::Segmented
            | Self::NotForUs
            | Self::UnknownVlan
            | Self::DoubleTagged
            | Self::Ipv4Truncated
            | Self::Ipv4Checksum
            | Self::Ipv4Version
            | Self::Ipv4HeaderLength
            | Self::Ipv4TotalLength
            | Self::Ipv6Truncated
            | Self::Ipv6Version
            | Self::Ipv6PayloadLength
            | Self::MartianSource
            | Self::MartianDestination
            | Self::SourceRoute
            | Self::LinkGroupUnicast
            | Self::InterfaceDown => Stage::Parse,
            Self::ReversePath => Stage::Verify,
            Self::SessionPoliced | Self::RuleDrop | Self::RuleMetered | Self::AggregatePoliced => {
                Stage::Police
            }
            Self::NotForwardable | Self::Blackhole | Self::ForwardingOff => Stage::Route,
            Self::PuntPoliced
            | Self::PuntQueueFull
            | Self::NoHeadroom
            | Self::RingFull
            | Self::QueueFull
            | Self::EarlyDrop => Stage::Queue,
        }
    }
}

impl PuntReason {
    /// The stage that finds it.
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::Arp | Self::LinkLayer | Self::Group | Self::LinkLocal => Stage::Parse,
            Self::Local
            | Self::KernelInterface
            | Self::TtlExpired
            | Self::Options
            | Self::NoRoute
            | Self::UnknownNeighbour
            | Self::Oversize => Stage::Route,
        }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in its queue, or past it, or on its way to the core that has it.
    Queued,
    /// Dropped, for this reason.
    Dropped(DropReason),
    /// Given to the kernel.
    Punted(PuntReason),
    /// To be given to the kernel, which has had its share, or does not keep up.
    Refused(PuntReason, DropReason),
}

impl Fate {
    /// Why it was dropped, if it was.
    #[must_use]
    pub fn drop_reason(self) -> Option<DropReason> {
        match self {
            Self::Dropped(reason) | Self::Refused(_, reason) => Some(reason),
            Self::Queued | Self::Punted(_) => None,
        }
    }
}

/// How a packet's time in its queue, and behind it until the device takes it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueEnd {
    /// Not yet.
    Waits,
    /// Sent: the device took it, at this time.
    Sent(Ticks),
    /// Dropped by controlled delay (RFC 8289), at this time.
    Dropped(Ticks),
    /// Dropped behind its queue, at this time: the port's link was down.
    LinkDown(Ticks),
}

/// What the stages did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRecord {
    /// When its burst came.
    pub at: Ticks,
    /// Where it came in.
    pub ingress: InterfaceIndex,
    /// The frame's first bytes as it came, without a VLAN tag and without what follows the IP packet.
    pub frame: ArrayVec<u8, TRACED_BYTES>,
    /// How long that frame is.
    pub frame_bytes: u16,
    /// What its headers said, if they could be read and `parse` let it go on.
    pub header: Option<TracedHeader>,
    /// The flow of its session, if it has one.
    pub session: Option<FiveTuple>,
    /// The flow that it has the five-tuple of without being of it, as it came in elsewhere.
    pub spoofed: Option<FiveTuple>,
    /// The rule that decided, if it has no session, and of which generation of the policy.
    pub rule: Option<(RuleIndex, u64)>,
    /// The code point and class that it goes with; `None` if it came to its end before that.
    pub marked: Option<(Dscp, Phb)>,
    /// Where it goes, if it is forwarded.
    pub exit: Option<TracedExit>,
    /// What became of it.
    pub fate: Fate,
    /// How it left its queue; `None` if it is not in one, or in one of another worker.
    pub queue_end: Option<QueueEnd>,
    /// Its place in its burst: what is dropped is written down before what goes on.
    pub place: usize,
}

/// Room for the records of one worker's next packets that match.
#[derive(Debug)]
pub struct Tracer {
    /// Which packets are wanted.
    pub filter: TraceFilter,
    /// In the order in which they were written.
    pub records: Vec<TraceRecord>,
    /// How many more matched, for which there was no room.
    pub missed: u64,
    /// The worker's time when it was given back.
    pub now: Ticks,
    /// Full bursts of which some packets were compared with flows that they may be near to.
    pub(crate) sampled: u32,
    room: usize,
    /// Those that are in queues, or that no device has taken.
    waiting: Vec<Waiting>,
}

impl Tracer {
    /// With room for so many records, at most [`MAX_RECORDS`].
    #[must_use]
    pub fn new(filter: TraceFilter, packets: usize) -> Box<Self> {
        let room = packets.min(MAX_RECORDS);
        Box::new(Self {
            filter,
            records: Vec::with_capacity(room),
            missed: 0,
            now: Ticks(0),
            sampled: 0,
            room,
            waiting: Vec::with_capacity(room),
        })
    }

    /// Whether there is no room, so that one more record would allocate.
    pub(crate) fn is_full(&self) -> bool {
        self.records.len() >= self.room
    }

    /// Adds what another worker has traced.
    pub(crate) fn add(&mut self, other: Self) {
        self.records.extend(other.records);
        self.missed += other.missed;
        self.now = self.now.max(other.now);
    }
}

/// With as much room, so that no worker allocates.
impl Clone for Tracer {
    fn clone(&self) -> Self {
        let mut records = Vec::with_capacity(self.room);
        records.extend_from_slice(&self.records);
        Self {
            filter: self.filter.clone(),
            records,
            waiting: Vec::with_capacity(self.room),
            ..*self
        }
    }
}

//! What the packet's way counts. A worker alone writes its counters, plain numbers; whoever wants to
//! see them asks for a [`Report`].

use hdrhistogram::Histogram;

use crate::{
    diffserv::{EfError, Phb},
    policy::PolicyReport,
    seconds::SECONDS,
    units::{TickRate, Ticks},
};

/// Defines an enum of reasons, each with a name for metrics, and what it means as its doc comment.
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// As an index into an array of counters.
            #[inline]
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// In the form of a metric label.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// Why a packet was dropped.
    DropReason {
        /// Shorter than an Ethernet header, or than its VLAN tag.
        Runt = "runt",
        /// In several buffers.
        Segmented = "segmented",
        /// For another MAC address.
        NotForUs = "not-for-us",
        /// Of a VLAN that the port does not have.
        UnknownVlan = "unknown-vlan",
        /// With a VLAN tag in a VLAN tag, or a service tag (IEEE 802.1ad).
        DoubleTagged = "double-tagged",
        /// Shorter than an IPv4 header (RFC 1812 section 5.2.2, 1).
        Ipv4Truncated = "ipv4-truncated",
        /// Wrong checksum (RFC 1812 section 5.2.2, 2).
        Ipv4Checksum = "ipv4-checksum",
        /// Not version 4 (RFC 1812 section 5.2.2, 3).
        Ipv4Version = "ipv4-version",
        /// Header length under five words or past the packet (RFC 1812 section 5.2.2, 4).
        Ipv4HeaderLength = "ipv4-header-length",
        /// Total length under the header's or past the frame (RFC 1812 section 5.2.2, 5).
        Ipv4TotalLength = "ipv4-total-length",
        /// Shorter than an IPv6 header.
        Ipv6Truncated = "ipv6-truncated",
        /// Not version 6.
        Ipv6Version = "ipv6-version",
        /// Payload length past the frame.
        Ipv6PayloadLength = "ipv6-payload-length",
        /// A source that no host may have (RFC 1812 section 5.3.7, RFC 4291 section 2), or that is the
        /// router's own.
        MartianSource = "martian-source",
        /// A destination that no router may forward to (RFC 1812 section 5.3.7, RFC 4291 section 2).
        MartianDestination = "martian-destination",
        /// An address that is not to leave its link, and not the router's own (RFC 6890 section 2.2).
        NotForwardable = "not-forwardable",
        /// Options that name routers to be passed (RFC 7126 sections 4.3 and 4.4).
        SourceRoute = "source-route",
        /// Link-layer group address, IP unicast address (RFC 1812 section 5.3.4).
        LinkGroupUnicast = "link-group-unicast",
        /// No session, and a source that the routes do not lead to by the interface where it came in, or
        /// not at all (reverse-path filtering, RFC 3704).
        ReversePath = "reverse-path",
        /// Over what the session was admitted with.
        SessionPoliced = "session-policed",
        /// A rule that says so.
        RuleDrop = "rule-drop",
        /// Of a colour that the rule's meter drops.
        RuleMetered = "rule-metered",
        /// Of a colour that the interface's meter of its behaviour drops.
        AggregatePoliced = "aggregate-policed",
        /// On an interface that is set down.
        InterfaceDown = "interface-down",
        /// To be sent on, from an interface that does not forward (`net.ipv4.conf.*.forwarding`,
        /// `net.ipv6.conf.*.forwarding`).
        ForwardingOff = "forwarding-off",
        /// A route that says so.
        Blackhole = "blackhole",
        /// The kernel's share of such packets is used up.
        PuntPoliced = "punt-policed",
        /// The kernel twin does not keep up.
        PuntQueueFull = "punt-queue-full",
        /// No room in the buffer for the VLAN tag that it goes out with.
        NoHeadroom = "no-headroom",
        /// Another core stands still or does not keep up, and the ring to it is full: the one that has
        /// the egress port's queues (for all but strict priority already when three quarters of the
        /// ring are), or the worker that the flow belongs to.
        RingFull = "ring-full",
        /// The packet's queue at the egress port is full.
        QueueFull = "queue-full",
        /// Random early detection, by drop precedence.
        EarlyDrop = "early-drop",
    }
}

reasons! {
    /// Why a packet was given to the kernel twin.
    PuntReason {
        /// ARP.
        Arp = "arp",
        /// No IP: the link's own protocols, IS-IS, and whatever else the kernel may listen to.
        LinkLayer = "link-layer",
        /// Broadcast or multicast: neighbour discovery, routing protocols, DHCP.
        Group = "group",
        /// IPv6 that is not to leave its link.
        LinkLocal = "link-local",
        /// For one of the router's own addresses.
        Local = "local",
        /// For an interface that only the kernel has, which forwards it.
        KernelInterface = "kernel-interface",
        /// The kernel answers with ICMP time exceeded.
        TtlExpired = "ttl-expired",
        /// Has IPv4 options that ask for something, which the kernel heeds and sends on.
        Options = "options",
        /// The kernel answers with ICMP unreachable.
        NoRoute = "no-route",
        /// The kernel resolves the neighbour and sends the packet.
        UnknownNeighbour = "unknown-neighbour",
        /// The kernel fragments, or answers with ICMP fragmentation needed.
        Oversize = "oversize",
    }
}

impl PuntReason {
    /// Whether such packets are IP, so that the kernel gets them with the code point that they may have.
    pub(crate) fn is_ip(self) -> bool {
        !matches!(self, Self::Arp | Self::LinkLayer)
    }
}

reasons! {
    /// What traffic for the kernel is, by which it is told apart and bounded (RFC 6192).
    PuntClass {
        /// Routing protocols.
        Routing = "routing",
        /// ARP and neighbour discovery, but for requests that ask for others' addresses.
        Neighbour = "neighbour",
        /// IGMP and MLD.
        Membership = "membership",
        /// The link's own protocols: LLDP, LACP, 802.1X, spanning tree.
        Link = "link",
        /// All else that is for the router itself.
        Local = "local",
        /// Broadcast and multicast that nothing above is.
        Group = "group",
        /// Packets whose neighbour the kernel is to find.
        Glean = "glean",
        /// What the kernel answers with an ICMP error.
        Exception = "exception",
        /// What the kernel forwards to interfaces that only it has.
        Transit = "transit",
    }
}

impl PuntClass {
    /// Whether the network stands still without it: it has queues of its own.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Routing | Self::Neighbour)
    }
}

/// One port's counters: what its device gave and took, of all its interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Their bytes, frames without FCS.
    pub rx_bytes: u64,
    /// Packets that the device took.
    pub tx_packets: u64,
    /// Their bytes, frames without FCS.
    pub tx_bytes: u64,
    /// Packets that were to leave while the link was lost.
    pub link_lost_packets: u64,
}

/// What is dropped, by [`DropReason`].
pub type Drops = [u64; DropReason::COUNT];

/// One interface's counters: what came in on it. What is of no VLAN of its port is the port's own
/// interface's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Their bytes, frames without FCS, with the tag.
    pub rx_bytes: u64,
    /// Packets from the kernel twin of this interface, queued or dropped.
    pub twin_packets: u64,
    /// Those of them whose code point was taken away or changed: no session's, and not the router's own.
    pub twin_bleached_packets: u64,
    /// Packets received whose code point was taken away or changed, because neither a session nor a
    /// rule covers them and the interface's trust does not keep it.
    pub bleached_packets: u64,
    /// Packets received with the five-tuple of a session whose packets come in elsewhere.
    pub spoofed_packets: u64,
    /// Packets received that are fragments other than the first, and whose first one was of no session
    /// or has not come: without ports, so in no session.
    pub fragments: u64,
    /// Packets received here and dropped.
    pub drops: Drops,
    /// Packets received here and given to the kernel, by [`PuntReason`].
    pub punts: [u64; PuntReason::COUNT],
    /// Packets received here that the kernel was not given, as their share was used up or their queue
    /// full, by [`PuntClass`]; they are in `drops`, too.
    pub refused_punts: [u64; PuntClass::COUNT],
}

impl Default for InterfaceCounters {
    fn default() -> Self {
        Self {
            rx_packets: 0,
            rx_bytes: 0,
            twin_packets: 0,
            twin_bleached_packets: 0,
            bleached_packets: 0,
            spoofed_packets: 0,
            fragments: 0,
            drops: [0; DropReason::COUNT],
            punts: [0; PuntReason::COUNT],
            refused_punts: [0; PuntClass::COUNT],
        }
    }
}

/// One queue's counters.
#[derive(Clone, Debug)]
pub struct QueueCounters {
    /// Packets taken in.
    pub enqueued_packets: u64,
    /// Packets handed to the device.
    pub sent_packets: u64,
    /// Their bytes on the wire.
    pub sent_wire_bytes: u64,
    /// Packets that found the queue full, by drop precedence.
    pub full_packets: [u64; 3],
    /// Packets that random early detection dropped, by drop precedence.
    pub early_packets: [u64; 3],
    /// Packets that controlled delay dropped on their way out.
    pub delay_dropped_packets: u64,
    /// Packets that controlled delay marked in place of that (RFC 3168: congestion experienced).
    pub ecn_marked_packets: u64,
    /// Packets waiting.
    pub depth_packets: u64,
    /// How long packets waited, in nanoseconds, from their burst's arrival on.
    pub delay_ns: Histogram<u64>,
}

/// The longest delay that the histogram tells apart.
const LONGEST_DELAY_NS: u64 = 60_000_000_000;

impl Default for QueueCounters {
    fn default() -> Self {
        // Two significant digits: 1 % resolution in 30 kB. The bounds are constants that fit.
        #[allow(clippy::expect_used, reason = "constant arguments")]
        let delay_ns = Histogram::new_with_bounds(1, LONGEST_DELAY_NS, 2).expect("valid bounds");
        Self {
            enqueued_packets: 0,
            sent_packets: 0,
            sent_wire_bytes: 0,
            full_packets: [0; 3],
            early_packets: [0; 3],
            delay_dropped_packets: 0,
            ecn_marked_packets: 0,
            depth_packets: 0,
            delay_ns,
        }
    }
}

impl QueueCounters {
    /// Packets that were not let into the queue.
    #[must_use]
    pub fn refused_packets(&self) -> u64 {
        self.full_packets.iter().sum::<u64>() + self.early_packets.iter().sum::<u64>()
    }

    /// Packets that were for this queue and will not be sent.
    #[must_use]
    pub fn dropped_packets(&self) -> u64 {
        self.refused_packets() + self.delay_dropped_packets
    }

    /// Takes over the other's numbers, without allocating.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.enqueued_packets = other.enqueued_packets;
        self.sent_packets = other.sent_packets;
        self.sent_wire_bytes = other.sent_wire_bytes;
        self.full_packets = other.full_packets;
        self.early_packets = other.early_packets;
        self.delay_dropped_packets = other.delay_dropped_packets;
        self.ecn_marked_packets = other.ecn_marked_packets;
        self.depth_packets = other.depth_packets;
        if self.delay_ns.len() != other.delay_ns.len() {
            self.delay_ns.reset();
            // Both have the same bounds, so this cannot fail.
            let _ = self.delay_ns.add(&other.delay_ns);
        }
    }
}

/// How well a port served the EF aggregate.
#[derive(Clone, Debug)]
pub struct EfReport {
    /// Since the start.
    pub total: EfError,
    /// Second by second, from the one that has begun backwards.
    pub seconds: Box<[EfError; SECONDS]>,
}

impl Default for EfReport {
    fn default() -> Self {
        Self {
            total: EfError::default(),
            seconds: Box::new([EfError::default(); SECONDS]),
        }
    }
}

impl EfReport {
    /// Over this many seconds, with the one that has begun.
    #[must_use]
    pub fn last(&self, seconds: usize) -> EfError {
        let last = self.seconds.iter().take(seconds);
        last.copied().fold(EfError::default(), EfError::with)
    }
}

/// For how long the worker's loop stood still: from the start of a turn to that of the next, without
/// the time that it meant to sleep. Nothing can be more punctual than that.
#[derive(Clone, Debug)]
pub struct StallReport {
    /// The longest since the start.
    pub longest: Ticks,
    /// The longest of each second, from the one that has begun backwards.
    pub seconds: Box<[Ticks; SECONDS]>,
}

impl Default for StallReport {
    fn default() -> Self {
        Self {
            longest: Ticks(0),
            seconds: Box::new([Ticks(0); SECONDS]),
        }
    }
}

impl StallReport {
    /// Over this many seconds, with the one that has begun.
    #[must_use]
    pub fn last(&self, seconds: usize) -> Ticks {
        let last = self.seconds.iter().take(seconds);
        last.copied().max().unwrap_or_default()
    }
}

/// Counters of one port and its queues.
#[derive(Clone, Debug)]
pub struct PortReport {
    /// The port's.
    pub port: PortCounters,
    /// Of each queue, in the order of [`Phb::ALL`].
    pub queues: Vec<QueueCounters>,
    /// Of the EF aggregate: the strict-priority queues.
    pub ef: EfReport,
}

impl Default for PortReport {
    fn default() -> Self {
        Self {
            port: PortCounters::default(),
            queues: (0..Phb::COUNT).map(|_| QueueCounters::default()).collect(),
            ef: EfReport::default(),
        }
    }
}

/// All counters of a worker at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// When, by the worker's clock.
    pub now: Ticks,
    /// That clock.
    pub clock: TickRate,
    /// Each port's, in order.
    pub ports: Vec<PortReport>,
    /// Each interface's, in the order of [`crate::units::InterfaceIndex`].
    pub interfaces: Vec<InterfaceCounters>,
    /// The policy's.
    pub policy: PolicyReport,
    /// The worker's loop's.
    pub stalls: StallReport,
    /// Session entries in use.
    pub entries: usize,
    /// Session entries in all.
    pub entry_capacity: usize,
}

impl Report {
    /// One to be filled in by a worker with as many ports and interfaces (ports and VLANs). Can be
    /// used again and again.
    #[must_use]
    pub fn new(ports: usize, interfaces: usize) -> Box<Self> {
        Box::new(Self {
            now: Ticks(0),
            clock: TickRate::from_hz(1),
            ports: (0..ports).map(|_| PortReport::default()).collect(),
            interfaces: vec![InterfaceCounters::default(); interfaces],
            policy: PolicyReport::new(interfaces),
            stalls: StallReport::default(),
            entries: 0,
            entry_capacity: 0,
        })
    }
}

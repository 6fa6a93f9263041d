//! Why packets are dropped or given to the kernel, and as what.

/// Defines an enum of a metric label's values, each with its name there, and what it means as its doc
/// comment.
macro_rules! labels {
    (
        $(#[$doc:meta])*
        $name:ident as $label:literal { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All variants, in the order of [`index`](Self::index).
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant,)*];
            /// Their names, in order.
            pub const NAMES: &'static [&'static str] = &[$($text,)*];
            /// How many there are.
            pub const COUNT: usize = Self::NAMES.len();
            /// The name of the label that tells them apart in Prometheus.
            pub const LABEL: &'static str = $label;

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

pub(crate) use labels;

labels! {
    /// Why a packet was dropped.
    DropReason as "reason" {
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
        /// A rule that drops it.
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
        /// A black-hole route.
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

labels! {
    /// Why a packet was given to the kernel twin.
    PuntReason as "reason" {
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
        /// Has IPv4 options that ask for something, which the kernel honours before it forwards the packet.
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

    /// Whether the kernel is to forward such a packet, or to answer its sender that it cannot, rather than
    /// to take it for the router itself.
    pub(crate) fn is_transit(self) -> bool {
        match self {
            Self::KernelInterface
            | Self::TtlExpired
            | Self::Options
            | Self::NoRoute
            | Self::UnknownNeighbour
            | Self::Oversize => true,
            Self::Arp | Self::LinkLayer | Self::Group | Self::LinkLocal | Self::Local => false,
        }
    }
}

labels! {
    /// What traffic for the kernel is, by which it is told apart and bounded (RFC 6192).
    PuntClass as "class" {
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

labels! {
    /// The drop precedence of an assured-forwarding code point (RFC 2597 section 2); all others have the
    /// lowest.
    DropPrecedence as "precedence" {
        /// AFx1, and what is not assured forwarding.
        Low = "1",
        /// AFx2.
        Medium = "2",
        /// AFx3.
        High = "3",
    }
}

use super::Trust;
use crate::session::Protocol;

/// What is made of frames that the kernel sends: the router's own, and those that it forwards from
/// interfaces which only it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPolicy {
    /// How far their code points are believed, but for what the router itself speaks.
    pub trust: Trust,
    /// What the router itself speaks, beside ARP, neighbour discovery, IGMP and MLD: it goes as network
    /// control.
    pub routing: Routing,
}

impl Default for KernelPolicy {
    fn default() -> Self {
        Self {
            trust: Trust::Bleach,
            routing: Routing::default(),
        }
    }
}

/// How packets of a routing protocol are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speaks {
    /// By the protocol in the IP header.
    Ip(u8),
    /// By one of the ports.
    Tcp(u16),
    /// By one of the ports.
    Udp(u16),
}

/// Routing protocols by their names, as IANA has assigned their numbers.
pub const ROUTING_PROTOCOLS: [(&str, &[Speaks]); 13] = [
    ("babel", &[Speaks::Udp(6696)]),
    // RFC 5881, RFC 5883, RFC 7130.
    (
        "bfd",
        &[
            Speaks::Udp(3784),
            Speaks::Udp(3785),
            Speaks::Udp(4784),
            Speaks::Udp(6784),
        ],
    ),
    ("bgp", &[Speaks::Tcp(179)]),
    ("eigrp", &[Speaks::Ip(88)]),
    ("ldp", &[Speaks::Tcp(646), Speaks::Udp(646)]),
    ("msdp", &[Speaks::Tcp(639)]),
    ("nhrp", &[Speaks::Ip(54)]),
    ("ospf", &[Speaks::Ip(89)]),
    ("pim", &[Speaks::Ip(103)]),
    ("rip", &[Speaks::Udp(520)]),
    ("ripng", &[Speaks::Udp(521)]),
    ("rsvp", &[Speaks::Ip(46)]),
    ("vrrp", &[Speaks::Ip(112)]),
];

/// The routing protocols that the router speaks, beside those without IP (IS-IS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing(Box<[Speaks]>);

impl Default for Routing {
    /// All of [`ROUTING_PROTOCOLS`].
    fn default() -> Self {
        let all = ROUTING_PROTOCOLS.into_iter();
        all.flat_map(|(_, speaks)| speaks.iter().copied()).collect()
    }
}

impl FromIterator<Speaks> for Routing {
    fn from_iter<I: IntoIterator<Item = Speaks>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

impl Routing {
    /// Whether a packet is of one of them; `ports` are its source and destination port, if it has them.
    #[must_use]
    pub fn has(&self, protocol: Protocol, ports: Option<(u16, u16)>) -> bool {
        let either = |port| ports.is_some_and(|(from, to)| from == port || to == port);
        self.0.iter().any(|&one| match one {
            Speaks::Ip(number) => protocol == Protocol(number),
            Speaks::Tcp(port) => protocol == Protocol::TCP && either(port),
            Speaks::Udp(port) => protocol == Protocol::UDP && either(port),
        })
    }
}

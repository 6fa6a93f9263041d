//! What a frame on its way to the kernel, or from it, carries: by its headers, behind tags, options,
//! extension headers and in fragments.

use std::net::IpAddr;

use crate::{
    diffserv::TrafficClass,
    policy::Routing,
    session::{AddressPair, AnyKey, FlowKey4, FlowKey6, FragmentId, Protocol},
    wire::IpVersion,
    wire::{EtherType, Ipv4, Ipv6, Transport, Upper, upper_layer},
};

/// To whom a frame matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Routing,
    /// Whoever is on the link: ARP, neighbour discovery (RFC 4861).
    Neighbour,
    /// Multicast routers: IGMP, MLD.
    Membership,
    /// The link's own protocols: LLDP, LACP, 802.1X, spanning tree.
    Link,
    Other,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) kind: Kind,
    /// The address whose MAC address is asked for.
    pub(crate) asks_for: Option<IpAddr>,
    /// `None`: it is no IP.
    pub(crate) ip: Option<Packet>,
}

/// An IP packet in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) family: IpVersion,
    /// Where its header starts in the frame.
    pub(crate) offset: usize,
    pub(crate) class: TrafficClass,
    pub(crate) source: IpAddr,
    /// Of a whole packet with ports, or of a part: [`FragmentId::as_flow`].
    pub(crate) flow: Option<AnyKey>,
}

/// What an IP packet carries, and where that starts in it; a fragment other than the first has no start.
struct Payload {
    protocol: Protocol,
    offset: Option<usize>,
    /// The identification of the packet that it is a part of.
    part_of: Option<u32>,
}

impl Content {
    const OTHER: Self = Self {
        kind: Kind::Other,
        asks_for: None,
        ip: None,
    };

    fn of_link(kind: Kind) -> Self {
        Self {
            kind,
            ..Self::OTHER
        }
    }

    pub(crate) fn of(frame: &[u8], routing: &Routing) -> Self {
        /// IEEE 802.1AB, IEEE 802.3 annex 57A, IEEE 802.1X.
        const LINK: [EtherType; 3] = [EtherType::LLDP, EtherType::SLOW, EtherType::EAPOL];
        let Some((kind, offset)) = untagged(frame) else {
            return Self::OTHER;
        };
        let packet = frame.get(offset..).unwrap_or_default();
        match kind {
            EtherType::IPV4 => ipv4(packet, offset, routing),
            EtherType::IPV6 => ipv6(packet, offset, routing),
            EtherType::ARP => Self {
                asks_for: asked_by_arp(packet),
                ..Self::of_link(Kind::Neighbour)
            },
            kind if kind.is_length() => match packet {
                // ISO 10589: IS-IS.
                [0xfe, 0xfe, ..] => Self::of_link(Kind::Routing),
                _ => Self::of_link(Kind::Link),
            },
            kind if LINK.contains(&kind) => Self::of_link(Kind::Link),
            _ => Self::OTHER,
        }
    }
}

/// Whether the network stands still without a frame, which the kernel sends.
pub(crate) fn is_control(frame: &[u8], routing: &Routing) -> bool {
    let kind = Content::of(frame, routing).kind;
    matches!(kind, Kind::Routing | Kind::Neighbour)
}

/// What a frame carries behind its tags, and where that starts.
fn untagged(frame: &[u8]) -> Option<(EtherType, usize)> {
    let mut at = 12;
    for _ in 0..=TAGS {
        let kind = EtherType(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
        if !kind.is_tag() {
            return Some((kind, at + 2));
        }
        at += 4;
    }
    None
}

/// The most tags that a frame of the kernel has: it puts on one for each of its own VLAN interfaces.
pub(crate) const TAGS: usize = 2;

/// RFC 826: a request, and not one that announces its own sender (RFC 5227 section 3).
fn asked_by_arp(packet: &[u8]) -> Option<IpAddr> {
    let &[_, _, 8, 0, 6, 4, 0, 1, ..] = packet else {
        return None;
    };
    let sender: &[u8; 4] = packet.get(14..)?.first_chunk()?;
    let target: &[u8; 4] = packet.get(24..)?.first_chunk()?;
    (sender != target).then(|| IpAddr::from(*target))
}

fn ipv4(packet: &[u8], offset: usize, routing: &Routing) -> Content {
    const IGMP: Protocol = Protocol(2);
    let Some(ip) = Ipv4::new(packet).filter(|ip| ip.version() == 4) else {
        return Content::OTHER;
    };
    let header = ip.header_length();
    let total = usize::from(ip.total_length());
    let payload = packet
        .get(..total)
        .filter(|_| (Ipv4::LENGTH..=total).contains(&header))
        .map(|packet| {
            let first = ip.fragment_offset() == 0;
            let payload = Payload {
                protocol: Protocol(ip.protocol()),
                offset: first.then_some(header),
                part_of: ip.is_fragment().then(|| ip.identification().into()),
            };
            (packet, payload)
        });
    let (mut kind, mut flow) = (Kind::Other, None);
    if let Some((packet, payload)) = payload {
        let ports = ports(packet, &payload);
        if payload.protocol == IGMP {
            kind = Kind::Membership;
        } else if routing.has(payload.protocol, ports.map(numbers)) {
            kind = Kind::Routing;
        }
        flow = match payload.part_of {
            None => ports.map(|ports| {
                let protocol = payload.protocol.0;
                AnyKey::V4(FlowKey4::from_wire(ip.addresses(), ports, protocol))
            }),
            Some(identification) => {
                let id = FragmentId {
                    addresses: AddressPair::V4(*ip.addresses()),
                    protocol: ip.protocol(),
                    identification,
                };
                Some(id.as_flow())
            }
        };
    }
    let &[a, b, c, d, ..] = ip.addresses();
    let packet = Packet {
        family: IpVersion::V4,
        offset,
        class: ip.traffic_class(),
        source: [a, b, c, d].into(),
        flow,
    };
    Content {
        kind,
        asks_for: None,
        ip: Some(packet),
    }
}

fn ipv6(packet: &[u8], offset: usize, routing: &Routing) -> Content {
    let Some(ip) = Ipv6::new(packet).filter(|ip| ip.version() == 6) else {
        return Content::OTHER;
    };
    let whole = packet.get(..Ipv6::LENGTH + usize::from(ip.payload_length()));
    let payload = whole.and_then(|packet| match upper_layer(packet, ip.next_header()) {
        Upper::Transport(Transport {
            protocol,
            offset,
            fragment,
        }) => Some((
            packet,
            Payload {
                protocol: Protocol(protocol),
                offset: Some(offset),
                part_of: fragment,
            },
        )),
        Upper::Fragment {
            protocol,
            identification,
        } => Some((
            packet,
            Payload {
                protocol: Protocol(protocol),
                offset: None,
                part_of: Some(identification),
            },
        )),
        Upper::Opaque => None,
    });
    let (mut kind, mut flow, mut asks_for) = (Kind::Other, None, None);
    if let Some((packet, payload)) = payload {
        let ports = ports(packet, &payload);
        if payload.protocol == Protocol::ICMP_V6 {
            let message = payload.offset.and_then(|offset| packet.get(offset..));
            (kind, asks_for) = icmp6(message.unwrap_or_default(), ip.hop_limit());
        } else if routing.has(payload.protocol, ports.map(numbers)) {
            kind = Kind::Routing;
        }
        flow = match payload.part_of {
            None => ports.map(|ports| {
                let protocol = payload.protocol.0;
                AnyKey::V6(FlowKey6::from_wire(ip.addresses(), ports, protocol))
            }),
            Some(identification) => {
                let id = FragmentId {
                    addresses: AddressPair::V6(*ip.addresses()),
                    protocol: 0,
                    identification,
                };
                Some(id.as_flow())
            }
        };
    }
    let packet = Packet {
        family: IpVersion::V6,
        offset,
        class: ip.traffic_class(),
        source: (*ip.source()).into(),
        flow,
    };
    Content {
        kind,
        asks_for,
        ip: Some(packet),
    }
}

/// Neighbour discovery and multicast listeners among ICMPv6 messages.
fn icmp6(message: &[u8], hop_limit: u8) -> (Kind, Option<IpAddr>) {
    match message {
        // RFC 4861 sections 6.1 and 7.1: only a hop limit of 255 says that no router has forwarded it.
        [135, ..] if hop_limit == 255 => {
            let target = message.get(8..).and_then(|rest| rest.first_chunk::<16>());
            (Kind::Neighbour, target.map(|target| IpAddr::from(*target)))
        }
        [133..=137, ..] if hop_limit == 255 => (Kind::Neighbour, None),
        // RFC 2710, RFC 3810.
        [130..=132 | 143, ..] => (Kind::Membership, None),
        _ => (Kind::Other, None),
    }
}

/// Source and destination port, as they stand there.
fn ports<'a>(packet: &'a [u8], payload: &Payload) -> Option<&'a [u8; 4]> {
    match payload.protocol {
        Protocol::UDP | Protocol::TCP => packet.get(payload.offset?..)?.first_chunk(),
        _ => None,
    }
}

fn numbers(&[a, b, c, d]: &[u8; 4]) -> (u16, u16) {
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

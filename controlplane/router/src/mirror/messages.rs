//! From netlink's messages to events: what the kernel said, as far as the mirror wants to know it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_REPLACE, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop,
        RouteNextHopFlags, RouteType, RouteVia,
    },
};
use voicelane_dataplane::units::MacAddress;

use super::state::{Condition, Event, LinkState, Neighbour, Path, Place, Route, Table, Via};
use crate::attribute::attribute;

/// Permanent, without ARP, reachable, being probed, stale, or delayed (linux/neighbour.h).
const NUD_VALID: u16 = 0x80 | 0x40 | 0x02 | 0x10 | 0x04 | 0x08;
const TABLE_MAIN: u32 = 254;
const TABLE_LOCAL: u32 = 255;

/// What a message of the subscription means; `None` if nothing.
#[must_use]
pub fn event(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Event> {
    let flags = message.header.flags;
    let inner = match &message.payload {
        NetlinkPayload::Overrun(_) => return Some(Event::Overrun),
        NetlinkPayload::InnerMessage(inner) => inner,
        _ => return None,
    };
    match inner {
        RouteNetlinkMessage::NewRoute(message) => {
            let place = if flags & NLM_F_REPLACE != 0 {
                Place::Replace
            } else if flags & NLM_F_APPEND != 0 || is_ipv6(message) {
                // IPv6 puts no route before others of its metric.
                Place::Last
            } else {
                Place::First
            };
            route(message).map(|route| Event::RouteAdded(route, place))
        }
        RouteNetlinkMessage::DelRoute(message) => route(message).map(Event::RouteRemoved),
        RouteNetlinkMessage::NewNeighbour(message) => neighbour(message),
        RouteNetlinkMessage::DelNeighbour(message) => {
            let (interface, address) = neighbour_key(message)?;
            Some(Event::Neighbour {
                interface,
                address,
                neighbour: None,
            })
        }
        RouteNetlinkMessage::NewAddress(message) => {
            let (interface, address) = (message.header.index, address(message)?);
            Some(Event::AddressAdded { interface, address })
        }
        RouteNetlinkMessage::DelAddress(message) => {
            let (interface, address) = (message.header.index, address(message)?);
            Some(Event::AddressRemoved { interface, address })
        }
        RouteNetlinkMessage::NewLink(message) => link(message),
        RouteNetlinkMessage::DelLink(message) => {
            of_all_families(message).then_some(Event::LinkRemoved {
                interface: message.header.index,
            })
        }
        _ => None,
    }
}

fn is_ipv6(message: &RouteMessage) -> bool {
    message.header.address_family == AddressFamily::Inet6
}

/// An address of an interface, with its prefix length.
#[must_use]
pub fn address(message: &AddressMessage) -> Option<IpNet> {
    // On a point-to-point link ADDRESS is the peer's, and LOCAL the interface's own.
    let own = attribute!(message.attributes, AddressAttribute::Local(address) => *address);
    let peer = attribute!(message.attributes, AddressAttribute::Address(address) => *address);
    IpNet::new(own.or(peer)?, message.header.prefix_len).ok()
}

fn mac(bytes: &[u8]) -> Option<MacAddress> {
    <[u8; 6]>::try_from(bytes).ok().map(MacAddress)
}

/// A bridge says things of its ports in the same message, under its own family.
fn of_all_families(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

/// A link, as it is now.
#[must_use]
pub fn link(message: &LinkMessage) -> Option<Event> {
    if !of_all_families(message) {
        return None;
    }
    let flags = message.header.flags;
    let mut link = LinkState {
        name: attribute!(message.attributes, LinkAttribute::IfName(name) => name.clone())?,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        ..LinkState::default()
    };
    let (mut parent, mut is_macvlan) = (None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => link.mac = mac(bytes),
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                is_macvlan = infos.contains(&LinkInfo::Kind(InfoKind::MacVlan));
            }
            _ => {}
        }
    }
    link.macvlan_on = parent.filter(|_| is_macvlan);
    Some(Event::Link {
        interface: message.header.index,
        link,
    })
}

fn neighbour_key(message: &NeighbourMessage) -> Option<(u32, IpAddr)> {
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let all = &message.attributes;
    let address = match attribute!(all, NeighbourAttribute::Destination(address) => address)? {
        NeighbourAddress::Inet(address) => IpAddr::V4(*address),
        NeighbourAddress::Inet6(address) => IpAddr::V6(*address),
        _ => return None,
    };
    Some((message.header.ifindex, address))
}

/// A neighbour, as it is now.
#[must_use]
pub fn neighbour(message: &NeighbourMessage) -> Option<Event> {
    let (interface, address) = neighbour_key(message)?;
    // The kernel's NUD_VALID (include/net/neighbour.h), whoever it was learned from.
    let valid = match message.header.state {
        NeighbourState::Reachable
        | NeighbourState::Stale
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Noarp
        | NeighbourState::Permanent => true,
        NeighbourState::Other(bits) => bits & NUD_VALID != 0,
        _ => false,
    };
    let all = &message.attributes;
    let mac = attribute!(all, NeighbourAttribute::LinkLayerAddress(bytes) => mac(bytes)?);
    // A group's address is kept for a group, too.
    let mac = mac.filter(|mac| !mac.is_group() && *mac != MacAddress::default());
    let stale = message.header.state == NeighbourState::Stale;
    let neighbour = mac.filter(|_| valid).map(|mac| Neighbour { mac, stale });
    Some(Event::Neighbour {
        interface,
        address,
        neighbour,
    })
}

/// A route of the tables and kinds that matter.
#[must_use]
pub fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let cloned = header.flags.contains(RouteFlags::Cloned);
    if cloned {
        return None;
    }
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut table = u32::from(header.table);
    let (mut metric, mut multipath, mut object, mut source) = (0, false, None, None);
    let mut mtu = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = IpAddr::V4(*address);
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                destination = IpAddr::V6(*address);
            }
            RouteAttribute::Source(address) => source = Some(address.clone()),
            RouteAttribute::MultiPath(_) => multipath = true,
            RouteAttribute::Metrics(metrics) => mtu = route_mtu(metrics, is_ipv6(message)),
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::NhId(id) => object = Some(*id),
            _ => {}
        }
    }
    let table = match table {
        TABLE_MAIN => Table::Main,
        TABLE_LOCAL => Table::Local,
        _ => return None,
    };
    let via = match header.kind {
        _ if header.flags.contains(RouteFlags::Dead) => Via::Dead,
        RouteType::Unicast => unicast(&message.attributes, object),
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast => Via::Kernel,
        RouteType::BlackHole => Via::Nowhere,
        RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw => Via::Refused,
        _ => return None,
    };
    if destination.is_multicast() {
        return None; // Whatever is for a group goes to the kernel.
    }
    let prefix = IpNet::new(destination, header.destination_prefix_length)
        .ok()?
        .trunc();
    let source = match source {
        Some(RouteAddress::Inet6(address)) => {
            IpNet::new(address.into(), header.source_prefix_length).ok()
        }
        _ => None,
    };
    let condition = (header.tos != 0 || source.is_some()).then_some(Condition {
        tos: header.tos,
        source,
    });
    // Whether a packet meets it the kernel decides.
    let via = if condition.is_some() {
        Via::Refused
    } else {
        via
    };
    Some(Route {
        table,
        prefix,
        mtu,
        condition,
        metric,
        multipath,
        object,
        via,
    })
}

/// The MTU that a route sets for what is sent on. The kernel goes by that of IPv6 routes only where it is
/// locked (`ip6_dst_mtu_maybe_forward` in include/net/ip6_route.h).
fn route_mtu(metrics: &[RouteMetric], is_ipv6: bool) -> Option<u16> {
    const LOCKED: u32 = 1 << 2; // RTAX_MTU, linux/rtnetlink.h
    let lock = |metric: &RouteMetric| matches!(metric, RouteMetric::Lock(of) if of & LOCKED != 0);
    let mtu = attribute!(metrics, RouteMetric::Mtu(mtu) => u16::try_from(*mtu).ok()?);
    mtu.filter(|_| !is_ipv6 || metrics.iter().any(lock))
}

/// Of several next hops those that are alive. Where the message says of a next hop object its number
/// only (`nexthop_compat_mode=0`), that object.
fn unicast(attributes: &[RouteAttribute], object: Option<u32>) -> Via {
    let Some(hops) = attribute!(attributes, RouteAttribute::MultiPath(hops) => hops) else {
        let interface = attribute!(attributes, RouteAttribute::Oif(index) => *index);
        return match (interface, object) {
            (None, Some(id)) => Via::Object { id },
            _ => next_hop(interface, attributes),
        };
    };
    let alive: Vec<_> = hops
        .iter()
        .filter(|hop| !hop.flags.contains(RouteNextHopFlags::Dead))
        .collect();
    if let [only] = *alive {
        return next_hop(Some(only.interface_index), &only.attributes);
    }
    let path = |hop: &RouteNextHop| match next_hop(Some(hop.interface_index), &hop.attributes) {
        Via::Gateway { interface, address } => Some(Path {
            interface,
            address,
            weight: NonZeroU16::MIN.saturating_add(hop.hops.into()),
        }),
        _ => None,
    };
    // Where one is no gateway, the kernel shares the flows.
    alive
        .into_iter()
        .map(path)
        .collect::<Option<Vec<_>>>()
        .map_or(Via::Refused, Via::paths)
}

fn next_hop(interface: Option<u32>, attributes: &[RouteAttribute]) -> Via {
    let Some(interface) = interface else {
        return Via::Refused;
    };
    let mut via = Via::Link { interface };
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(address))
            | RouteAttribute::Via(RouteVia::Inet(address)) => {
                let address = IpAddr::V4(*address);
                via = Via::Gateway { interface, address };
            }
            // Of IPv4 routes, too (RFC 8950, RFC 5549).
            RouteAttribute::Gateway(RouteAddress::Inet6(address))
            | RouteAttribute::Via(RouteVia::Inet6(address)) => {
                let address = IpAddr::V6(*address);
                via = Via::Gateway { interface, address };
            }
            // A tunnel, or another kind of address: the kernel can, the fast path cannot.
            RouteAttribute::Gateway(_)
            | RouteAttribute::Via(_)
            | RouteAttribute::Encap(_)
            | RouteAttribute::EncapType(_) => return Via::Refused,
            _ => {}
        }
    }
    via
}

//! IP packets that are not plain: what is wrong with one, and what its headers say.

use std::net::Ipv6Addr;

use crate::{
    pipeline::{
        burst::{Header, Lookups, Verdict},
        fragments::Fragment,
    },
    session::{AddressPair, FlowKey4, FlowKey6, FragmentId, Protocol},
    stats::{DropReason, PuntReason},
    wire::{
        EtherType, Ethernet, IpVersion, Ipv4, Ipv6, Transport, Upper, is_plain4, is_source_routed,
        options_ask, upper_layer, usage4, usage6,
    },
};

pub(super) fn ipv4(
    packet: &[u8],
    to_group: bool,
    place: usize,
    lookups: &mut Lookups,
) -> Result<Header, Verdict> {
    let drop = |reason| Err(Verdict::Drop(reason));
    // RFC 1812 section 5.2.2: "(1) The packet length reported by the Link Layer must be large
    // enough to hold the minimum length legal IP datagram (20 bytes)."
    let Some(ip) = Ipv4::new(packet) else {
        return drop(DropReason::Ipv4Truncated);
    };
    // "(3) The IP version number must be 4."
    if ip.version() != 4 {
        return drop(DropReason::Ipv4Version);
    }
    // "(4) The IP header length field must be large enough to hold the minimum length legal IP
    // datagram (20 bytes = 5 words)."
    let header_length = ip.header_length();
    if header_length < Ipv4::LENGTH || header_length > packet.len() {
        return drop(DropReason::Ipv4HeaderLength);
    }
    // "(5) The IP total length field must be large enough to hold the IP datagram header."
    let total_length = usize::from(ip.total_length());
    if total_length < header_length || total_length > packet.len() {
        return drop(DropReason::Ipv4TotalLength);
    }
    // "(2) The IP checksum must be correct."
    if !ip.checksum_is_right(packet) {
        return drop(DropReason::Ipv4Checksum);
    }
    let options = packet.get(Ipv4::LENGTH..header_length);
    if is_source_routed(options.unwrap_or_default()) {
        return drop(DropReason::SourceRoute);
    }
    check_addresses(&ip, to_group)?;

    let header = Header {
        family: IpVersion::V4,
        class: ip.traffic_class(),
        ttl: ip.ttl(),
        ip_bytes: ip.total_length(),
    };
    let first = ip.fragment_offset() == 0;
    if ip.is_fragment() {
        let id = FragmentId {
            addresses: AddressPair::V4(*ip.addresses()),
            protocol: ip.protocol(),
            identification: ip.identification().into(),
        };
        lookups.fragments.push(place, Fragment { id, first });
    }
    // What stands where the ports would be is payload in the others.
    if first && let Some(ports) = ports(packet.get(..total_length), header_length, ip.protocol()) {
        lookups.flows4.put(
            place,
            FlowKey4::from_wire(ip.addresses(), ports, ip.protocol()),
        );
    }
    Ok(header)
}

pub(super) fn ipv6(
    packet: &[u8],
    to_group: bool,
    place: usize,
    lookups: &mut Lookups,
) -> Result<Header, Verdict> {
    let drop = |reason| Err(Verdict::Drop(reason));
    let Some(ip) = Ipv6::new(packet) else {
        return drop(DropReason::Ipv6Truncated);
    };
    if ip.version() != 6 {
        return drop(DropReason::Ipv6Version);
    }
    let total_length = Ipv6::LENGTH + usize::from(ip.payload_length());
    let (Some(whole), Ok(ip_bytes)) = (packet.get(..total_length), u16::try_from(total_length))
    else {
        return drop(DropReason::Ipv6PayloadLength);
    };
    let (source, destination) = (
        Ipv6Addr::from(*ip.source()),
        Ipv6Addr::from(*ip.destination()),
    );
    // RFC 4291 section 2.7: "Multicast addresses must not be used as source addresses in IPv6
    // packets". Section 2.5.3: the loopback address "must never be sent outside of a single node".
    if !usage6(*ip.source()).source {
        return drop(DropReason::MartianSource);
    }
    if !usage6(*ip.destination()).destination {
        return drop(DropReason::MartianDestination);
    }
    // Neighbour discovery, routing protocols, and what is not to leave its link (section 2.5.6):
    // for the kernel. The unspecified source, too, which only they have.
    if destination.is_multicast() {
        return Err(Verdict::Punt(PuntReason::Group));
    }
    if source.is_unspecified()
        || source.is_unicast_link_local()
        || destination.is_unicast_link_local()
    {
        return Err(Verdict::Punt(PuntReason::LinkLocal));
    }
    if to_group {
        return drop(DropReason::LinkGroupUnicast);
    }
    let fragment = |identification, first| Fragment {
        id: FragmentId {
            addresses: AddressPair::V6(*ip.addresses()),
            protocol: 0,
            identification,
        },
        first,
    };
    match upper_layer(whole, ip.next_header()) {
        Upper::Transport(Transport {
            protocol,
            offset,
            fragment: part,
        }) => {
            if let Some(identification) = part {
                let fragment = fragment(identification, true);
                lookups.fragments.push(place, fragment);
            }
            if let Some(ports) = ports(Some(whole), offset, protocol) {
                lookups
                    .flows6
                    .put(place, FlowKey6::from_wire(ip.addresses(), ports, protocol));
            }
        }
        Upper::Fragment { identification, .. } => {
            let fragment = fragment(identification, false);
            lookups.fragments.push(place, fragment);
        }
        Upper::Opaque => {}
    }
    Ok(Header {
        family: IpVersion::V6,
        class: ip.traffic_class(),
        ttl: ip.hop_limit(),
        ip_bytes,
    })
}

/// Source and destination port, of the protocols that have them.
#[inline]
fn ports(packet: Option<&[u8]>, offset: usize, protocol: u8) -> Option<&[u8; 4]> {
    match Protocol(protocol) {
        Protocol::UDP | Protocol::TCP => packet?.get(offset..)?.first_chunk(),
        _ => None,
    }
}

/// RFC 1812 sections 5.3.4 and 5.3.7.
#[inline]
fn check_addresses(ip: &Ipv4<'_>, to_group: bool) -> Result<(), Verdict> {
    let &[a, b, c, d, e, f, g, h] = ip.addresses();
    if is_plain4(a) && is_plain4(e) && !to_group {
        return Ok(());
    }
    let (source, destination) = (usage4([a, b, c, d]), usage4([e, f, g, h]));
    let (is_group, no_address_yet) = (e >= 224, a == 0);
    Err(if !destination.destination {
        Verdict::Drop(DropReason::MartianDestination)
    } else if !source.source || (no_address_yet && !is_group) {
        Verdict::Drop(DropReason::MartianSource)
    } else if is_group {
        // Multicast and broadcast are not forwarded; the kernel may listen to them. A host that has
        // no address yet may send them (RFC 1122 section 3.2.1.3 (a)).
        Verdict::Punt(PuntReason::Group)
    } else if to_group {
        // "A router SHOULD silently discard a packet that is received via a link layer broadcast or
        // multicast but does not specify an IP multicast or broadcast destination address."
        Verdict::Drop(DropReason::LinkGroupUnicast)
    } else {
        return Ok(());
    })
}

/// Whether an IPv4 packet has options that routers must process, and whether its addresses allow it to be for
/// the router itself, but not to be forwarded.
pub(super) fn unusual(frame: &[u8]) -> (bool, bool) {
    let packet = frame.get(Ethernet::LENGTH..).unwrap_or_default();
    let Some(ip) = Ipv4::new(packet) else {
        return (false, false);
    };
    let &[a, b, c, d, e, f, g, h] = ip.addresses();
    let forwardable = usage4([a, b, c, d]).forwardable && usage4([e, f, g, h]).forwardable;
    let options = packet.get(Ipv4::LENGTH..ip.header_length());
    (options_ask(options.unwrap_or_default()), !forwardable)
}

/// The length of the IP packet in a frame that has been parsed; `None` when it carries another
/// protocol.
pub(super) fn ip_bytes(frame: &[u8]) -> Option<u16> {
    let (ethernet, packet) = Ethernet::split(frame)?;
    match ethernet.ether_type() {
        EtherType::IPV4 => Ipv4::new(packet).map(|ip| ip.total_length()),
        EtherType::IPV6 => {
            let payload = Ipv6::new(packet)?.payload_length();
            Some(payload.saturating_add(40))
        }
        _ => None,
    }
}

/// Of a packet that is for the kernel before anybody has asked for its flow.
pub(super) fn header(frame: &[u8]) -> Option<Header> {
    let (ethernet, packet) = Ethernet::split(frame)?;
    match ethernet.ether_type() {
        EtherType::IPV4 => Ipv4::new(packet).map(|ip| Header {
            family: IpVersion::V4,
            class: ip.traffic_class(),
            ttl: ip.ttl(),
            ip_bytes: ip.total_length(),
        }),
        EtherType::IPV6 => Ipv6::new(packet).map(|ip| Header {
            family: IpVersion::V6,
            class: ip.traffic_class(),
            ttl: ip.hop_limit(),
            ip_bytes: ip.payload_length().saturating_add(40),
        }),
        _ => None,
    }
}

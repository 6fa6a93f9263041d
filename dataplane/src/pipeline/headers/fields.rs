//! What rules and the list of senders look at, read from the packet when it is asked for.

use crate::{
    pipeline::burst::Header,
    policy::{Addresses, Fields},
    session::Protocol,
    units::InterfaceIndex,
    wire::IpVersion,
    wire::{Ethernet, Ipv4, Ipv6, Transport, Upper, upper_layer},
};

/// Of a packet that `parse` has checked; `None` of any other.
#[inline]
pub(crate) fn fields(frame: &[u8], interface: InterfaceIndex, header: Header) -> Option<Fields> {
    let packet = frame.get(Ethernet::LENGTH..)?;
    let (addresses, protocol, ports) = match header.family {
        IpVersion::V4 => {
            let ip = Ipv4::new(packet)?;
            let first = ip.fragment_offset() == 0;
            let transport = first.then_some(ip.header_length());
            let addresses = Addresses::V4(source4(frame), ip.destination());
            (addresses, Protocol(ip.protocol()), transport)
        }
        IpVersion::V6 => {
            let ip = Ipv6::new(packet)?;
            let (protocol, transport) = match upper_layer(packet, ip.next_header()) {
                Upper::Transport(Transport {
                    protocol, offset, ..
                }) => (Protocol(protocol), Some(offset)),
                Upper::Fragment { .. } => (Protocol::IPV6_FRAGMENT, None),
                Upper::Opaque => (Protocol(ip.next_header()), None),
            };
            let [source, destination] =
                [ip.source(), ip.destination()].map(|address| u128::from_be_bytes(*address));
            (Addresses::V6(source, destination), protocol, transport)
        }
    };
    Some(Fields {
        interface,
        addresses,
        protocol,
        ports: ports.and_then(|offset| self::ports(packet, header, offset, protocol)),
        dscp: header.class.dscp(),
    })
}

/// Source and destination port, of the protocols that have them.
#[inline]
fn ports(packet: &[u8], header: Header, offset: usize, protocol: Protocol) -> Option<(u16, u16)> {
    if !matches!(protocol, Protocol::UDP | Protocol::TCP) {
        return None;
    }
    // What is past the IP packet is padding.
    let packet = packet.get(..usize::from(header.ip_bytes)).unwrap_or(packet);
    let &[a, b, c, d] = packet.get(offset..)?.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Where a packet that `parse` has checked comes from; IPv4 mapped into IPv6.
#[inline]
pub(crate) fn source(frame: &[u8], family: IpVersion) -> u128 {
    const MAPPED: u128 = 0xffff << 32;
    match family {
        IpVersion::V4 => MAPPED | u128::from(source4(frame)),
        IpVersion::V6 => u128::from_be_bytes(source6(frame)),
    }
}

/// Where an IPv4 packet comes from that `parse` has checked, in host byte order.
#[inline]
pub(crate) fn source4(frame: &[u8]) -> u32 {
    const END: usize = Ethernet::LENGTH + 16;
    let source = frame
        .first_chunk::<END>()
        .and_then(|headers| headers.last_chunk());
    source.map_or(0, |source| u32::from_be_bytes(*source))
}

/// Where an IPv6 packet comes from that `parse` has checked.
#[inline]
pub(crate) fn source6(frame: &[u8]) -> [u8; 16] {
    const END: usize = Ethernet::LENGTH + 24;
    let source = frame
        .first_chunk::<END>()
        .and_then(|headers| headers.last_chunk());
    source.copied().unwrap_or_default()
}

/// Where an IPv4 packet goes that `parse` has checked, in host byte order.
#[inline]
pub(crate) fn destination4(frame: &[u8]) -> u32 {
    const END: usize = Ethernet::LENGTH + Ipv4::LENGTH;
    let destination = frame
        .first_chunk::<END>()
        .and_then(|headers| headers.last_chunk());
    destination.map_or(0, |destination| u32::from_be_bytes(*destination))
}

/// Where an IPv6 packet goes that `parse` has checked.
#[inline]
pub(crate) fn destination6(frame: &[u8]) -> [u8; 16] {
    const END: usize = Ethernet::LENGTH + Ipv6::LENGTH;
    let destination = frame
        .first_chunk::<END>()
        .and_then(|headers| headers.last_chunk());
    destination.copied().unwrap_or_default()
}

use super::{Burst, Meta, Verdict};
use crate::{
    counters::{DropReason, PortCounters, PuntReason},
    device::Buffer,
    diffserv::TrafficClass,
    session::{FlowKey4, Protocol},
    units::MacAddress,
    wire::{EtherType, Ethernet, Ipv4},
};

/// Finds each packet's headers and checks them.
#[inline(never)]
pub(super) fn parse<B: Buffer>(burst: &mut Burst<B>, mac: MacAddress, counters: &mut PortCounters) {
    burst.flows.clear();
    burst.flow_owners.clear();
    for (index, buffer) in (0..).zip(&burst.buffers) {
        let parsed = if buffer.is_contiguous() {
            parse_frame(buffer.bytes(), mac, counters)
        } else {
            Err(Verdict::Drop(DropReason::Segmented))
        };
        let meta = match parsed {
            Ok((meta, flow)) => {
                if let Some(flow) = flow {
                    burst.flows.push(flow);
                    burst.flow_owners.push(index);
                }
                meta
            }
            Err(verdict) => Meta::of(verdict),
        };
        burst.metas.push(meta);
    }
}

#[inline]
fn parse_frame(
    frame: &[u8],
    mac: MacAddress,
    counters: &mut PortCounters,
) -> Result<(Meta, Option<FlowKey4>), Verdict> {
    let (ethernet, packet) = Ethernet::split(frame).ok_or(Verdict::Drop(DropReason::Runt))?;
    let destination = ethernet.destination();
    let to_group = destination.is_group();
    if destination != mac && !to_group {
        return Err(Verdict::Drop(DropReason::NotForUs));
    }
    match ethernet.ether_type() {
        EtherType::IPV4 => parse_ipv4(packet, to_group, counters),
        EtherType::ARP => Err(Verdict::Punt(PuntReason::Arp)),
        EtherType::IPV6 => Err(Verdict::Punt(PuntReason::Ipv6)),
        _ => Err(Verdict::Drop(DropReason::UnknownEthertype)),
    }
}

#[inline]
fn parse_ipv4(
    packet: &[u8],
    to_group: bool,
    counters: &mut PortCounters,
) -> Result<(Meta, Option<FlowKey4>), Verdict> {
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
    check_addresses(&ip, to_group)?;

    let meta = Meta {
        ip_bytes: ip.total_length(),
        destination: ip.destination(),
        ttl: ip.ttl(),
        class: ip.traffic_class(),
        ..Meta::of(Verdict::Forward)
    };
    if ip.fragment_offset() != 0 {
        // What stands where the ports would be is payload.
        counters.fragments += 1;
        return Ok((meta, None));
    }
    let has_ports = matches!(Protocol(ip.protocol()), Protocol::UDP | Protocol::TCP);
    let transport = packet
        .get(header_length..total_length)
        .filter(|_| has_ports);
    let ports = transport.and_then(|transport| transport.first_chunk());
    let flow = ports.map(|ports| FlowKey4::from_wire(ip.addresses(), ports, ip.protocol()));
    Ok((meta, flow))
}

/// RFC 1812 sections 5.3.4 and 5.3.7.
#[inline]
fn check_addresses(ip: &Ipv4<'_>, to_group: bool) -> Result<(), Verdict> {
    let &[source, _, _, _, destination, _, _, _] = ip.addresses();
    let is_host = |first_octet: u8| !matches!(first_octet, 0 | 127 | 224..);
    if is_host(source) && is_host(destination) && !to_group {
        return Ok(());
    }
    if destination >= 224 {
        // Multicast and broadcast are not forwarded; the kernel may listen to them. A host that has
        // no address yet may send them (RFC 1122 section 3.2.1.3 (a)).
        let listened = destination < 240 || ip.destination() == u32::MAX;
        return Err(match (listened, source) {
            (false, _) => Verdict::Drop(DropReason::MartianDestination),
            (true, 127 | 224..) => Verdict::Drop(DropReason::MartianSource),
            (true, _) => Verdict::Punt(PuntReason::Group),
        });
    }
    Err(Verdict::Drop(if !is_host(destination) {
        DropReason::MartianDestination
    } else if !is_host(source) {
        DropReason::MartianSource
    } else {
        // "A router SHOULD silently discard a packet that is received via a link layer broadcast or
        // multicast but does not specify an IP multicast or broadcast destination address."
        DropReason::LinkGroupUnicast
    }))
}

/// The traffic class of a frame that the router itself sends; nothing when it is not IP.
pub(super) fn traffic_class(frame: &[u8]) -> Option<TrafficClass> {
    let (ethernet, packet) = Ethernet::split(frame)?;
    match (ethernet.ether_type(), packet) {
        (EtherType::IPV4, _) => Ipv4::new(packet).map(|ip| ip.traffic_class()),
        // RFC 8200 section 3: four bits of version, eight of traffic class.
        (EtherType::IPV6, &[first, second, ..]) => Some(TrafficClass(first << 4 | second >> 4)),
        _ => None,
    }
}

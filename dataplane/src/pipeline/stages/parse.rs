mod plain;

use std::net::Ipv6Addr;

use plain::Addressee;

use crate::{
    device::Buffer,
    packet_mask::{PacketMask, packets_in},
    pipeline::{
        burst::Burst,
        burst::{Header, Lookups, Verdict},
        fragments::Fragment,
        headers::tag,
        interface::Interface,
        interface::Port,
        interface::Vlans,
    },
    session::{AddressPair, FlowKey4, FlowKey6, FragmentId, Protocol},
    settings::InterfaceState,
    stats::{DropReason, PortCounters, PuntReason},
    units::{InterfaceIndex, MacAddress},
    wire::Family,
    wire::{
        EtherType, Ethernet, Ipv4, Ipv6, Transport, Upper, is_plain4, is_source_routed,
        options_ask, upper_layer, usage4, usage6,
    },
};

/// Counts the packets, finds each one's interface and headers, takes its VLAN tag and what follows its
/// IP packet off, and checks it.
#[inline(never)]
pub(crate) fn parse<B: Buffer>(
    burst: &mut Burst<B>,
    port: &mut Port,
    interfaces: &mut [Interface],
) {
    let own = InterfaceIndex::from(burst.port);
    burst.ingress.fill(own);
    burst.origins.fill(interfaces[own.index()].origin);
    burst.verdicts.forwarded = burst.all();
    burst.verdicts.heard = 0;
    burst.headers.options = 0;
    burst.headers.confined = 0;
    burst.lookups.fragments.clear();
    // Bursts are mostly of one family.
    let (all, mac) = (burst.all(), Addressee::new(port.mac));
    let up = interfaces[burst.ingress[0].index()].state.up;
    let (ipv4, ipv6) = if !up {
        // Its VLANs may be.
        parse_plain(burst, all, |_, _, _| None);
        (0, 0)
    } else if burst.starts_with(EtherType::IPV6) {
        let ipv6 = parse_plain6(burst, all, mac);
        (parse_plain4(burst, all & !ipv6, mac), ipv6)
    } else {
        let ipv4 = parse_plain4(burst, all, mac);
        (ipv4, parse_plain6(burst, all & !ipv4, mac))
    };
    count(burst, &mut port.counters, interfaces);
    let filled = (ipv4 | ipv6) & burst.with_trailers();
    if filled != 0 {
        cut_trailers(burst, filled);
    }
    burst.lookups.flows4.present = ipv4;
    burst.lookups.flows6.present = ipv6;
    burst.headers.ipv6 = ipv6;
    let rest = all & !(ipv4 | ipv6);
    if rest != 0 {
        parse_rest(burst, rest, &port.vlans, interfaces);
    }
}

/// Says which of these packets are plain IPv4: a loop of its own, which has all registers.
#[inline(never)]
fn parse_plain4<B: Buffer>(burst: &mut Burst<B>, which: PacketMask, mac: Addressee) -> PacketMask {
    parse_plain(burst, which, |frame, place, lookups| {
        let (header, flow) = plain::ipv4(frame, mac)?;
        lookups.flows4.items[place] = flow;
        Some(header)
    })
}

/// The same of IPv6.
#[inline(never)]
fn parse_plain6<B: Buffer>(burst: &mut Burst<B>, which: PacketMask, mac: Addressee) -> PacketMask {
    parse_plain(burst, which, |frame, place, lookups| {
        let (header, flow) = plain::ipv6(frame, mac)?;
        lookups.flows6.items[place] = flow;
        Some(header)
    })
}

/// Says how long each of these frames is, and which are plain packets of one family.
#[inline(always)]
fn parse_plain<B: Buffer>(
    burst: &mut Burst<B>,
    which: PacketMask,
    plain: impl Fn(&[u8], usize, &mut Lookups) -> Option<Header>,
) -> PacketMask {
    let mut rest = 0;
    for place in packets_in(which) {
        burst.prefetch_ahead(place);
        let Some(buffer) = burst.buffers.get(place) else {
            break;
        };
        burst.frame_bytes[place] = frame_bytes(buffer);
        if buffer.is_contiguous() & buffer.stripped_vlan().is_none()
            && let Some(header) = plain(buffer.bytes(), place, &mut burst.lookups)
        {
            burst.headers.put(place, header);
        } else {
            rest |= 1 << place;
        }
    }
    which & !rest
}

/// On the port, and on its own interface.
#[inline]
fn count<B>(burst: &Burst<B>, counters: &mut PortCounters, interfaces: &mut [Interface]) {
    let packets = burst.buffers.len();
    let lengths = burst.frame_bytes.iter().take(packets);
    let bytes: u32 = lengths.copied().map(u32::from).sum();
    let (packets, bytes) = (packets as u64, u64::from(bytes));
    counters.rx_packets += packets;
    counters.rx_bytes += bytes;
    let own = InterfaceIndex::from(burst.port).index();
    let own = &mut interfaces[own].counters;
    own.rx_packets += packets;
    own.rx_bytes += bytes;
}

/// Cuts these frames to their IP packets: meters count the packet's bytes, so whatever follows it would
/// be carried beside what was admitted.
#[cold]
fn cut_trailers<B: Buffer>(burst: &mut Burst<B>, which: PacketMask) {
    for place in packets_in(which) {
        if let Some(buffer) = burst.buffers.get_mut(place) {
            let bytes = Ethernet::frame_bytes(burst.headers.ip_bytes[place]);
            buffer.truncate(bytes);
            burst.frame_bytes[place] = bytes;
        }
    }
}

/// A frame's length; longer ones than can be said do not come.
#[inline]
fn frame_bytes<B: Buffer>(buffer: &B) -> u16 {
    u16::try_from(buffer.bytes().len()).unwrap_or(u16::MAX)
}

/// What is not plain.
#[inline(never)]
fn parse_rest<B: Buffer>(
    burst: &mut Burst<B>,
    rest: PacketMask,
    vlans: &Vlans,
    interfaces: &mut [Interface],
) {
    let Burst {
        buffers,
        frame_bytes,
        ingress,
        origins,
        verdicts,
        headers,
        lookups,
        ..
    } = burst;
    for place in packets_in(rest) {
        let Some(buffer) = buffers.get_mut(place) else {
            continue;
        };
        let ways_in = (&mut ingress[place], vlans);
        let counted = frame_bytes[place].into();
        match parse_any((buffer, counted), place, lookups, ways_in, interfaces) {
            Ok(header) => {
                headers.put(place, header);
                headers.ipv6 |= PacketMask::from(header.family == Family::V6) << place;
                if header.family == Family::V4 {
                    let (options, confined) = unusual(buffer.bytes());
                    headers.options |= PacketMask::from(options) << place;
                    headers.confined |= PacketMask::from(confined) << place;
                }
            }
            Err(verdict) => {
                verdicts.end(place, verdict);
                // The kernel gets it with the code point that it may have.
                if matches!(verdict, Verdict::Punt(_))
                    && let Some(header) = header(buffer.bytes())
                {
                    headers.put(place, header);
                    headers.ipv6 |= PacketMask::from(header.family == Family::V6) << place;
                    verdicts.heard |= 1 << place;
                }
            }
        }
        frame_bytes[place] = self::frame_bytes(buffer);
        origins[place] = interfaces[ingress[place].index()].origin;
    }
}

/// Any frame: what it is. Without its tag, if that is its VLAN's, it came in on another interface.
#[inline(never)]
fn parse_any<B: Buffer>(
    (buffer, counted): (&mut B, u64),
    place: usize,
    lookups: &mut Lookups,
    (ingress, vlans): (&mut InterfaceIndex, &Vlans),
    interfaces: &mut [Interface],
) -> Result<Header, Verdict> {
    let drop = |reason| Err(Verdict::Drop(reason));
    if !buffer.is_contiguous() {
        return drop(DropReason::Segmented);
    }
    let tci = match tag::take(buffer) {
        Ok(tci) => tci,
        Err(reason) => return drop(reason),
    };
    if let Some(tci) = tci {
        let Some(interface) = vlans.interface(tci.vlan()) else {
            return drop(DropReason::UnknownVlan);
        };
        // It was counted on the port's own interface, with so many bytes.
        let own = &mut interfaces[ingress.index()].counters;
        *ingress = interface;
        own.rx_packets -= 1;
        own.rx_bytes -= counted;
        let counters = &mut interfaces[ingress.index()].counters;
        counters.rx_packets += 1;
        counters.rx_bytes += counted;
    }
    let InterfaceState { up, ref macs, .. } = interfaces[ingress.index()].state;
    if !up {
        return drop(DropReason::InterfaceDown);
    }
    if tci.is_some()
        && let Some(&mac) = macs.first()
        && let Some((header, flow)) = plain::ipv4(buffer.bytes(), Addressee::new(mac))
    {
        lookups.flows4.put(place, flow);
        buffer.truncate(Ethernet::frame_bytes(header.ip_bytes));
        return Ok(header);
    }
    let parsed = parse_frame(buffer.bytes(), macs, place, lookups);
    if !matches!(parsed, Err(Verdict::Drop(_)))
        && let Some(ip_bytes) = ip_bytes(buffer.bytes())
    {
        buffer.truncate(Ethernet::frame_bytes(ip_bytes));
    }
    parsed
}

/// The length of the IP packet in a frame that has been parsed; nothing when it carries another
/// protocol.
fn ip_bytes(frame: &[u8]) -> Option<u16> {
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

/// A frame without a tag, on an interface with these addresses.
fn parse_frame(
    frame: &[u8],
    macs: &[MacAddress],
    place: usize,
    lookups: &mut Lookups,
) -> Result<Header, Verdict> {
    let (ethernet, packet) = Ethernet::split(frame).ok_or(Verdict::Drop(DropReason::Runt))?;
    let destination = ethernet.destination();
    let to_group = destination.is_group();
    if !to_group && !macs.contains(&destination) {
        return Err(Verdict::Drop(DropReason::NotForUs));
    }
    match ethernet.ether_type() {
        EtherType::IPV4 => parse_ipv4(packet, to_group, place, lookups),
        EtherType::IPV6 => parse_ipv6(packet, to_group, place, lookups),
        EtherType::ARP => Err(Verdict::Punt(PuntReason::Arp)),
        EtherType::VLAN | EtherType::SERVICE_VLAN => Err(Verdict::Drop(DropReason::DoubleTagged)),
        // As on any host: it has what it listens to.
        _ => Err(Verdict::Punt(PuntReason::LinkLayer)),
    }
}

fn parse_ipv4(
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
        family: Family::V4,
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

/// Source and destination port, of the protocols that have them.
#[inline]
fn ports(packet: Option<&[u8]>, offset: usize, protocol: u8) -> Option<&[u8; 4]> {
    match Protocol(protocol) {
        Protocol::UDP | Protocol::TCP => packet?.get(offset..)?.first_chunk(),
        _ => None,
    }
}

fn parse_ipv6(
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
        family: Family::V6,
        class: ip.traffic_class(),
        ttl: ip.hop_limit(),
        ip_bytes,
    })
}

/// Whether an IPv4 packet has options that ask for something, and whether it may be for the router itself, but not be forwarded.
fn unusual(frame: &[u8]) -> (bool, bool) {
    let packet = frame.get(Ethernet::LENGTH..).unwrap_or_default();
    let Some(ip) = Ipv4::new(packet) else {
        return (false, false);
    };
    let &[a, b, c, d, e, f, g, h] = ip.addresses();
    let forwardable = usage4([a, b, c, d]).forwardable && usage4([e, f, g, h]).forwardable;
    let options = packet.get(Ipv4::LENGTH..ip.header_length());
    (options_ask(options.unwrap_or_default()), !forwardable)
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

/// Of a packet that is for the kernel before anybody has asked for its flow.
fn header(frame: &[u8]) -> Option<Header> {
    let (ethernet, packet) = Ethernet::split(frame)?;
    match ethernet.ether_type() {
        EtherType::IPV4 => Ipv4::new(packet).map(|ip| Header {
            family: Family::V4,
            class: ip.traffic_class(),
            ttl: ip.ttl(),
            ip_bytes: ip.total_length(),
        }),
        EtherType::IPV6 => Ipv6::new(packet).map(|ip| Header {
            family: Family::V6,
            class: ip.traffic_class(),
            ttl: ip.hop_limit(),
            ip_bytes: ip.payload_length().saturating_add(40),
        }),
        _ => None,
    }
}

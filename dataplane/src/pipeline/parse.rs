use std::net::Ipv6Addr;

use super::{Burst, Family, Fragment, Interface, Lookups, Meta, Verdict, Vlans, tag};
use crate::{
    counters::{DropReason, PuntReason},
    device::Buffer,
    diffserv::TrafficClass,
    session::{AddressPair, FlowKey4, FlowKey6, FragmentId, Protocol},
    units::{InterfaceIndex, MacAddress},
    wire::{
        EtherType, Ethernet, Ipv4, Ipv6, Transport, Upper, header_checksum_is_right, upper_layer,
    },
};

/// Finds each packet's interface and headers, takes its VLAN tag off, and checks it.
#[inline(never)]
pub(super) fn parse<B: Buffer>(
    burst: &mut Burst<B>,
    mac: MacAddress,
    vlans: &Vlans,
    interfaces: &mut [Interface],
) {
    let lookups = &mut burst.lookups;
    lookups.clear();
    let own = InterfaceIndex::from(burst.ingress);
    let packets = burst.buffers.iter_mut().zip(&mut burst.metas);
    for (place, (buffer, meta)) in packets.enumerate() {
        if buffer.is_contiguous() & buffer.stripped_vlan().is_none() {
            let frame = buffer.bytes();
            if let Some(plain) = Plain4::new(frame, mac) {
                *meta = plain.parse(place, own, lookups);
                continue;
            }
            if let Some(plain) = Plain6::new(frame, mac) {
                *meta = plain.parse(place, own, lookups);
                continue;
            }
        }
        parse_rest(buffer, meta, mac, place, lookups, (own, vlans), interfaces);
    }
}

/// Apart from the loop, which it would make longer for all.
#[inline(never)]
fn parse_rest<B: Buffer>(
    buffer: &mut B,
    meta: &mut Meta,
    mac: MacAddress,
    place: usize,
    lookups: &mut Lookups,
    ways_in: (InterfaceIndex, &Vlans),
    interfaces: &mut [Interface],
) {
    let (ingress, found) = parse_any(buffer, mac, place, lookups, ways_in, interfaces);
    let found = found.unwrap_or_else(Meta::of);
    *meta = Meta { ingress, ..found };
}

/// Any frame: the interface that it came in on, and what it is.
fn parse_any<B: Buffer>(
    buffer: &mut B,
    mac: MacAddress,
    place: usize,
    lookups: &mut Lookups,
    (own, vlans): (InterfaceIndex, &Vlans),
    interfaces: &mut [Interface],
) -> (InterfaceIndex, Result<Meta, Verdict>) {
    let drop = |reason| (own, Err(Verdict::Drop(reason)));
    if !buffer.is_contiguous() {
        return drop(DropReason::Segmented);
    }
    let received_bytes = buffer.bytes().len() as u64;
    let tci = match tag::take(buffer) {
        Ok(tci) => tci,
        Err(reason) => return drop(reason),
    };
    let mut ingress = own;
    if let Some(tci) = tci {
        match vlans.interface(tci.vlan()) {
            Some(interface) => ingress = interface,
            None => return drop(DropReason::UnknownVlan),
        }
        // It was counted on the port's own interface.
        let own = &mut interfaces[own.index()].counters;
        own.rx_packets -= 1;
        own.rx_bytes -= received_bytes;
        let counters = &mut interfaces[ingress.index()].counters;
        counters.rx_packets += 1;
        counters.rx_bytes += received_bytes;
        if let Some(plain) = Plain4::new(buffer.bytes(), mac) {
            return (ingress, Ok(plain.parse(place, ingress, lookups)));
        }
    }
    (ingress, parse_frame(buffer.bytes(), mac, place, lookups))
}

/// The headers of the packets that are most of the traffic: unicast, IPv4 without options, UDP or TCP,
/// no fragment, nothing wrong. [`parse_frame`] says the same of them with four times the branches.
struct Plain4<'a> {
    ip: &'a [u8; 20],
    ports: &'a [u8; 4],
}

impl<'a> Plain4<'a> {
    /// Nothing of any other packet.
    #[inline]
    fn new(frame: &'a [u8], mac: MacAddress) -> Option<Self> {
        let header: &[u8; 38] = frame.first_chunk()?;
        let (ethernet, packet) = header.split_first_chunk::<14>()?;
        let (ip, ports) = packet.split_first_chunk::<20>()?;
        let ports = ports.first_chunk()?;
        let fragment = u16::from_le_bytes([ip[6], ip[7]]);
        let total_length = u16::from_be_bytes([ip[2], ip[3]]);
        let plain = is_for(ethernet, mac)
            & (kind(ethernet, ip[0], ip[1]) & 0x00ff_ffff == IPV4_WITHOUT_OPTIONS)
            & (fragment & UNFRAGMENTED == 0)
            & (usize::from(total_length).wrapping_sub(24) <= frame.len() - header.len())
            & matches!(Protocol(ip[9]), Protocol::UDP | Protocol::TCP)
            & HOSTS[usize::from(ip[12])]
            & HOSTS[usize::from(ip[16])]
            & header_checksum_is_right(ip);
        plain.then_some(Self { ip, ports })
    }

    #[inline]
    fn parse(&self, place: usize, ingress: InterfaceIndex, lookups: &mut Lookups) -> Meta {
        let Self { ip, ports } = *self;
        let [.., d0, d1, d2, d3] = *ip;
        if let Some(destination) = lookups.destinations4.get_mut(place) {
            *destination = u32::from_be_bytes([d0, d1, d2, d3]);
        }
        let [.., a, b, c, d, e, f, g, h] = *ip;
        let flow = FlowKey4::from_wire(&[a, b, c, d, e, f, g, h], ports, ip[9]);
        lookups.flows4.put(place, flow);
        Meta {
            ip_bytes: u16::from_be_bytes([ip[2], ip[3]]).into(),
            ttl: ip[8],
            class: TrafficClass(ip[1]),
            dscp: TrafficClass(ip[1]).dscp(),
            ingress,
            ..Meta::of(Verdict::Forward)
        }
    }
}

/// The same of IPv6: without extension headers, between addresses of hosts past the link.
struct Plain6<'a> {
    ip: &'a [u8; 40],
    ports: &'a [u8; 4],
}

impl<'a> Plain6<'a> {
    /// Nothing of any other packet.
    #[inline]
    fn new(frame: &'a [u8], mac: MacAddress) -> Option<Self> {
        let header: &[u8; 58] = frame.first_chunk()?;
        let (ethernet, packet) = header.split_first_chunk::<14>()?;
        let (ip, ports) = packet.split_first_chunk::<40>()?;
        let ports = ports.first_chunk()?;
        let payload_length = u16::from_be_bytes([ip[4], ip[5]]);
        let plain = is_for(ethernet, mac)
            & (kind(ethernet, ip[0], ip[1]) & 0x00f0_ffff == IPV6)
            & (usize::from(payload_length).wrapping_sub(4) <= frame.len() - header.len())
            & matches!(Protocol(ip[6]), Protocol::UDP | Protocol::TCP)
            & is_global(ip[8])
            & is_global(ip[24]);
        plain.then_some(Self { ip, ports })
    }

    #[inline]
    fn parse(&self, place: usize, ingress: InterfaceIndex, lookups: &mut Lookups) -> Meta {
        let Self { ip, ports } = *self;
        if let (Some(addresses), Some(destination)) = (ip.last_chunk(), ip.last_chunk()) {
            let flow = FlowKey6::from_wire(addresses, ports, ip[6]);
            lookups.flows6.put(place, flow);
            lookups.destinations6.push(place, *destination);
        }
        let class = TrafficClass(ip[0] << 4 | ip[1] >> 4);
        Meta {
            ip_bytes: u32::from(u16::from_be_bytes([ip[4], ip[5]])) + 40,
            family: Family::V6,
            ttl: ip[7],
            class,
            dscp: class.dscp(),
            ingress,
            ..Meta::of(Verdict::Forward)
        }
    }
}

/// Whether a frame is addressed to us: words as they lie there, so that six bytes are compared at
/// once.
#[inline]
fn is_for(ethernet: &[u8; 14], mac: MacAddress) -> bool {
    let [m0, m1, m2, m3, m4, m5, s0, s1, ..] = *ethernet;
    let [a, b, c, d, e, f] = mac.0;
    let to = u64::from_le_bytes([m0, m1, m2, m3, m4, m5, s0, s1]);
    (to ^ u64::from_le_bytes([a, b, c, d, e, f, 0, 0])) << 16 == 0
}

/// Ethernet's type, and the first two bytes behind it, as they lie there.
#[inline]
fn kind(ethernet: &[u8; 14], first: u8, second: u8) -> u32 {
    let [.., t0, t1] = *ethernet;
    u32::from_le_bytes([t0, t1, first, second])
}

/// Ethernet's type, and IPv6's version, as [`kind`] has them.
const IPV6: u32 = u32::from_le_bytes([0x86, 0xdd, 0x60, 0]);

/// Whether a first octet is one of global unicast addresses (2000::/3, RFC 4291 section 2.4) or of
/// unique local ones (fc00::/7, RFC 4193).
#[inline]
fn is_global(first_octet: u8) -> bool {
    (first_octet & 0xe0 == 0x20) | (first_octet & 0xfe == 0xfc)
}

/// Ethernet's type, IPv4's version and header length, as [`kind`] has them.
const IPV4_WITHOUT_OPTIONS: u32 = u32::from_le_bytes([0x08, 0x00, 0x45, 0]);
/// The bits of IPv4's flags and offset that only fragments have, as they lie there.
const UNFRAGMENTED: u16 = u16::from_le_bytes([0x3f, 0xff]);

/// [`is_host`] of each first octet.
const HOSTS: [bool; 256] = {
    let mut hosts = [false; 256];
    let mut octet = 0_u8;
    loop {
        hosts[octet as usize] = is_host(octet);
        if octet == u8::MAX {
            break hosts;
        }
        octet += 1;
    }
};

/// Whether a first octet is one of a host's addresses: not 0/8, 127/8, multicast, reserved.
const fn is_host(first_octet: u8) -> bool {
    !matches!(first_octet, 0 | 127 | 224..)
}

/// A frame without a tag.
fn parse_frame(
    frame: &[u8],
    mac: MacAddress,
    place: usize,
    lookups: &mut Lookups,
) -> Result<Meta, Verdict> {
    let (ethernet, packet) = Ethernet::split(frame).ok_or(Verdict::Drop(DropReason::Runt))?;
    let destination = ethernet.destination();
    let to_group = destination.is_group();
    if destination != mac && !to_group {
        return Err(Verdict::Drop(DropReason::NotForUs));
    }
    match ethernet.ether_type() {
        EtherType::IPV4 => parse_ipv4(packet, to_group, place, lookups),
        EtherType::IPV6 => parse_ipv6(packet, to_group, place, lookups),
        EtherType::ARP => Err(Verdict::Punt(PuntReason::Arp)),
        EtherType::VLAN | EtherType::SERVICE_VLAN => Err(Verdict::Drop(DropReason::DoubleTagged)),
        _ => Err(Verdict::Drop(DropReason::UnknownEthertype)),
    }
}

fn parse_ipv4(
    packet: &[u8],
    to_group: bool,
    place: usize,
    lookups: &mut Lookups,
) -> Result<Meta, Verdict> {
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

    if let Some(destination) = lookups.destinations4.get_mut(place) {
        *destination = ip.destination();
    }
    let meta = Meta {
        ip_bytes: ip.total_length().into(),
        ttl: ip.ttl(),
        class: ip.traffic_class(),
        dscp: ip.traffic_class().dscp(),
        ..Meta::of(Verdict::Forward)
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
    Ok(meta)
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
) -> Result<Meta, Verdict> {
    let drop = |reason| Err(Verdict::Drop(reason));
    let Some(ip) = Ipv6::new(packet) else {
        return drop(DropReason::Ipv6Truncated);
    };
    if ip.version() != 6 {
        return drop(DropReason::Ipv6Version);
    }
    let total_length = Ipv6::LENGTH + usize::from(ip.payload_length());
    let Some(whole) = packet.get(..total_length) else {
        return drop(DropReason::Ipv6PayloadLength);
    };
    let (source, destination) = (
        Ipv6Addr::from(*ip.source()),
        Ipv6Addr::from(*ip.destination()),
    );
    // RFC 4291 section 2.7: "Multicast addresses must not be used as source addresses in IPv6
    // packets". Section 2.5.3: the loopback address "must never be sent outside of a single node".
    if source.is_multicast() || source.is_loopback() {
        return drop(DropReason::MartianSource);
    }
    if destination.is_loopback() || destination.is_unspecified() {
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
        Upper::Fragment(identification) => {
            let fragment = fragment(identification, false);
            lookups.fragments.push(place, fragment);
        }
        Upper::Opaque => {}
    }
    lookups.destinations6.push(place, *ip.destination());
    Ok(Meta {
        ip_bytes: u32::from(ip.payload_length()) + 40,
        family: Family::V6,
        ttl: ip.hop_limit(),
        class: ip.traffic_class(),
        dscp: ip.traffic_class().dscp(),
        ..Meta::of(Verdict::Forward)
    })
}

/// RFC 1812 sections 5.3.4 and 5.3.7.
#[inline]
fn check_addresses(ip: &Ipv4<'_>, to_group: bool) -> Result<(), Verdict> {
    let &[source, _, _, _, destination, _, _, _] = ip.addresses();
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
    match ethernet.ether_type() {
        EtherType::IPV4 => Ipv4::new(packet).map(|ip| ip.traffic_class()),
        EtherType::IPV6 => Ipv6::new(packet).map(|ip| ip.traffic_class()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, strategy::ValueTree};

    use super::*;

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

    /// A plain packet of 42 to 82 bytes, then with a few bytes changed, and mostly with a right
    /// checksum.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let changes = prop::collection::vec((0_usize..44, any::<u8>()), 0..3);
        let cut = prop_oneof![4 => Just(0_usize), 1 => 0_usize..60];
        (28_u8..68, changes, cut, 0..4).prop_map(|(total, changes, cut, checksum)| {
            let mut frame = [&MAC.0[..], &[2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0, total]].concat();
            frame.extend([0, 1, 0, 0, 64, 17, 0, 0, 10, 1, 0, 5, 10, 2, 0, 7]);
            frame.resize(14 + usize::from(total), 0x5a);
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if checksum > 0 {
                frame[24..26].fill(0);
                let sum: u32 = frame[14..34]
                    .chunks(2)
                    .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                    .sum();
                let folded = (sum & 0xffff) + (sum >> 16);
                let folded = u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
                frame[24..26].copy_from_slice(&(!folded).to_be_bytes());
            }
            frame.truncate(frame.len() - cut.min(frame.len()));
            frame
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_096, ..ProptestConfig::default() })]

        /// The short way says nothing, or what the long way says.
        #[test]
        fn plain_packets_are_parsed_alike(frame in frame()) {
            if let Some(plain) = Plain4::new(&frame, MAC) {
                let (mut short, mut long) = (Lookups::new(), Lookups::new());
                let meta = plain.parse(3, InterfaceIndex(0), &mut short);
                let expected = parse_frame(&frame, MAC, 3, &mut long).unwrap();
                prop_assert_eq!(format!("{meta:?}"), format!("{expected:?}"));
                prop_assert!(short.flows4.at(3).is_some());
                prop_assert_eq!(format!("{short:?}"), format!("{long:?}"));
            }
        }
    }

    /// A plain packet of 58 to 98 bytes, then with a few bytes changed, and mostly not cut.
    fn frame6() -> impl Strategy<Value = Vec<u8>> {
        let changes = prop::collection::vec((0_usize..62, any::<u8>()), 0..3);
        let cut = prop_oneof![4 => Just(0_usize), 1 => 0_usize..80];
        (4_u8..44, changes, cut).prop_map(|(payload, changes, cut)| {
            let mut frame = [&MAC.0[..], &[2, 0, 0, 0, 0, 9, 0x86, 0xdd, 0x6b, 0x81]].concat();
            frame.extend([2, 3, 0, payload, 17, 64]);
            for last in [5, 7] {
                frame.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
            }
            frame.resize(54 + usize::from(payload), 0x5a);
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            frame.truncate(frame.len() - cut.min(frame.len()));
            frame
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_096, ..ProptestConfig::default() })]

        /// The short way says nothing, or what the long way says; of IPv6.
        #[test]
        fn plain_ipv6_packets_are_parsed_alike(frame in frame6()) {
            if let Some(plain) = Plain6::new(&frame, MAC) {
                let (mut short, mut long) = (Lookups::new(), Lookups::new());
                let meta = plain.parse(3, InterfaceIndex(0), &mut short);
                let expected = parse_frame(&frame, MAC, 3, &mut long).unwrap();
                prop_assert_eq!(format!("{meta:?}"), format!("{expected:?}"));
                prop_assert!(short.flows6.at(3).is_some());
                prop_assert_eq!(format!("{short:?}"), format!("{long:?}"));
            }
        }
    }

    #[test]
    fn the_short_way_takes_calls() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let taken = (0..500).filter(|_| {
            let frame = frame().new_tree(&mut runner).unwrap().current();
            Plain4::new(&frame, MAC).is_some()
        });
        assert!(taken.count() > 100, "mostly plain packets, mostly taken");
        let taken = (0..500).filter(|_| {
            let frame = frame6().new_tree(&mut runner).unwrap().current();
            Plain6::new(&frame, MAC).is_some()
        });
        assert!(taken.count() > 100, "mostly plain packets, mostly taken");
    }
}

mod ip;
mod plain;

use plain::Addressee;

use crate::{
    device::Buffer,
    packet_mask::{PacketMask, packets_in},
    pipeline::{
        burst::{Burst, Header, Lookups, Verdict},
        headers::tag,
        interface::{Interface, Port, Vlans},
    },
    settings::InterfaceState,
    stats::{DropReason, PortCounters, PuntReason},
    units::{InterfaceIndex, MacAddress},
    wire::{EtherType, Ethernet, IpVersion},
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
                headers.ipv6 |= PacketMask::from(header.family == IpVersion::V6) << place;
                if header.family == IpVersion::V4 {
                    let (options, confined) = ip::unusual(buffer.bytes());
                    headers.options |= PacketMask::from(options) << place;
                    headers.confined |= PacketMask::from(confined) << place;
                }
            }
            Err(verdict) => {
                verdicts.end(place, verdict);
                // The kernel gets it with the code point that it may have.
                if matches!(verdict, Verdict::Punt(_))
                    && let Some(header) = ip::header(buffer.bytes())
                {
                    headers.put(place, header);
                    headers.ipv6 |= PacketMask::from(header.family == IpVersion::V6) << place;
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
        && let Some(ip_bytes) = ip::ip_bytes(buffer.bytes())
    {
        buffer.truncate(Ethernet::frame_bytes(ip_bytes));
    }
    parsed
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
        EtherType::IPV4 => ip::ipv4(packet, to_group, place, lookups),
        EtherType::IPV6 => ip::ipv6(packet, to_group, place, lookups),
        EtherType::ARP => Err(Verdict::Punt(PuntReason::Arp)),
        EtherType::VLAN | EtherType::SERVICE_VLAN => Err(Verdict::Drop(DropReason::DoubleTagged)),
        // As on any host: it has what it listens to.
        _ => Err(Verdict::Punt(PuntReason::LinkLayer)),
    }
}

#[cfg(test)]
mod tests;

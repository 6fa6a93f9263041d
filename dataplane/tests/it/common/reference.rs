//! A forwarder for comparison: one frame at a time, straight from RFC 1812, RFC 2474 and RFC 8200, sharing no
//! code with the data plane. It says what must become of a frame, byte by byte but for its code point,
//! which depends on sessions, rules and meters: for that it gives what the test permits.

mod ledger;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use ledger::{Exit, Ledger, canonical};
use voicelane_dataplane::units::{MacAddress, PortIndex};

use super::{CORE, CORE_MAC, EDGE, EDGE_MAC, HOST_MAC, PEER_MAC};

/// What a route leads to.
#[derive(Clone, Copy, Debug)]
pub enum Hop {
    /// A neighbour out of an interface.
    Neighbour {
        interface: usize,
        source: [u8; 6],
        destination: [u8; 6],
    },
    /// The kernel resolves it.
    Unknown,
    Blackhole,
    /// An address of the router itself.
    Own,
}

/// An interface: a port, or one of its VLANs.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    pub port: u8,
    pub vlan: Option<u16>,
    pub mac: [u8; 6],
    pub mtu: usize,
    /// The only prefixes that sources may have (RFC 3704 section 2.2).
    pub sources: Option<&'static [(&'static str, u8)]>,
}

/// What a test's rules, sessions and trust may look at.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub interface: usize,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Of fragments other than the first in IPv6, 44.
    pub protocol: u8,
    pub ports: Option<(u16, u16)>,
    pub fragment: bool,
    pub dscp: u8,
}

/// What must become of a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// Leaves by a port.
    Leaves {
        port: u8,
        frame: Vec<u8>,
        permitted: u64,
    },
    /// The kernel gets it at the interface where it came in.
    Kernel {
        interface: usize,
        frame: Vec<u8>,
        permitted: u64,
    },
    /// Dropped for what its headers say.
    Faulty,
    /// Dropped for where it is to go.
    Nowhere,
}

/// The router's configuration, as far as it matters to a single frame.
pub struct Reference {
    pub interfaces: Vec<Interface>,
    /// The longest prefix counts.
    pub routes: Vec<(IpAddr, u8, Hop)>,
    /// The code points that a packet may leave with, a bit for each.
    pub permitted: fn(&Packet) -> u64,
}

impl Reference {
    /// Of a rig with VLANs 100 and 200 at the edge, 300 in the core, and routes to them.
    pub fn usual(permitted: fn(&Packet) -> u64) -> Self {
        let interface = |port: PortIndex, vlan, MacAddress(mac)| Interface {
            port: port.0,
            vlan,
            mac,
            mtu: 1500,
            sources: None,
        };
        let neighbour = |interface, MacAddress(source), MacAddress(destination)| Hop::Neighbour {
            interface,
            source,
            destination,
        };
        let routes = [
            ("10.1.0.0", 16, neighbour(0, EDGE_MAC, HOST_MAC)),
            ("2001:db8:1::", 48, neighbour(0, EDGE_MAC, HOST_MAC)),
            ("10.2.0.0", 16, neighbour(1, CORE_MAC, PEER_MAC)),
            ("2001:db8:2::", 48, neighbour(1, CORE_MAC, PEER_MAC)),
            ("10.3.0.0", 16, Hop::Unknown),
            ("2001:db8:3::", 48, Hop::Unknown),
            ("10.4.0.0", 16, Hop::Blackhole),
            ("2001:db8:4::", 48, Hop::Blackhole),
            ("10.1.0.1", 32, Hop::Own),
            ("2001:db8:1::1", 128, Hop::Own),
            ("10.5.0.0", 16, neighbour(4, CORE_MAC, PEER_MAC)),
            ("2001:db8:5::", 48, neighbour(4, CORE_MAC, PEER_MAC)),
            ("10.6.0.0", 16, neighbour(2, EDGE_MAC, HOST_MAC)),
        ];
        Self {
            interfaces: vec![
                interface(EDGE, None, EDGE_MAC),
                interface(CORE, None, CORE_MAC),
                interface(EDGE, Some(100), EDGE_MAC),
                interface(EDGE, Some(200), EDGE_MAC),
                interface(CORE, Some(300), CORE_MAC),
            ],
            routes: routes
                .map(|(prefix, length, hop)| (prefix.parse().unwrap(), length, hop))
                .to_vec(),
            permitted,
        }
    }
}

/// A bit for a code point.
pub fn code_point(dscp: u8) -> u64 {
    1 << dscp
}

/// The device's mark for what had a service tag: a frame of this length, beside a tag.
const SERVICE_TAGGED_BYTES: usize = 12;

impl Reference {
    /// What must become of a frame that comes in on a port; `stripped` is a tag that the device has taken off.
    pub fn fate(&self, port: u8, stripped: Option<u16>, frame: &[u8]) -> Fate {
        let Some((interface, frame)) = self.untag(port, stripped, frame) else {
            return Fate::Faulty;
        };
        if frame.len() < 14 {
            return Fate::Faulty;
        }
        let to_group = frame[0] & 1 == 1;
        if !to_group && frame[..6] != self.interfaces[interface].mac {
            return Fate::Faulty;
        }
        match (frame[12], frame[13]) {
            (0x08, 0x00) => self.ipv4(interface, &frame, to_group),
            (0x86, 0xdd) => self.ipv6(interface, &frame, to_group),
            // In another tag.
            (0x81, 0x00) | (0x88, 0xa8) => Fate::Faulty,
            // ARP, the link's own protocols: nothing of it is changed.
            _ => Fate::Kernel {
                interface,
                frame,
                permitted: u64::MAX,
            },
        }
    }

    /// The interface that a frame came in on, and the frame without its tag (IEEE 802.1Q).
    fn untag(&self, port: u8, stripped: Option<u16>, frame: &[u8]) -> Option<(usize, Vec<u8>)> {
        let has_tag = frame.len() >= 14 && frame[12..14] == [0x81, 0x00];
        let (tci, frame) = match stripped {
            Some(tci) if frame.len() != SERVICE_TAGGED_BYTES => (Some(tci), frame.to_vec()),
            None if has_tag && frame.len() >= 18 => {
                let tci = u16::from_be_bytes([frame[14], frame[15]]);
                (Some(tci), [&frame[..12], &frame[16..]].concat())
            }
            None if !has_tag => (None, frame.to_vec()),
            _ => return None,
        };
        // VLAN 0 is none: the tag has a priority only.
        let vlan = tci.map(|tci| tci & 0xfff).filter(|vlan| *vlan != 0);
        let interface = (self.interfaces.iter()).position(|it| it.port == port && it.vlan == vlan);
        interface.map(|interface| (interface, frame))
    }

    fn ipv4(&self, interface: usize, frame: &[u8], to_group: bool) -> Fate {
        let ip = &frame[14..];
        // RFC 1812 section 5.2.2, (1) to (5).
        if ip.len() < 20 || ip[0] >> 4 != 4 {
            return Fate::Faulty;
        }
        let header = usize::from(ip[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        if header < 20 || header > ip.len() || total < header || total > ip.len() {
            return Fate::Faulty;
        }
        if ones_sum(&ip[..header]) != 0xffff {
            return Fate::Faulty;
        }
        let options = &ip[20..header];
        if has_source_route(options) {
            return Fate::Faulty;
        }
        let source = Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]);
        let destination = Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]);
        let frame = cut(frame, total);
        let [s, ..] = source.octets();
        let [d, ..] = destination.octets();
        let broadcast = destination == Ipv4Addr::BROADCAST;
        let multicast = (224..240).contains(&d);
        // RFC 1812 sections 4.2.2.11 and 5.3.7: what may be no destination, what may be no source.
        if matches!(d, 0 | 127) || (d >= 240 && !broadcast) || s == 127 || s >= 224 {
            return Fate::Faulty;
        }
        if s == 0 && !multicast && !broadcast {
            return Fate::Faulty;
        }
        let offset = (u16::from(ip[6]) << 8 | u16::from(ip[7])) & 0x1fff;
        let ports = (matches!(ip[9], 6 | 17) && offset == 0 && total >= header + 4).then(|| {
            let of = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
            (of(header), of(header + 2))
        });
        let packet = Packet {
            interface,
            source: source.into(),
            destination: destination.into(),
            protocol: ip[9],
            ports,
            fragment: ip[6] & 0x3f != 0 || ip[7] != 0,
            dscp: ip[1] >> 2,
        };
        let kernel = || self.kernel(&packet, frame);
        if multicast || broadcast {
            return kernel();
        }
        // RFC 1812 section 5.3.4: a link-layer group address, and a unicast address.
        if to_group || matches!(self.route(packet.source), Some(Hop::Own)) {
            return Fate::Faulty;
        }
        if !self.may_come_from(interface, packet.source) {
            return Fate::Faulty;
        }
        // RFC 2131 section 4.1: a client has no address yet.
        if ip[9] == 17 && ports.is_some_and(|(_, to)| to == 68) {
            return kernel();
        }
        let link_local = |address: Ipv4Addr| address.octets()[..2] == [169, 254];
        let confined = link_local(source) || link_local(destination);
        let asks = options
            .iter()
            .find(|kind| **kind != 1)
            .is_some_and(|kind| *kind != 0);
        self.forward(&packet, frame, ip[8], confined, asks)
    }

    fn ipv6(&self, interface: usize, frame: &[u8], to_group: bool) -> Fate {
        let ip = &frame[14..];
        if ip.len() < 40 || ip[0] >> 4 != 6 {
            return Fate::Faulty;
        }
        let total = 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        if total > ip.len() {
            return Fate::Faulty;
        }
        let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap());
        let (source, destination) = (address(8), address(24));
        // RFC 4291 section 2.
        let nobodys = |it: &Ipv6Addr| it.is_loopback() || it.to_ipv4_mapped().is_some();
        if nobodys(&source) || source.is_multicast() {
            return Fate::Faulty;
        }
        if nobodys(&destination) || destination.is_unspecified() {
            return Fate::Faulty;
        }
        let (protocol, ports, fragment) = upper_layer(&ip[..total]);
        let packet = Packet {
            interface,
            source: source.into(),
            destination: destination.into(),
            protocol,
            ports,
            fragment,
            dscp: (ip[0] << 4 | ip[1] >> 4) >> 2,
        };
        let frame = cut(frame, total);
        let on_link = |it: &Ipv6Addr| it.segments()[0] & 0xffc0 == 0xfe80;
        if destination.is_multicast()
            || source.is_unspecified()
            || on_link(&source)
            || on_link(&destination)
        {
            return self.kernel(&packet, frame);
        }
        if to_group || matches!(self.route(packet.source), Some(Hop::Own)) {
            return Fate::Faulty;
        }
        if !self.may_come_from(interface, packet.source) {
            return Fate::Faulty;
        }
        self.forward(&packet, frame, ip[7], false, false)
    }

    fn kernel(&self, packet: &Packet, frame: &[u8]) -> Fate {
        Fate::Kernel {
            interface: packet.interface,
            frame: frame.to_vec(),
            permitted: (self.permitted)(packet),
        }
    }

    /// RFC 1812 section 5.2.1 and RFC 8200 section 3, of a packet without faults.
    fn forward(&self, packet: &Packet, frame: &[u8], ttl: u8, confined: bool, asks: bool) -> Fate {
        let (out, source, destination) = match self.route(packet.destination) {
            Some(Hop::Own) => return self.kernel(packet, frame),
            _ if confined => return Fate::Nowhere,
            Some(Hop::Blackhole) => return Fate::Nowhere,
            None | Some(Hop::Unknown) => return self.kernel(packet, frame),
            Some(Hop::Neighbour {
                interface,
                source,
                destination,
            }) => (interface, source, destination),
        };
        let out = &self.interfaces[out];
        if ttl <= 1 || asks || frame.len() - 14 > out.mtu {
            return self.kernel(packet, frame);
        }
        let mut frame = frame.to_vec();
        frame[..6].copy_from_slice(&destination);
        frame[6..12].copy_from_slice(&source);
        if frame[14] >> 4 == 4 {
            // RFC 1812 section 5.3.1; the checksum from nothing.
            frame[22] -= 1;
            frame[24..26].fill(0);
            let header = usize::from(frame[14] & 15) * 4;
            let checksum = !ones_sum(&frame[14..14 + header]);
            frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        } else {
            frame[21] -= 1;
        }
        if let Some(vlan) = out.vlan {
            let tag = [0x81, 0x00, vlan.to_be_bytes()[0], vlan.to_be_bytes()[1]];
            frame.splice(12..12, tag);
        }
        Fate::Leaves {
            port: out.port,
            frame,
            permitted: (self.permitted)(packet),
        }
    }

    fn route(&self, address: IpAddr) -> Option<Hop> {
        let having = self
            .routes
            .iter()
            .filter(|(prefix, length, _)| has(*prefix, *length, address));
        having
            .max_by_key(|(_, length, _)| *length)
            .map(|(_, _, hop)| *hop)
    }

    fn may_come_from(&self, interface: usize, source: IpAddr) -> bool {
        let sources = self.interfaces[interface].sources;
        sources.is_none_or(|sources| {
            let mut prefixes = sources.iter();
            prefixes.any(|(prefix, length)| has(prefix.parse().unwrap(), *length, source))
        })
    }

    /// What the kernel sends out of an interface leaves by its port, with the interface's tag; only its code point,
    /// and the priority of tags, may be others.
    pub fn injected(&self, interface: usize, frame: &[u8]) -> (u8, Vec<u8>) {
        let Interface { port, vlan, .. } = self.interfaces[interface];
        let mut frame = frame.to_vec();
        if let Some(vlan) = vlan {
            let tag = [0x81, 0x00, vlan.to_be_bytes()[0], vlan.to_be_bytes()[1]];
            frame.splice(12..12, tag);
        }
        (port, frame)
    }
}

/// The frame up to the end of its packet; what fills it up to Ethernet's least length stays (IEEE 802.3 section
/// 3.2.8).
fn cut(frame: &[u8], packet: usize) -> &[u8] {
    &frame[..(14 + packet).max(60).min(frame.len())]
}

/// Whether an address has a prefix.
fn has(prefix: IpAddr, length: u8, address: IpAddr) -> bool {
    match (prefix, address) {
        (IpAddr::V4(prefix), IpAddr::V4(address)) => {
            let differ = u32::from(prefix) ^ u32::from(address);
            differ.leading_zeros() >= length.into()
        }
        (IpAddr::V6(prefix), IpAddr::V6(address)) => {
            let differ = u128::from(prefix) ^ u128::from(address);
            differ.leading_zeros() >= length.into()
        }
        _ => false,
    }
}

/// RFC 1071 section 4.1.
fn ones_sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// RFC 791 section 3.1: loose (131) or strict (137) source and record route.
fn has_source_route(options: &[u8]) -> bool {
    let mut at = 0;
    while at < options.len() {
        match options[at] {
            131 | 137 => return true,
            0 => return false,
            1 => at += 1,
            _ if at + 1 < options.len() && options[at + 1] >= 2 => {
                at += usize::from(options[at + 1])
            }
            _ => return false,
        }
    }
    false
}

/// Protocol, ports, and whether it is a part of several (RFC 8200 section 4; RFC 6946: one of one is whole).
fn upper_layer(ip: &[u8]) -> (u8, Option<(u16, u16)>, bool) {
    let (mut next, mut at, mut fragment) = (ip[6], 40, false);
    for _ in 0..8 {
        if !matches!(next, 0 | 43 | 44 | 51 | 60) {
            let ports = matches!(next, 6 | 17) && at + 4 <= ip.len();
            let of = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
            return (next, ports.then(|| (of(at), of(at + 2))), fragment);
        }
        if at + 4 > ip.len() || (next == 44 && at + 8 > ip.len()) {
            return (ip[6], None, fragment);
        }
        let (after, length) = (ip[at], usize::from(ip[at + 1]));
        match next {
            44 => {
                let place = u16::from_be_bytes([ip[at + 2], ip[at + 3]]);
                if place >> 3 != 0 {
                    return (44, None, true);
                }
                fragment |= place & 1 == 1;
                at += 8;
            }
            51 => at += (length + 2) * 4,
            _ => at += (length + 1) * 8,
        }
        next = after;
    }
    (ip[6], None, fragment)
}

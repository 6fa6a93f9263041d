use super::{
    super::{Family, Lookups, Meta, Verdict},
    is_host,
};
use crate::{
    diffserv::TrafficClass,
    session::{FlowKey4, FlowKey6, Protocol},
    units::{InterfaceIndex, MacAddress},
    wire::header_checksum_is_right,
};

/// The headers of the packets that are most of the traffic: unicast, IPv4 without options, UDP or TCP,
/// no fragment, nothing wrong. [`parse_frame`] says the same of them with four times the branches.
pub(super) struct Plain4<'a> {
    ip: &'a [u8; 20],
    ports: &'a [u8; 4],
}

impl<'a> Plain4<'a> {
    /// Nothing of any other packet.
    #[inline]
    pub(super) fn new(frame: &'a [u8], mac: MacAddress) -> Option<Self> {
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
    pub(super) fn parse(
        &self,
        place: usize,
        ingress: InterfaceIndex,
        lookups: &mut Lookups,
    ) -> Meta {
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
pub(super) struct Plain6<'a> {
    ip: &'a [u8; 40],
    ports: &'a [u8; 4],
}

impl<'a> Plain6<'a> {
    /// Nothing of any other packet.
    #[inline]
    pub(super) fn new(frame: &'a [u8], mac: MacAddress) -> Option<Self> {
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
    pub(super) fn parse(
        &self,
        place: usize,
        ingress: InterfaceIndex,
        lookups: &mut Lookups,
    ) -> Meta {
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

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, strategy::ValueTree};

    use super::{super::parse_frame, *};

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

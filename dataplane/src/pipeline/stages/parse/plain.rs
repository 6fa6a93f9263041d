use crate::{
    diffserv::TrafficClass,
    pipeline::burst::Header,
    session::{FlowKey4, FlowKey6, Protocol},
    units::MacAddress,
    wire::IpVersion,
    wire::{header_checksum_is_right, is_plain4},
};

/// Header and flow of the packets that are most of the traffic: unicast, IPv4 without options, UDP or TCP,
/// no fragment, no fault; `None` of any other packet. [`parse_frame`](super::parse_frame) gives the same
/// result for them, with four times the branches.
#[inline(always)]
pub(crate) fn ipv4(frame: &[u8], mac: Addressee) -> Option<(Header, FlowKey4)> {
    /// Ethernet's type, version and header length.
    const KIND: u32 = u32::from_le_bytes([0x08, 0x00, 0x45, 0]);
    /// The bits of flags and offset that only fragments have, and the protocol.
    const UNFRAGMENTED_PROTOCOL: u32 = u32::from_le_bytes([0x3f, 0xff, 0, 0xff]);
    const UDP: u32 = u32::from_le_bytes([0, 0, 0, Protocol::UDP.0]);
    const TCP: u32 = u32::from_le_bytes([0, 0, 0, Protocol::TCP.0]);
    let header: &[u8; 38] = frame.first_chunk()?;
    let ip: &[u8; 24] = header.last_chunk()?;
    // One branch for each test, in this order: collecting the results in bits takes more instructions.
    let kind = half::<12, _>(header);
    if kind & 0x00ff_ffff != KIND || !mac.has(header) {
        return None;
    }
    let carried = half::<6, _>(ip) & UNFRAGMENTED_PROTOCOL;
    if carried != UDP && carried != TCP {
        return None;
    }
    let ip_bytes = u16::from_be_bytes([ip[2], ip[3]]);
    if usize::from(ip_bytes).wrapping_sub(24) > frame.len() - header.len() {
        return None;
    }
    let hosts = HOSTS[usize::from(ip[12])] & HOSTS[usize::from(ip[16])];
    if !hosts || !header_checksum_is_right(ip.first_chunk::<20>()?) {
        return None;
    }
    let header = Header {
        family: IpVersion::V4,
        class: TrafficClass(ip[1]),
        ttl: ip[8],
        ip_bytes,
    };
    Some((header, FlowKey4::from_plain(ip.last_chunk()?)))
}

/// The same of IPv6: without extension headers, between addresses of hosts past the link.
#[inline(always)]
pub(crate) fn ipv6(frame: &[u8], mac: Addressee) -> Option<(Header, FlowKey6)> {
    /// Ethernet's type and the version.
    const KIND: u32 = u32::from_le_bytes([0x86, 0xdd, 0x60, 0]);
    let header: &[u8; 58] = frame.first_chunk()?;
    let (_, addresses) = header.split_first_chunk::<22>()?;
    let (addresses, ports) = addresses.split_first_chunk::<32>()?;
    let kind = half::<12, _>(header);
    if kind & 0x00f0_ffff != KIND || !mac.has(header) {
        return None;
    }
    let first = word::<14, _>(header).to_le_bytes();
    let [version, label, _, _, high, low, next_header, hop_limit] = first;
    if next_header != Protocol::UDP.0 && next_header != Protocol::TCP.0 {
        return None;
    }
    let payload_bytes = u16::from_be_bytes([high, low]);
    let fits = usize::from(payload_bytes).wrapping_sub(4) <= frame.len() - header.len();
    if !(fits && is_global(addresses[0]) && is_global(addresses[16])) {
        return None;
    }
    let header = Header {
        family: IpVersion::V6,
        class: TrafficClass(version << 4 | label >> 4),
        ttl: hop_limit,
        // It fits: no frame is that long.
        ip_bytes: payload_bytes.saturating_add(40),
    };
    let ports = ports.first_chunk()?;
    Some((header, FlowKey6::from_wire(addresses, ports, next_header)))
}

/// Four bytes of a header as they lie there.
#[inline]
fn half<const AT: usize, const N: usize>(header: &[u8; N]) -> u32 {
    const { assert!(AT + 4 <= N, "past the header's end") };
    let mut half = [0; 4];
    half.copy_from_slice(&header[AT..AT + 4]);
    u32::from_le_bytes(half)
}

/// Whom a frame must be addressed to, behind two bytes of zeros.
#[derive(Clone, Copy)]
pub(crate) struct Addressee(u64);

impl Addressee {
    pub(crate) fn new(MacAddress([a, b, c, d, e, f]): MacAddress) -> Self {
        Self(u64::from_le_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// All six bytes are compared at once.
    #[inline]
    fn has<const N: usize>(self, header: &[u8; N]) -> bool {
        word::<0, N>(header) << 16 == self.0
    }
}

/// Eight bytes of a header as they lie there.
#[inline]
fn word<const AT: usize, const N: usize>(header: &[u8; N]) -> u64 {
    const { assert!(AT + 8 <= N, "past the header's end") };
    let mut word = [0; 8];
    word.copy_from_slice(&header[AT..AT + 8]);
    u64::from_le_bytes(word)
}

/// Whether a first octet is one of global unicast addresses (2000::/3, RFC 4291 section 2.4) or of
/// unique local ones (fc00::/7, RFC 4193).
#[inline]
fn is_global(first_octet: u8) -> bool {
    (first_octet & 0xe0 == 0x20) | (first_octet & 0xfe == 0xfc)
}

/// [`is_plain4`] of each first octet.
const HOSTS: [bool; 256] = {
    let mut hosts = [false; 256];
    let mut octet = 0_u8;
    loop {
        hosts[octet as usize] = is_plain4(octet);
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
    use crate::pipeline::burst::Lookups;

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
            change(&mut frame, changes);
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

    fn change(frame: &mut [u8], changes: Vec<(usize, u8)>) {
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 16, ..ProptestConfig::default() })]

        /// The short way says nothing, or what the long way says.
        #[test]
        fn plain_packets_are_parsed_alike(frame in frame()) {
            if let Some((header, flow)) = ipv4(&frame, Addressee::new(MAC)) {
                let (mut short, mut long) = (Lookups::new(), Lookups::new());
                short.flows4.put(3, flow);
                let by_long = parse_frame(&frame, &[MAC], 3, &mut long).unwrap();
                prop_assert_eq!(header, by_long);
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
            change(&mut frame, changes);
            frame.truncate(frame.len() - cut.min(frame.len()));
            frame
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 16, ..ProptestConfig::default() })]

        /// The short way says nothing, or what the long way says; of IPv6.
        #[test]
        fn plain_ipv6_packets_are_parsed_alike(frame in frame6()) {
            if let Some((header, flow)) = ipv6(&frame, Addressee::new(MAC)) {
                let (mut short, mut long) = (Lookups::new(), Lookups::new());
                short.flows6.put(3, flow);
                let by_long = parse_frame(&frame, &[MAC], 3, &mut long).unwrap();
                prop_assert_eq!(header, by_long);
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
            ipv4(&frame, Addressee::new(MAC)).is_some()
        });
        assert!(taken.count() > 100, "mostly plain packets, mostly taken");
        let taken = (0..500).filter(|_| {
            let frame = frame6().new_tree(&mut runner).unwrap().current();
            ipv6(&frame, Addressee::new(MAC)).is_some()
        });
        assert!(taken.count() > 100, "mostly plain packets, mostly taken");
    }
}

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

pub use voicelane_types::{FiveTuple, Protocol};

use super::Origin;

/// A five-tuple in the form in which the table compares it, with where its packets come in beside it, in
/// a byte that no field has.
pub trait FlowKey: Copy + Eq + fmt::Debug {
    /// The same from an origin; of a key without one.
    fn with_origin(self, origin: Origin) -> Self;
    /// Where its packets come in.
    fn origin(&self) -> Origin;
    /// The same without an origin.
    fn flow(&self) -> Self;
    /// A hash that only somebody who knows the seed can predict; of a key without origin.
    fn hash(&self, seed: &[u64; 4]) -> u64;
}

/// The five-tuple of an IPv4 flow, packed as it stands in the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey4 {
    /// The IP header's second eight bytes: protocol and source address, with what is no flow's left out;
    /// the origin in the TTL's place.
    source: u64,
    /// Destination address, then the ports, which stand behind it where there are no options.
    destination: u64,
}

impl FlowKey4 {
    /// From the fields as they stand in the IP header and in the transport header.
    #[inline]
    #[must_use]
    pub fn from_wire(addresses: &[u8; 8], ports: &[u8; 4], protocol: u8) -> Self {
        let &[a, b, c, d, e, f, g, h] = addresses;
        let &[i, j, k, l] = ports;
        Self::from_plain(&[0, protocol, 0, 0, a, b, c, d, e, f, g, h, i, j, k, l])
    }

    /// From the bytes from the TTL on of a packet without options: two words are all of it.
    #[inline]
    #[must_use]
    pub fn from_plain(from_ttl: &[u8; 16]) -> Self {
        /// All but TTL and checksum.
        const OF_FLOW: u64 = u64::from_ne_bytes([0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        let &[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = from_ttl;
        Self {
            source: u64::from_ne_bytes([a, b, c, d, e, f, g, h]) & OF_FLOW,
            destination: u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        }
    }

    /// Whether it goes to the port of DHCP clients.
    #[inline]
    #[must_use]
    pub fn is_to_dhcp_client(&self) -> bool {
        const PORT: u64 = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        const CLIENT: u64 = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 68]);
        const PROTOCOL: u64 = u64::from_ne_bytes([0, 0xff, 0, 0, 0, 0, 0, 0]);
        const UDP: u64 = u64::from_ne_bytes([0, Protocol::UDP.0, 0, 0, 0, 0, 0, 0]);
        (self.destination & PORT == CLIENT) & (self.source & PROTOCOL == UDP)
    }

    /// Where it goes, in host byte order.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> u32 {
        let [a, b, c, d, ..] = self.destination.to_ne_bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}

/// The five-tuple of an IPv6 flow, packed as it stands in the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey6 {
    /// Source address, destination address, in network byte order.
    addresses: [u64; 4],
    /// Source port, destination port, in network byte order; origin; protocol.
    transport: u64,
}

impl FlowKey6 {
    /// From the fields as they stand in the IP header and in the transport header.
    #[inline]
    #[must_use]
    pub fn from_wire(addresses: &[u8; 32], ports: &[u8; 4], protocol: u8) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(addresses.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        Self {
            addresses: words,
            transport: u64::from(u32::from_ne_bytes(*ports)) << 32 | u64::from(protocol),
        }
    }

    /// The destination address, in network order.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> [u8; 16] {
        let mut destination = [0; 16];
        let [_, _, first, last] = self.addresses.map(u64::to_ne_bytes);
        destination[..8].copy_from_slice(&first);
        destination[8..].copy_from_slice(&last);
        destination
    }
}

/// The key of a flow, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AnyKey {
    V4(FlowKey4),
    V6(FlowKey6),
}

impl AnyKey {
    /// The key of a flow whose addresses are of one family.
    pub(super) fn of(flow: &FiveTuple) -> Option<Self> {
        let [i, j] = flow.source.port().to_be_bytes();
        let [k, l] = flow.destination.port().to_be_bytes();
        let (ports, protocol) = ([i, j, k, l], flow.protocol.0);
        match (flow.source.ip(), flow.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let [a, b, c, d] = source.octets();
                let [e, f, g, h] = destination.octets();
                let addresses = [a, b, c, d, e, f, g, h];
                Some(Self::V4(FlowKey4::from_wire(&addresses, &ports, protocol)))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut addresses = [0; 32];
                addresses[..16].copy_from_slice(&source.octets());
                addresses[16..].copy_from_slice(&destination.octets());
                Some(Self::V6(FlowKey6::from_wire(&addresses, &ports, protocol)))
            }
            _ => None,
        }
    }

    /// The flow whose key it is.
    pub(super) fn five_tuple(&self) -> FiveTuple {
        let (source, destination, [i, j, k, l], protocol) = match self {
            Self::V4(key) => {
                let [_, protocol, _, _, a, b, c, d] = key.source.to_ne_bytes();
                let [e, f, g, h, i, j, k, l] = key.destination.to_ne_bytes();
                let (source, destination) = ([a, b, c, d].into(), [e, f, g, h].into());
                (source, destination, [i, j, k, l], protocol)
            }
            Self::V6(key) => {
                let [a, b, _, _] = key.addresses.map(u64::to_ne_bytes);
                let mut source = [0; 16];
                source[..8].copy_from_slice(&a);
                source[8..].copy_from_slice(&b);
                let [protocol, _, _, _, ports @ ..] = key.transport.to_le_bytes();
                let ports = u32::from_le_bytes(ports).to_ne_bytes();
                (
                    IpAddr::from(source),
                    key.destination().into(),
                    ports,
                    protocol,
                )
            }
        };
        FiveTuple {
            source: SocketAddr::new(source, u16::from_be_bytes([i, j])),
            destination: SocketAddr::new(destination, u16::from_be_bytes([k, l])),
            protocol: Protocol(protocol),
        }
    }
}

/// The two halves of a 128-bit product, folded.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl FlowKey for FlowKey4 {
    #[inline]
    fn with_origin(mut self, Origin(origin): Origin) -> Self {
        self.source |= u64::from_ne_bytes([origin, 0, 0, 0, 0, 0, 0, 0]);
        self
    }

    #[inline]
    fn origin(&self) -> Origin {
        let [origin, ..] = self.source.to_ne_bytes();
        Origin(origin)
    }

    #[inline]
    fn flow(&self) -> Self {
        let [_, rest @ ..] = self.source.to_ne_bytes();
        let [a, b, c, d, e, f, g] = rest;
        Self {
            source: u64::from_ne_bytes([0, a, b, c, d, e, f, g]),
            ..*self
        }
    }

    /// Two rounds of multiply and fold, keyed.
    #[inline]
    fn hash(&self, seed: &[u64; 4]) -> u64 {
        let inner = fold(self.source ^ seed[0], self.destination ^ seed[1]);
        fold(inner ^ seed[2], seed[3])
    }
}

impl FlowKey for FlowKey6 {
    #[inline]
    fn with_origin(mut self, Origin(origin): Origin) -> Self {
        self.transport |= u64::from(origin) << 8;
        self
    }

    #[inline]
    fn origin(&self) -> Origin {
        let [_, origin, ..] = self.transport.to_le_bytes();
        Origin(origin)
    }

    #[inline]
    fn flow(&self) -> Self {
        Self {
            transport: self.transport & !0xff00,
            ..*self
        }
    }

    /// As [`FlowKey4`]'s, with a round for each address.
    #[inline]
    fn hash(&self, seed: &[u64; 4]) -> u64 {
        let [a, b, c, d] = self.addresses;
        let source = fold(a ^ seed[0], b ^ seed[1]);
        let destination = fold(c ^ seed[2], d ^ seed[3]);
        let inner = fold(
            source ^ self.transport,
            destination ^ seed[0].rotate_left(32),
        );
        fold(inner ^ seed[2], seed[3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_no_part_of_the_flow() {
        let ports = [0x0f, 0xa0, 0xff, 0xff];
        let key4 = FlowKey4::from_wire(&[0xff; 8], &ports, 255);
        let key6 = FlowKey6::from_wire(&[0xff; 32], &ports, 255);
        for origin in [0, 1, 254, 255].map(Origin) {
            let (from4, from6) = (key4.with_origin(origin), key6.with_origin(origin));
            assert_eq!((from4.origin(), from6.origin()), (origin, origin));
            assert_eq!((from4.flow(), from6.flow()), (key4, key6));
            assert_eq!(from4.destination(), key4.destination());
        }
    }

    #[test]
    fn keys_keep_every_field() {
        let flow = FiveTuple {
            source: "192.0.2.1:4000".parse().unwrap(),
            destination: "203.0.113.255:65535".parse().unwrap(),
            protocol: Protocol::UDP,
        };
        let wire = [192, 0, 2, 1, 203, 0, 113, 255];
        let key = FlowKey4::from_wire(&wire, &[0x0f, 0xa0, 0xff, 0xff], 17);
        assert_eq!(AnyKey::of(&flow), Some(AnyKey::V4(key)));
        assert_eq!(key.destination(), u32::from_be_bytes([203, 0, 113, 255]));
        // As it stands in a packet: TTL and checksum are no flow's.
        let mut plain = [
            64, 17, 0xab, 0xcd, 192, 0, 2, 1, 203, 0, 113, 255, 0x0f, 0xa0, 0xff, 0xff,
        ];
        assert_eq!(FlowKey4::from_plain(&plain), key);
        for byte in 0..16 {
            plain[byte] ^= 1;
            let other = FlowKey4::from_plain(&plain);
            assert_eq!(other == key, [0, 2, 3].contains(&byte));
            assert_eq!(
                other.hash(&[1, 2, 3, 5]) == key.hash(&[1, 2, 3, 5]),
                other == key
            );
            plain[byte] ^= 1;
        }
        assert_eq!(
            flow.to_string(),
            "192.0.2.1:4000 -> 203.0.113.255:65535 protocol 17"
        );
        let mixed = FiveTuple {
            source: "[::1]:4000".parse().unwrap(),
            ..flow
        };
        assert_eq!(AnyKey::of(&mixed), None);
    }

    #[test]
    fn ipv6_keys_and_hashes_see_every_byte() {
        let seed = [
            0x9e37_79b9_7f4a_7c15,
            0xc2b2_ae3d_27d4_eb4f,
            0x1656_67b1_9e37_79f9,
            0x85eb,
        ];
        let flow = FiveTuple {
            source: "[2001:db8::1]:4000".parse().unwrap(),
            destination: "[2001:db8::2]:5000".parse().unwrap(),
            protocol: Protocol::UDP,
        };
        let mut wire = [0; 32];
        wire[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        wire[16..20].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        (wire[15], wire[31]) = (1, 2);
        let key = FlowKey6::from_wire(&wire, &[0x0f, 0xa0, 0x13, 0x88], 17);
        assert_eq!(AnyKey::of(&flow), Some(AnyKey::V6(key)));
        for byte in 0..32 {
            let mut other = wire;
            other[byte] ^= 1;
            let other = FlowKey6::from_wire(&other, &[0x0f, 0xa0, 0x13, 0x88], 17);
            assert_ne!(other, key);
            assert_ne!(other.hash(&seed), key.hash(&seed));
        }
        let swapped = FlowKey6::from_wire(&wire, &[0x13, 0x88, 0x0f, 0xa0], 17);
        assert_ne!(swapped.hash(&seed), key.hash(&seed));
    }

    /// Neighbouring flows, as call servers hand out ports, must spread over buckets.
    #[test]
    fn sequential_ports_spread() {
        let seed = [
            0x9e37_79b9_7f4a_7c15,
            0xc2b2_ae3d_27d4_eb4f,
            0x1656_67b1_9e37_79f9,
            0x85eb,
        ];
        let mut buckets = [0_u32; 1024];
        for flow in 0..65_536_u32 {
            let [high, low] = u16::try_from(flow % 32_768 * 2).unwrap().to_be_bytes();
            let host = u8::try_from(flow / 32_768).unwrap();
            let addresses = [10, 1, 0, host, 10, 2, 0, 1];
            let key = FlowKey4::from_wire(&addresses, &[high, low, high, low], 17);
            buckets[usize::try_from(key.hash(&seed) & 1023).unwrap()] += 1;
        }
        // 64 a bucket on average, with a standard deviation of 8.
        assert!(
            buckets.iter().all(|&count| (20..=120).contains(&count)),
            "{buckets:?}"
        );
    }
}

use voicelane_machine::{equal_bytes, equal_places};

use crate::{device::BURST, diffserv::TrafficClass, packet_mask::PacketMask, wire::IpVersion};

/// What a packet's headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) family: IpVersion,
    /// The packet's traffic class before rules and trust changed it.
    pub(crate) class: TrafficClass,
    /// TTL or hop limit, as it came.
    pub(crate) ttl: u8,
    /// The IP packet's length.
    pub(crate) ip_bytes: u16,
}

/// What the packets' headers say.
#[derive(Debug)]
pub(crate) struct Headers {
    /// Those that are IPv6; the others are IPv4.
    pub(crate) ipv6: PacketMask,
    /// Those with IPv4 options that ask for something.
    pub(crate) options: PacketMask,
    /// Those that may be for the router itself, but not be forwarded.
    pub(crate) confined: PacketMask,
    pub(crate) class: [TrafficClass; BURST],
    ttl: [u8; BURST],
    pub(crate) ip_bytes: [u16; BURST],
}

impl Headers {
    pub(super) fn new() -> Self {
        Self {
            ipv6: 0,
            options: 0,
            confined: 0,
            class: [TrafficClass(0); BURST],
            ttl: [0; BURST],
            ip_bytes: [0; BURST],
        }
    }

    /// All but the family, which `ipv6` says.
    #[inline]
    pub(crate) fn put(&mut self, place: usize, header: Header) {
        self.class[place] = header.class;
        self.ttl[place] = header.ttl;
        self.ip_bytes[place] = header.ip_bytes;
    }

    #[inline]
    pub(crate) fn at(&self, place: usize) -> Header {
        Header {
            family: self.family(place),
            class: self.class[place],
            ttl: self.ttl[place],
            ip_bytes: self.ip_bytes[place],
        }
    }

    #[inline]
    pub(crate) fn family(&self, place: usize) -> IpVersion {
        match self.ipv6 >> place & 1 {
            0 => IpVersion::V4,
            _ => IpVersion::V6,
        }
    }

    /// Those that can be sent on: RFC 1812 section 5.3.1 and RFC 8200 section 3 end the others.
    #[inline]
    pub(crate) fn with_hops_left(&self) -> PacketMask {
        !(equal_bytes(&self.ttl, 0) | equal_bytes(&self.ttl, 1))
    }

    /// Those that are for the kernel even where a neighbour is known, or for nobody.
    #[inline]
    pub(crate) fn unusual(&self) -> PacketMask {
        self.options | self.confined
    }

    /// Those whose packet is not longer.
    #[inline]
    pub(crate) fn within(&self, mtu: u16) -> PacketMask {
        equal_places(&self.ip_bytes.map(|bytes| bytes.saturating_sub(mtu)), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_asked_all_at_once() {
        let mut headers = Headers::new();
        let header = |ttl, ip_bytes| Header {
            family: IpVersion::V4,
            class: TrafficClass(0),
            ttl,
            ip_bytes,
        };
        let some = [(0, 1_499), (1, 1_500), (2, 1_501), (255, u16::MAX)];
        for place in 0..BURST {
            let (ttl, ip_bytes) = some[place % 4];
            headers.put(place, header(ttl, ip_bytes));
            assert_eq!(headers.at(place), header(ttl, ip_bytes));
        }
        let each = |of_four: u64| of_four * 0x1111_1111_1111_1111;
        assert_eq!(headers.with_hops_left(), each(0b1100));
        assert_eq!(headers.within(1_500), each(0b0011));
        assert_eq!(headers.within(u16::MAX), PacketMask::MAX);
    }
}

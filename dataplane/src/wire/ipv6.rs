use crate::diffserv::TrafficClass;

/// An IPv6 header (RFC 8200 section 3).
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a>(&'a [u8; 40]);

impl<'a> Ipv6<'a> {
    /// Its length, without extension headers.
    pub const LENGTH: usize = 40;

    /// The header at the start of a packet; `None` of a packet that is too short.
    #[inline]
    #[must_use]
    pub fn new(packet: &'a [u8]) -> Option<Self> {
        packet.first_chunk().map(Self)
    }

    /// Version; 6 is right.
    #[inline]
    #[must_use]
    pub fn version(&self) -> u8 {
        self.0[0] >> 4
    }

    /// Code point (RFC 2474) and ECN (RFC 3168).
    #[inline]
    #[must_use]
    pub fn traffic_class(&self) -> TrafficClass {
        TrafficClass(self.0[0] << 4 | self.0[1] >> 4)
    }

    /// Length of what follows this header, in bytes.
    #[inline]
    #[must_use]
    pub fn payload_length(&self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// What follows this header.
    #[inline]
    #[must_use]
    pub fn next_header(&self) -> u8 {
        self.0[6]
    }

    /// How many more routers it may pass.
    #[inline]
    #[must_use]
    pub fn hop_limit(&self) -> u8 {
        self.0[7]
    }

    /// Source and destination, as they stand there.
    #[inline]
    #[must_use]
    pub fn addresses(&self) -> &'a [u8; 32] {
        // There are always that many: the compiler knows.
        self.0.last_chunk().unwrap_or(&[0; 32])
    }

    /// Where it comes from.
    #[inline]
    #[must_use]
    pub fn source(&self) -> &'a [u8; 16] {
        self.addresses().first_chunk().unwrap_or(&[0; 16])
    }

    /// The destination address, in network order.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> &'a [u8; 16] {
        self.addresses().last_chunk().unwrap_or(&[0; 16])
    }
}

/// The transport header behind the extension headers, if this packet has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// The number of the transport protocol.
    pub protocol: u8,
    /// Where it starts, from the IPv6 header on.
    pub offset: usize,
    /// The packet's identification, if this is its first fragment of several.
    pub fragment: Option<u32>,
}

/// What the chain of extension headers leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// A transport header, in a whole packet or in a first fragment.
    Transport(Transport),
    /// The middle of one: a fragment other than the first.
    Fragment {
        /// What all fragments of one packet have in common.
        identification: u32,
        /// What its packet carries.
        protocol: u8,
    },
    /// Something without ports, or a chain that does not end in this packet.
    Opaque,
}

/// The most extension headers that are looked at. Longer chains are forwarded unread.
const LONGEST_CHAIN: usize = 8;

/// Follows the extension headers (RFC 8200 section 4) of a packet from `packet[40..]` on.
#[inline]
#[must_use]
pub fn upper_layer(packet: &[u8], first: u8) -> Upper {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION_OPTIONS: u8 = 60;
    let (mut protocol, mut offset, mut fragment) = (first, Ipv6::LENGTH, None);
    for _ in 0..LONGEST_CHAIN {
        let length = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT | AUTHENTICATION => {
                let Some(&[next, length, high, low]) =
                    packet.get(offset..).and_then(|header| header.first_chunk())
                else {
                    return Upper::Opaque;
                };
                let bytes = match protocol {
                    FRAGMENT => {
                        let Some(identification) = packet
                            .get(offset + 4..)
                            .and_then(|header| header.first_chunk())
                        else {
                            return Upper::Opaque;
                        };
                        let identification = u32::from_be_bytes(*identification);
                        let place = u16::from_be_bytes([high, low]);
                        if place >> 3 != 0 {
                            return Upper::Fragment {
                                identification,
                                protocol: next,
                            };
                        }
                        // RFC 6946: without more to come it is no fragment.
                        fragment = (place & 1 == 1).then_some(identification);
                        8
                    }
                    // RFC 4302 section 2.2: in words of four bytes, less two.
                    AUTHENTICATION => (usize::from(length) + 2) * 4,
                    _ => (usize::from(length) + 1) * 8,
                };
                protocol = next;
                bytes
            }
            _ => {
                return Upper::Transport(Transport {
                    protocol,
                    offset,
                    fragment,
                });
            }
        };
        offset += length;
    }
    Upper::Opaque
}

/// The fields of an IPv6 header that a router writes.
#[derive(Debug)]
pub struct Ipv6Mut<'a>(&'a mut [u8; 40]);

impl<'a> Ipv6Mut<'a> {
    /// The header at the start of a packet; `None` of a packet that is too short.
    #[inline]
    #[must_use]
    pub fn new(packet: &'a mut [u8]) -> Option<Self> {
        packet.first_chunk_mut().map(Self)
    }

    /// Writes DSCP and ECN, between version and flow label.
    #[inline]
    pub fn set_traffic_class(&mut self, class: TrafficClass) {
        let first = u16::from_be_bytes([self.0[0], self.0[1]]);
        let first = first & 0xf00f | u16::from(class.0) << 4;
        [self.0[0], self.0[1]] = first.to_be_bytes();
    }

    /// Writes DSCP and ECN and takes one off the hop limit. Only for packets whose hop limit is over 1.
    #[inline]
    pub fn forward(&mut self, class: TrafficClass) {
        debug_assert!(self.0[7] > 1, "expired packets go to the kernel");
        self.set_traffic_class(class);
        self.0[7] = self.0[7].wrapping_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traffic_class_lies_across_two_bytes() {
        for class in 0..=u8::MAX {
            let mut header = [0xff; 40];
            header[0] = 0x60;
            Ipv6Mut::new(&mut header)
                .unwrap()
                .set_traffic_class(TrafficClass(class));
            let view = Ipv6::new(&header).unwrap();
            assert_eq!(
                (view.version(), view.traffic_class()),
                (6, TrafficClass(class))
            );
            assert_eq!(
                (header[1] & 15, header[2], header[3]),
                (15, 255, 255),
                "the flow label"
            );
        }
    }

    fn chain(headers: &[&[u8]]) -> Vec<u8> {
        [&[0; 40][..], &headers.concat()].concat()
    }

    #[test]
    fn chains_lead_to_the_transport_header() {
        let udp = [0x0f, 0xa0, 0x0f, 0xa0, 0, 8, 0, 0];
        let transport_of = |offset, fragment| {
            Upper::Transport(Transport {
                protocol: 17,
                offset,
                fragment,
            })
        };
        let transport = |offset| transport_of(offset, None);
        for (first, headers, expected) in [
            (17, vec![&udp[..]], transport(40)),
            (0, vec![&[17, 0, 0, 0, 0, 0, 0, 0], &udp], transport(48)),
            (
                0,
                vec![
                    &[60, 0, 0, 0, 0, 0, 0, 0],
                    &[17, 1, 0, 0, 0, 0, 0, 0],
                    &[0; 8],
                    &udp,
                ],
                transport(64),
            ),
            (44, vec![&[17, 0, 0, 0, 0, 0, 0, 9], &udp], transport(48)),
            (
                44,
                vec![&[17, 0, 0, 1, 0, 0, 0, 9], &udp],
                transport_of(48, Some(9)),
            ),
            (
                44,
                vec![&[17, 0, 0, 8, 0, 0, 0, 9], &udp],
                Upper::Fragment {
                    identification: 9,
                    protocol: 17,
                },
            ),
            (44, vec![&[17, 0, 0, 8, 0, 0]], Upper::Opaque),
            (51, vec![&[17, 4, 0, 0], &[0; 20], &udp], transport(64)),
            (0, vec![], Upper::Opaque),
            (
                43,
                vec![&[17, 255, 0, 0, 0, 0, 0, 0]],
                transport(40 + 2_048),
            ),
        ] {
            assert_eq!(
                upper_layer(&chain(&headers), first),
                expected,
                "{first} {headers:?}"
            );
        }
        let endless = chain(&[&[0; 200]]);
        assert_eq!(
            upper_layer(&endless, 0),
            Upper::Opaque,
            "a chain of its own kind ends"
        );
    }
}

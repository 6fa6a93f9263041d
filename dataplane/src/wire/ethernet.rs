use crate::units::MacAddress;

/// What an Ethernet frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EtherType(pub u16);

impl EtherType {
    /// Internet Protocol version 4 (RFC 894).
    pub const IPV4: Self = Self(0x0800);
    /// Address resolution (RFC 826).
    pub const ARP: Self = Self(0x0806);
    /// Internet Protocol version 6 (RFC 2464).
    pub const IPV6: Self = Self(0x86dd);
    /// IEEE 802.1AB: LLDP.
    pub const LLDP: Self = Self(0x88cc);
    /// IEEE 802.3 annex 57A: slow protocols, such as LACP.
    pub const SLOW: Self = Self(0x8809);
    /// IEEE 802.1X.
    pub const EAPOL: Self = Self(0x888e);
    /// An IEEE 802.1Q tag: the type of what it is before stands behind it.
    pub const VLAN: Self = Self(0x8100);
    /// A service tag, outside of another (IEEE 802.1ad).
    pub const SERVICE_VLAN: Self = Self(0x88a8);

    /// Whether it is a tag, behind which the frame's own type stands.
    #[must_use]
    pub fn is_tag(self) -> bool {
        matches!(self, Self::VLAN | Self::SERVICE_VLAN)
    }

    /// Whether it is a length (IEEE 802.3 section 3.2.6): an LLC header follows.
    #[must_use]
    pub fn is_length(self) -> bool {
        self.0 <= 1500
    }
}

/// An Ethernet II header.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<'a>(&'a [u8; 14]);

impl<'a> Ethernet<'a> {
    /// Its length, without VLAN tags.
    pub const LENGTH: usize = 14;
    /// The least that a frame carries behind it: a sender fills up what is shorter (IEEE 802.3).
    pub const MIN_PAYLOAD: u16 = 46;

    /// The header and what follows it; `None` of a frame that is too short.
    #[inline]
    #[must_use]
    pub fn split(frame: &'a [u8]) -> Option<(Self, &'a [u8])> {
        frame
            .split_first_chunk()
            .map(|(header, rest)| (Self(header), rest))
    }

    /// The length of the longest frame that carries a packet of so many bytes and no more than that:
    /// filled up, if the packet is short.
    #[inline]
    #[must_use]
    pub fn frame_bytes(packet_bytes: u16) -> u16 {
        packet_bytes.max(Self::MIN_PAYLOAD).saturating_add(14)
    }

    /// The destination MAC address.
    #[inline]
    #[must_use]
    pub fn destination(&self) -> MacAddress {
        let [a, b, c, d, e, f, ..] = *self.0;
        MacAddress([a, b, c, d, e, f])
    }

    /// The type of the payload; of a tagged frame that of its tag.
    #[inline]
    #[must_use]
    pub fn ether_type(&self) -> EtherType {
        EtherType(u16::from_be_bytes([self.0[12], self.0[13]]))
    }

    /// Addresses a frame anew: destination, then source; gives what follows the header. A frame that
    /// is too short stays as it is.
    #[inline]
    pub fn readdress<'b>(frame: &'b mut [u8], addresses: &[u8; 12]) -> &'b mut [u8] {
        match frame.split_first_chunk_mut::<14>() {
            Some((header, packet)) => {
                if let Some(both) = header.first_chunk_mut() {
                    *both = *addresses;
                }
                packet
            }
            None => &mut [],
        }
    }
}

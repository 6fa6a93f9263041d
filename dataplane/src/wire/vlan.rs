use crate::{
    diffserv::{Dscp, user_priority},
    units::VlanId,
};

/// Bytes of a VLAN tag (IEEE 802.1Q).
pub const TAG_BYTES: u16 = 4;

/// The tag control information of an IEEE 802.1Q tag: priority code point, drop eligible indicator,
/// VLAN identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tci(pub u16);

impl Tci {
    /// Of a packet with a code point, on a VLAN. None is eligible to be dropped.
    #[inline]
    #[must_use]
    pub fn new(vlan: VlanId, dscp: Dscp) -> Self {
        Self(u16::from(user_priority(dscp)) << 13 | vlan.number())
    }

    /// The VLAN identifier; 0 when the tag says a priority only.
    #[inline]
    #[must_use]
    pub fn vlan(self) -> u16 {
        self.0 & 0xfff
    }
}

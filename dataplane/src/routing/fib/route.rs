/// A route's network, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The address, its first bit the highest; zeroes past the prefix.
    bits: u128,
    length: u8,
}

/// Bits that the root takes, and a node below.
const ROOT: u8 = 16;
const STEP: u8 = 8;

/// How many bits the nodes right below one take off an address that has `above` bits taken off there.
pub(super) fn below(above: u8) -> u8 {
    above + if above == 0 { ROOT } else { STEP }
}

impl Route {
    /// Of an address, its first bit the highest, and 1 to 128 bits of it.
    pub(super) fn new(address: u128, length: u8) -> Self {
        let mask = u128::MAX << (128 - u32::from(length));
        Self {
            bits: address & mask,
            length,
        }
    }

    /// The first bits of it.
    pub(super) fn cut(&self, length: u8) -> Self {
        Self::new(self.bits, length)
    }

    /// The route that ends in this place of a node that is on this one's way, below so many bits.
    pub(super) fn beside(&self, above: u8, place: usize) -> Self {
        let within = place.ilog2();
        #[allow(clippy::cast_possible_truncation, reason = "at most 128")]
        let length = above + within as u8;
        let bits = (place as u128) ^ (1 << within);
        Self {
            bits: self.cut(above).bits | bits << (128 - u32::from(length)),
            length,
        }
    }

    #[inline]
    pub(super) fn covers(&self, address: u128) -> bool {
        (address ^ self.bits).leading_zeros() >= u32::from(self.length)
    }

    /// Whether the node below all of its bits is on a route's way, or the one that it ends in.
    pub(super) fn leads_to(&self, route: &Self) -> bool {
        self.length <= route.end() && self.covers(route.bits)
    }

    /// Below how many bits the node is that it ends in.
    pub(super) fn end(&self) -> u8 {
        node_of(self.length.saturating_sub(1))
    }

    /// Below how many bits the node is in which this route and another are apart, or end.
    pub(super) fn parting(&self, other: &Self) -> u8 {
        #[allow(clippy::cast_possible_truncation, reason = "at most 128")]
        let common = (self.bits ^ other.bits).leading_zeros() as u8;
        node_of(common).min(self.end()).min(other.end())
    }

    /// The bits that a node below so many goes by.
    #[allow(clippy::cast_possible_truncation, reason = "16 bits at most")]
    pub(super) fn step(&self, above: u8) -> usize {
        let width = below(above) - above;
        let rest = self.bits << above;
        (rest >> (128 - u32::from(width))) as usize
    }

    /// Where it is in the tree of routes of the node that it ends in: 1 stands for none of the node's
    /// bits, 2 and 3 for one, and so on.
    pub(super) fn place(&self) -> usize {
        let above = self.end();
        let within = self.length - above;
        (1 << within) | self.step(above) >> (below(above) - self.length)
    }

    pub(super) fn pack(&self) -> [u64; 3] {
        #[allow(clippy::cast_possible_truncation, reason = "halves")]
        let (high, low) = ((self.bits >> 64) as u64, self.bits as u64);
        [high, low, self.length.into()]
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "as packed")]
    pub(super) fn unpack([high, low, length]: [u64; 3]) -> Self {
        Self {
            bits: u128::from(high) << 64 | u128::from(low),
            length: length as u8,
        }
    }
}

/// Below how many bits the node is that has the bit behind the first `bits`.
fn node_of(bits: u8) -> u8 {
    if bits < ROOT { 0 } else { bits / STEP * STEP }
}

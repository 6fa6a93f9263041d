/// A route's network, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The address, its first bit the highest; zeroes past the prefix.
    bits: u128,
    length: u8,
}

/// Bits that the root takes, and a node below.
const ROOT: u32 = 16;
const STEP: u32 = 8;

impl Route {
    /// Of an address, its first bit the highest, and 1 to 128 bits of it.
    pub(super) fn new(address: u128, length: u8) -> Self {
        let mask = u128::MAX << (128 - u32::from(length));
        Self {
            bits: address & mask,
            length,
        }
    }

    /// The route that ends in this place of a node that is on this one's way.
    pub(super) fn beside(&self, level: u32, place: usize) -> Self {
        let above = ROOT + STEP * (level - 1);
        let length = above + place.ilog2();
        let within = (place as u128) ^ (1 << place.ilog2());
        let above = self.bits >> (128 - above) << (128 - above);
        #[allow(clippy::cast_possible_truncation, reason = "at most 128")]
        let length8 = length as u8;
        Self {
            bits: above | within << (128 - length),
            length: length8,
        }
    }

    #[inline]
    pub(super) fn covers(&self, address: u128) -> bool {
        (address ^ self.bits).leading_zeros() >= u32::from(self.length)
    }

    /// How many nodes below the root it ends.
    pub(super) fn level(&self) -> u32 {
        (u32::from(self.length) + STEP - 1).saturating_sub(ROOT) / STEP
    }

    /// The bits that a node at this level goes by.
    #[allow(clippy::cast_possible_truncation, reason = "16 bits at most")]
    pub(super) fn step(&self, level: u32) -> usize {
        if level == 0 {
            (self.bits >> (128 - ROOT)) as usize
        } else {
            (self.bits >> (128 - ROOT - STEP * level)) as usize & ((1 << STEP) - 1)
        }
    }

    /// Where it is in the tree of routes of the node that it ends in: 1 stands for none of the node's
    /// bits, 2 and 3 for one, and so on.
    pub(super) fn place(&self) -> usize {
        let level = self.level();
        let (above, all) = match level {
            0 => (0, ROOT),
            _ => (ROOT + STEP * (level - 1), STEP),
        };
        let bits = u32::from(self.length) - above;
        (1 << bits) | (self.step(level) >> (all - bits))
    }

    /// In memory.
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

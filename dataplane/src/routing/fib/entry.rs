//! A node's entry, in a word.

use std::hint::select_unpredictable;

use super::route;

/// A node, as an entry below which it is knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) number: u32,
    /// How many bits of an address are above it: a multiple of 8.
    pub(super) above: u8,
}

/// What is below an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Below {
    Node(Node),
    /// One route, and no other.
    Leaf(u32),
}

/// Where the longest route in a node leads, and where longer ones are.
///
/// From the lowest bit: next hop (16 bits), bits above the node below (8), [`Self::LEAF`] or
/// [`Self::PASSES`], and from [`Self::BELOW`] on the leaf's number or the place of the node's first
/// entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u64);

impl Entry {
    const HOP: u64 = 0xffff;
    const ABOVE: u32 = 16;
    const LEAF: u64 = 1 << 24;
    /// The node below is not one at the next bits: those between must be compared.
    const PASSES: u64 = 1 << 25;
    const BELOW: u32 = 32;
    /// Entries of a node.
    pub(super) const WIDTH: usize = 256;

    /// The same, in a node with so many bits above, with this below.
    pub(super) fn with_below(self, above: u8, below: Option<Below>) -> Self {
        let below = match below {
            None => 0,
            Some(Below::Leaf(number)) => u64::from(number) << Self::BELOW | Self::LEAF,
            Some(Below::Node(node)) => {
                let first = u64::from(node.number) * Self::WIDTH as u64;
                let passes = if node.above > route::below(above) {
                    Self::PASSES
                } else {
                    0
                };
                first << Self::BELOW | u64::from(node.above) << Self::ABOVE | passes
            }
        };
        Self(self.0 & Self::HOP | below)
    }

    /// The same, leading elsewhere.
    pub(super) fn with_hop(self, next_hop: u16) -> Self {
        Self(self.0 & !Self::HOP | u64::from(next_hop))
    }

    /// The same, or leading where a shorter route does that this one has none beside.
    #[inline]
    pub(super) fn or(self, shorter: u16) -> Self {
        // Whoever guesses here waits for memory before each of the next guesses.
        Self(self.0 | select_unpredictable(self.hop() == 0, u64::from(shorter), 0))
    }

    /// The same, with nothing below.
    #[inline]
    pub(super) fn ended(self) -> Self {
        Self(self.0 & Self::HOP)
    }

    /// Where it leads; 0: nowhere.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the low 16 bits")]
    pub(super) fn hop(self) -> u16 {
        self.0 as u16
    }

    #[inline]
    pub(super) fn has_below(self) -> bool {
        self.0 > Self::HOP
    }

    /// Whether an address has to be compared before it goes down.
    #[inline]
    pub(super) fn compares(self) -> bool {
        self.0 & (Self::LEAF | Self::PASSES) != 0
    }

    #[inline]
    pub(super) fn is_leaf(self) -> bool {
        self.0 & Self::LEAF != 0
    }

    /// How many bits of an address are above the node below.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "8 of the bits")]
    pub(super) fn above(self) -> u8 {
        (self.0 >> Self::ABOVE) as u8
    }

    /// The place of the first entry of the node below; where there is none, that of the node in which
    /// there is nothing. Of a leaf, its number.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "32 bits")]
    pub(super) fn first(self) -> usize {
        (self.0 >> Self::BELOW) as usize
    }

    #[allow(clippy::cast_possible_truncation, reason = "32 bits")]
    pub(super) fn below(self) -> Option<Below> {
        if !self.has_below() {
            None
        } else if self.is_leaf() {
            Some(Below::Leaf(self.first() as u32))
        } else {
            Some(Below::Node(Node {
                number: (self.first() / Self::WIDTH) as u32,
                above: self.above(),
            }))
        }
    }
}

//! What the session table's cache lines of tags hold.

use voicelane_machine::equal_lanes;

/// Entries a bucket; with their tags and slots they fit one cache line.
pub(super) const WAYS: usize = 8;

/// A tag of 0 is an empty place.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(super) struct Bucket {
    pub(super) tags: [u16; WAYS],
    /// The last one is nobody's, so that a miss has one, too: always that of the first entry.
    pub(super) slots: [u32; WAYS + 1],
    /// How many entries whose first bucket is this one are in their other one: without any, a
    /// miss ends here.
    pub(super) displaced: u32,
}

impl Bucket {
    /// The ways whose tag is `tag`.
    #[inline]
    pub(super) fn matches(&self, tag: u16) -> Ways {
        Ways(equal_lanes(&self.tags, tag))
    }
}

/// A set of ways: a bit for each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways(u32);

impl Ways {
    /// What [`Self::first`] says where there is none.
    pub(super) const NONE: u8 = 8;

    /// The first one; [`Self::NONE`], if there is none.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "at most 8")]
    pub(super) fn first(self) -> u8 {
        const { assert!(Self::NONE as usize == WAYS, "the one behind the last") };
        (self.0 | 1 << Self::NONE).trailing_zeros() as u8
    }
}

impl Iterator for Ways {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let way = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (way < WAYS).then_some(way)
    }
}

/// 15 bits of the hash that do not choose the bucket, and a lowest one that says that there is one.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the upper bits are what is wanted"
)]
pub(super) fn tag(hash: u64) -> u16 {
    (hash >> 48) as u16 | 1
}

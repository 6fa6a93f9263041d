//! Sets of interfaces.

use crate::units::InterfaceIndex;

/// Interfaces, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceSet([u64; 4]);

impl InterfaceSet {
    /// The set without any interface.
    pub const NONE: Self = Self([0; 4]);
    /// All that there can be.
    pub const ALL: Self = Self([u64::MAX; 4]);

    /// Whether it has an interface.
    #[inline]
    #[must_use]
    pub fn contains(&self, InterfaceIndex(index): InterfaceIndex) -> bool {
        self.0[usize::from(index >> 6)] >> (index & 63) & 1 == 1
    }
}

impl FromIterator<InterfaceIndex> for InterfaceSet {
    fn from_iter<I: IntoIterator<Item = InterfaceIndex>>(interfaces: I) -> Self {
        let mut set = Self::NONE;
        for InterfaceIndex(index) in interfaces {
            set.0[usize::from(index >> 6)] |= 1 << (index & 63);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let some = [0, 63, 64, 255].map(InterfaceIndex);
        let set: InterfaceSet = some.into_iter().collect();
        for index in (0..=255).map(InterfaceIndex) {
            assert_eq!(set.contains(index), some.contains(&index));
            assert!(InterfaceSet::ALL.contains(index) && !InterfaceSet::NONE.contains(index));
        }
    }
}

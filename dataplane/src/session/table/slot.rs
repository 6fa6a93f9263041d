/// Where an entry lies. Stays the same for as long as the entry exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot(pub(super) u32);

impl Slot {
    /// As an index into what lies parallel to the table.
    #[inline]
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    /// The lower 16 bits and the upper ones, as slots are compared many at a time.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "a half each")]
    pub(crate) fn halves(self) -> [u16; 2] {
        [self.0 as u16, (self.0 >> 16) as u16]
    }
}

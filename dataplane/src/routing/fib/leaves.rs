use std::fmt;

use voicelane_machine::{Allocator, Memory, NoMemory};

use super::route::Route;

/// A route that is alone below an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) route: Route,
    pub(super) next_hop: u16,
}

/// Where the next hop is beside the length.
const HOP_SHIFT: u32 = 16;

impl Leaf {
    fn pack(self) -> [u64; 3] {
        let [high, low, length] = self.route.pack();
        [high, low, length | u64::from(self.next_hop) << HOP_SHIFT]
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "as packed")]
    fn unpack(words: [u64; 3]) -> Self {
        Self {
            route: Route::unpack(words),
            next_hop: (words[2] >> HOP_SHIFT) as u16,
        }
    }
}

/// Room for leaves, in an allocator's memory: for as many as there are routes.
pub(super) struct Leaves {
    all: Memory<[u64; 3]>,
    free: Vec<u32>,
    unused: u32,
}

impl Leaves {
    pub(super) fn bytes(count: u32) -> u64 {
        u64::from(count) * 24
    }

    pub(super) fn create(
        name: &str,
        count: u32,
        memory: &'static dyn Allocator,
    ) -> Result<Self, NoMemory> {
        Ok(Self {
            all: Memory::zeroed(name, count as usize, memory)?,
            free: Vec::with_capacity(count as usize),
            unused: 0,
        })
    }

    pub(super) fn leaf(&self, number: u32) -> Leaf {
        self.at(number as usize)
    }

    /// The leaf of this number.
    #[inline]
    pub(super) fn at(&self, number: usize) -> Leaf {
        Leaf::unpack(self.all.get(number).copied().unwrap_or_default())
    }

    /// There must be fewer leaves than routes.
    pub(super) fn add(&mut self, leaf: Leaf) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.unused += 1;
            self.unused - 1
        });
        self.set(number, leaf);
        number
    }

    pub(super) fn set(&mut self, number: u32, leaf: Leaf) {
        self.all[number as usize] = leaf.pack();
    }

    pub(super) fn remove(&mut self, number: u32) {
        self.free.push(number);
    }

    pub(super) fn in_use(&self) -> usize {
        self.unused as usize - self.free.len()
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaves")
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}

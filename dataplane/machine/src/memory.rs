use std::{
    alloc::{self, Layout, handle_alloc_error},
    fmt::{self, Debug},
    marker::PhantomData,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    slice,
};

use thiserror::Error;

/// Tables begin on a cache line.
const ALIGNMENT: usize = 64;

/// No piece of memory is large enough.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("there are no {bytes} bytes in one piece: more memory is needed")]
pub struct NoMemory {
    /// How many were asked for.
    pub bytes: usize,
}

/// Where tables' memory comes from.
///
/// # Safety
///
/// What [`allocate_zeroed`](Self::allocate_zeroed) returns must fit the layout, be zeroed, and be the
/// caller's alone until it is freed, on whatever thread.
pub unsafe trait Allocator: Debug + Sync {
    /// Memory of this layout, whose size is not 0; `None` when there is not so much in one piece. The
    /// name is for listings of what is allocated.
    fn allocate_zeroed(&self, name: &str, layout: Layout) -> Option<NonNull<u8>>;

    /// Frees what [`allocate_zeroed`](Self::allocate_zeroed) returned.
    ///
    /// # Safety
    ///
    /// The memory must be this allocator's, of this layout, and not be used again.
    unsafe fn free(&self, memory: NonNull<u8>, layout: Layout);
}

/// The heap of the process, in pages of its choice.
pub static HEAP: &dyn Allocator = &Heap;

#[derive(Debug)]
struct Heap;

// SAFETY: the heap's own guarantees, and a layout that is not empty.
unsafe impl Allocator for Heap {
    fn allocate_zeroed(&self, _name: &str, layout: Layout) -> Option<NonNull<u8>> {
        if layout.size() == 0 {
            return None;
        }
        // SAFETY: the layout is not empty.
        NonNull::new(unsafe { alloc::alloc_zeroed(layout) })
    }

    unsafe fn free(&self, memory: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller says that it is the heap's, of this layout.
        unsafe { alloc::dealloc(memory.as_ptr(), layout) }
    }
}

/// Zeroed memory with one owner, freed when dropped.
struct Block<T> {
    first: NonNull<T>,
    layout: Layout,
    allocator: &'static dyn Allocator,
    values: PhantomData<T>,
}

// SAFETY: the memory has one owner, and nothing in it is bound to a thread; allocators free on any.
unsafe impl<T: Send> Send for Block<T> {}

impl<T: Copy> Block<T> {
    /// For `count` values, or for one where it is 0, on a cache line of its own.
    fn new(name: &str, count: usize, allocator: &'static dyn Allocator) -> Result<Self, NoMemory> {
        const { assert!(size_of::<T>() > 0, "values that take memory") };
        let layout = Layout::array::<T>(count.max(1)).and_then(|it| it.align_to(ALIGNMENT));
        let none = NoMemory {
            bytes: count.saturating_mul(size_of::<T>()),
        };
        let layout = layout.map_err(|_| none)?;
        let first = allocator.allocate_zeroed(name, layout).ok_or(none)?;
        Ok(Self {
            first: first.cast(),
            layout,
            allocator,
            values: PhantomData,
        })
    }
}

impl<T> Drop for Block<T> {
    fn drop(&mut self) {
        // SAFETY: this allocator gave it with this layout, and it is not used again.
        unsafe { self.allocator.free(self.first.cast(), self.layout) }
    }
}

/// A type of which zeroes are a value, and that needs no dropping.
///
/// # Safety
///
/// Memory full of zeroes must be a valid value.
pub unsafe trait Zeroed: Copy {}

// SAFETY: integers take any bits.
unsafe impl Zeroed for u16 {}
// SAFETY: as above.
unsafe impl Zeroed for u64 {}
// SAFETY: of zeroes if its values are.
unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}

/// A slice in an allocator's memory, on a cache line of its own. Zeroes at first.
pub struct Memory<T: Zeroed> {
    block: Block<T>,
    count: usize,
}

impl<T: Zeroed> Memory<T> {
    /// Allocates `count` values.
    pub fn zeroed(
        name: &str,
        count: usize,
        allocator: &'static dyn Allocator,
    ) -> Result<Self, NoMemory> {
        let block = Block::new(name, count, allocator)?;
        Ok(Self { block, count })
    }
}

impl<T: Zeroed> Deref for Memory<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: so many values were allocated, aligned, and zeroed or written since.
        unsafe { slice::from_raw_parts(self.block.first.as_ptr(), self.count) }
    }
}

impl<T: Zeroed> DerefMut for Memory<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and this is the only user.
        unsafe { slice::from_raw_parts_mut(self.block.first.as_ptr(), self.count) }
    }
}

impl<T: Zeroed> Debug for Memory<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// A vector of a fixed capacity in an allocator's memory, on cache lines of its own; on the heap where
/// the allocator has none left.
pub struct Slab<T: Copy> {
    block: Block<T>,
    count: usize,
    capacity: usize,
}

impl<T: Copy> Slab<T> {
    /// An empty one for `capacity` values. Ends the process when the heap has no memory either, as all
    /// of Rust's collections do.
    #[must_use]
    pub fn with_capacity(name: &str, capacity: usize, allocator: &'static dyn Allocator) -> Self {
        let block = Block::new(name, capacity, allocator);
        let Ok(block) = block.or_else(|_| Block::new(name, capacity, HEAP)) else {
            handle_alloc_error(Layout::new::<T>());
        };
        Self {
            block,
            count: 0,
            capacity,
        }
    }

    /// `count` times the same.
    #[must_use]
    pub fn filled(name: &str, count: usize, value: T, allocator: &'static dyn Allocator) -> Self {
        let mut slab = Self::with_capacity(name, count, allocator);
        while slab.push(value) {}
        slab
    }

    /// Adds a value; returns `false`, and changes nothing, when there is no room.
    #[inline]
    #[must_use]
    pub fn push(&mut self, value: T) -> bool {
        if self.count == self.capacity {
            return false;
        }
        // SAFETY: there is room for `capacity` values, of which `count` are there.
        unsafe { self.block.first.add(self.count).write(value) };
        self.count += 1;
        true
    }

    /// Asks the CPU to fetch the value in a place; to ask for one that is not there does no harm.
    #[inline]
    pub fn prefetch(&self, place: usize) {
        crate::prefetch(self.block.first.as_ptr().wrapping_add(place));
    }
}

impl<T: Copy> Deref for Slab<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: so many values have been written, aligned.
        unsafe { slice::from_raw_parts(self.block.first.as_ptr(), self.count) }
    }
}

impl<T: Copy> DerefMut for Slab<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and this is the only user.
        unsafe { slice::from_raw_parts_mut(self.block.first.as_ptr(), self.count) }
    }
}

impl<T: Copy> Debug for Slab<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab")
            .field("count", &self.count)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Exhausted;

    // SAFETY: nothing is allocated.
    unsafe impl Allocator for Exhausted {
        fn allocate_zeroed(&self, _name: &str, _layout: Layout) -> Option<NonNull<u8>> {
            None
        }

        unsafe fn free(&self, _memory: NonNull<u8>, _layout: Layout) {
            unreachable!("nothing was allocated")
        }
    }

    #[test]
    fn a_slab_has_room_for_its_capacity() {
        for allocator in [HEAP, &Exhausted] {
            let mut slab = Slab::with_capacity("test", 3, allocator);
            assert!(slab.is_empty());
            assert!([5_u32, 6, 7].into_iter().all(|value| slab.push(value)));
            assert!(!slab.push(8), "full");
            slab[1] = 9;
            assert_eq!(*slab, [5, 9, 7]);
            assert_eq!(slab.as_ptr().align_offset(64), 0, "on a cache line");
            assert_eq!(
                *Slab::filled("test", 70, [1_u8; 3], allocator),
                [[1; 3]; 70]
            );
            assert!(!Slab::with_capacity("none", 0, allocator).push(1_u8));
        }
    }

    /// The heap, and how many bytes of it are in use.
    #[derive(Debug)]
    struct Counted(AtomicUsize);

    // SAFETY: the heap's guarantees.
    unsafe impl Allocator for Counted {
        fn allocate_zeroed(&self, name: &str, layout: Layout) -> Option<NonNull<u8>> {
            self.0.fetch_add(layout.size(), Ordering::Relaxed);
            HEAP.allocate_zeroed(name, layout)
        }

        unsafe fn free(&self, memory: NonNull<u8>, layout: Layout) {
            self.0.fetch_sub(layout.size(), Ordering::Relaxed);
            // SAFETY: the caller's guarantees; it is the heap's.
            unsafe { HEAP.free(memory, layout) }
        }
    }

    #[test]
    fn memory_is_given_back() {
        static COUNTED: Counted = Counted(AtomicUsize::new(0));
        let memory = Memory::<u64>::zeroed("test", 1_000, &COUNTED).unwrap();
        let slab = Slab::filled("test", 70, [1_u8; 3], &COUNTED);
        assert!(COUNTED.0.load(Ordering::Relaxed) >= 8_000 + 210);
        drop((memory, slab));
        assert_eq!(COUNTED.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn memory_is_zeroed_or_refused() {
        let mut memory = Memory::<[u64; 2]>::zeroed("test", 1_000, HEAP).unwrap();
        assert!(memory.iter().all(|&words| words == [0, 0]));
        memory.fill([7, 8]);
        assert_eq!((memory.len(), memory[999]), (1_000, [7, 8]));
        assert_eq!(memory.as_ptr().align_offset(64), 0, "on a cache line");
        assert!(Memory::<u16>::zeroed("none", 0, HEAP).unwrap().is_empty());
        let refused = Memory::<u16>::zeroed("test", 500, &Exhausted).unwrap_err();
        assert_eq!(refused, NoMemory { bytes: 1_000 });
        let too_many = Memory::<u64>::zeroed("test", usize::MAX, HEAP).unwrap_err();
        assert_eq!(too_many, NoMemory { bytes: usize::MAX });
    }
}

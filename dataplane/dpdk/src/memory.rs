use std::{
    alloc::{self, Layout, handle_alloc_error},
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    slice,
};

use thiserror::Error;
use voicelane_dpdk_sys as sys;

/// DPDK has no piece of memory that is large enough.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("DPDK has no {bytes} bytes in one piece: it needs more memory")]
pub struct NoMemory {
    /// How many were wanted.
    pub bytes: usize,
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

/// A slice in DPDK's memory, in hugepages where there are any, on a cache line of its own. Zeroes at
/// first.
pub struct Memory<T: Zeroed> {
    first: NonNull<T>,
    count: usize,
}

// SAFETY: the memory has one owner, and nothing in it is bound to a thread.
unsafe impl<T: Zeroed + Send> Send for Memory<T> {}

impl<T: Zeroed> Memory<T> {
    /// Takes memory for `count` values, on the caller's NUMA node if there is room. Call after
    /// [`crate::Eal::init`].
    pub fn zeroed(name: &str, count: usize) -> Result<Self, NoMemory> {
        let bytes = count.saturating_mul(size_of::<T>());
        // The name is for DPDK's dumps only.
        let name = std::ffi::CString::new(name).unwrap_or_default();
        // SAFETY: the name is NUL-terminated; without EAL there is no heap, and null comes.
        let first = unsafe { sys::rte_zmalloc(name.as_ptr(), bytes, 64) };
        // A cache line is more than any such type's alignment.
        let first = NonNull::new(first.cast::<T>()).ok_or(NoMemory { bytes })?;
        Ok(Self { first, count })
    }
}

impl<T: Zeroed> Deref for Memory<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: so many values were allocated, aligned, and zeroes or written since.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl<T: Zeroed> DerefMut for Memory<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and this is the only user.
        unsafe { slice::from_raw_parts_mut(self.first.as_ptr(), self.count) }
    }
}

impl<T: Zeroed> Drop for Memory<T> {
    fn drop(&mut self) {
        // SAFETY: the memory came from rte_zmalloc and is not used again.
        unsafe { sys::rte_free(self.first.as_ptr().cast()) }
    }
}

impl<T: Zeroed> fmt::Debug for Memory<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// A vector of a fixed capacity in DPDK's memory, in hugepages where there are any, on cache lines of
/// its own; on the heap where DPDK has none left.
pub struct Slab<T: Copy> {
    first: NonNull<T>,
    count: usize,
    capacity: usize,
    /// How it was allocated on the heap; else it is DPDK's.
    heap: Option<Layout>,
}

// SAFETY: the memory has one owner, and nothing in it is bound to a thread.
unsafe impl<T: Copy + Send> Send for Slab<T> {}

impl<T: Copy> Slab<T> {
    /// An empty one for `capacity` values. Ends the process when there is no memory, as all of Rust's
    /// collections do.
    #[must_use]
    pub fn with_capacity(name: &str, capacity: usize) -> Self {
        let layout = Layout::array::<T>(capacity.max(1)).and_then(|layout| layout.align_to(64));
        let Ok(layout) = layout else {
            handle_alloc_error(Layout::new::<T>());
        };
        // The name is for DPDK's dumps only.
        let name = std::ffi::CString::new(name).unwrap_or_default();
        let align = u32::try_from(layout.align()).unwrap_or(64);
        // SAFETY: the name is NUL-terminated; without EAL there is no heap, and null comes.
        let first = unsafe { sys::rte_malloc(name.as_ptr(), layout.size(), align) };
        let (first, heap) = match NonNull::new(first.cast::<T>()) {
            Some(first) => (first, None),
            // SAFETY: a type of no size would have made the layout empty, which is excluded.
            None => match NonNull::new(unsafe { alloc::alloc(layout) }.cast::<T>()) {
                Some(first) => (first, Some(layout)),
                None => handle_alloc_error(layout),
            },
        };
        const { assert!(size_of::<T>() > 0, "values that take memory") };
        Self {
            first,
            count: 0,
            capacity,
            heap,
        }
    }

    /// `count` times the same.
    #[must_use]
    pub fn filled(name: &str, count: usize, value: T) -> Self {
        let mut slab = Self::with_capacity(name, count);
        while slab.push(value) {}
        slab
    }

    /// Adds a value; when there is no room, nothing changes and the answer is no.
    #[inline]
    #[must_use]
    pub fn push(&mut self, value: T) -> bool {
        if self.count == self.capacity {
            return false;
        }
        // SAFETY: there is room for `capacity` values, of which `count` are there.
        unsafe { self.first.add(self.count).write(value) };
        self.count += 1;
        true
    }

    /// Asks the CPU to fetch the value in a place; to ask for one that is not there does no harm.
    #[inline]
    pub fn prefetch(&self, place: usize) {
        crate::prefetch(self.first.as_ptr().wrapping_add(place));
    }
}

impl<T: Copy> Deref for Slab<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: so many values have been written, aligned.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl<T: Copy> DerefMut for Slab<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and this is the only user.
        unsafe { slice::from_raw_parts_mut(self.first.as_ptr(), self.count) }
    }
}

impl<T: Copy> Drop for Slab<T> {
    fn drop(&mut self) {
        let first = self.first.as_ptr();
        match self.heap {
            // SAFETY: the heap gave it with this layout, and it is not used again.
            Some(layout) => unsafe { alloc::dealloc(first.cast(), layout) },
            // SAFETY: rte_malloc gave it, and it is not used again.
            None => unsafe { sys::rte_free(first.cast()) },
        }
    }
}

impl<T: Copy> fmt::Debug for Slab<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab")
            .field("count", &self.count)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without EAL: on the heap. With it: `tests/real.rs`.
    #[test]
    fn a_slab_has_room_for_its_capacity() {
        let mut slab = Slab::with_capacity("test", 3);
        assert!(slab.is_empty());
        assert!([5_u32, 6, 7].into_iter().all(|value| slab.push(value)));
        assert!(!slab.push(8), "full");
        slab[1] = 9;
        assert_eq!(*slab, [5, 9, 7]);
        assert_eq!(slab.as_ptr().align_offset(64), 0, "on a cache line");
        assert_eq!(*Slab::filled("test", 70, [1_u8; 3]), [[1; 3]; 70]);
        assert!(!Slab::with_capacity("none", 0).push(1_u8));
    }
}

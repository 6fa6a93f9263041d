use std::{
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

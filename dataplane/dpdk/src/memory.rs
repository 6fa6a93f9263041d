use std::{alloc::Layout, ffi::CString, ptr::NonNull};

use voicelane_dpdk_sys as sys;
use voicelane_machine::Allocator;

use crate::Eal;

/// DPDK's memory, in hugepages where there are any, on the caller's NUMA node if there is room.
#[derive(Debug)]
struct DpdkMemory;

// SAFETY: rte_zmalloc gives what was asked for, zeroed and aligned, or null; rte_free is for any thread.
unsafe impl Allocator for DpdkMemory {
    fn allocate_zeroed(&self, name: &str, layout: Layout) -> Option<NonNull<u8>> {
        // The name is for DPDK's dumps only.
        let name = CString::new(name).unwrap_or_default();
        let alignment = u32::try_from(layout.align()).ok()?;
        // SAFETY: the name is NUL-terminated, and EAL is initialised: only `Eal` hands this out.
        let memory = unsafe { sys::rte_zmalloc(name.as_ptr(), layout.size(), alignment) };
        NonNull::new(memory.cast())
    }

    unsafe fn free(&self, memory: NonNull<u8>, _layout: Layout) {
        // SAFETY: rte_zmalloc gave it, and the caller does not use it again.
        unsafe { sys::rte_free(memory.as_ptr().cast()) }
    }
}

impl Eal {
    /// Memory for tables: hugepages where there are any, on the calling thread's NUMA node if there is
    /// room.
    #[must_use]
    pub fn memory(&self) -> &'static dyn Allocator {
        &DpdkMemory
    }
}

use voicelane_dpdk_sys as sys;

/// Reads the CPU's time-stamp counter.
#[inline]
#[must_use]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86_64 CPU has the instruction.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a counter register.
    unsafe {
        sys::vl_tsc()
    }
}

/// Ticks of [`tsc`] in a second, as EAL measured them. Call after [`crate::Eal::init`].
#[must_use]
pub fn tsc_hz() -> u64 {
    // SAFETY: reads a global that EAL's initialisation set.
    unsafe { sys::rte_get_tsc_hz() }
}

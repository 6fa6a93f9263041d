use std::num::NonZeroU64;

use voicelane_dpdk_sys as sys;

/// The calling thread's network namespace: a number that no other gets until the next boot. Nothing
/// where the kernel (before Linux 5.14) does not tell.
#[must_use]
pub fn network_namespace() -> Option<NonZeroU64> {
    // SAFETY: it has no arguments, and closes what it opens.
    NonZeroU64::new(unsafe { sys::vl_network_namespace() })
}

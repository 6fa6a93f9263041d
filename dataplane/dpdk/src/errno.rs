use std::{ffi::CStr, fmt};

use voicelane_dpdk_sys as sys;

/// A DPDK error number (a positive `errno` or one of DPDK's own).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    /// From what a DPDK function returned: negative error numbers are errors.
    pub(crate) fn check(returned: i32) -> Result<i32, Self> {
        if returned < 0 {
            Err(Self(-returned))
        } else {
            Ok(returned)
        }
    }

    /// The error number that the last failed call on this thread left.
    pub(crate) fn last() -> Self {
        // SAFETY: reads a thread-local integer.
        Self(unsafe { sys::vl_errno() })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: rte_strerror returns a NUL-terminated string, static or in a per-thread buffer
        // that stays as it is until this thread's next call.
        let text = unsafe { CStr::from_ptr(sys::rte_strerror(self.0)) };
        write!(f, "{} ({})", text.to_string_lossy(), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

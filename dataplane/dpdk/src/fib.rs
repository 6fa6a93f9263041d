use std::{ffi::CString, fmt, net::Ipv4Addr, ptr::NonNull};

use thiserror::Error;
use voicelane_dpdk_sys as sys;

use crate::{BURST, Errno};

/// Why a route could not be changed.
#[derive(Debug, Error)]
pub enum FibError {
    /// Next hops are 15 bits wide.
    #[error("next hop {0} is over {max}", max = Fib4::MAX_NEXT_HOP)]
    NextHop(u16),
    /// A prefix longer than the address.
    #[error("prefix length {0} is longer than the address")]
    PrefixLength(u8),
    /// DPDK refused: no room, or no such route.
    #[error("{operation} failed: {errno}")]
    Operation {
        /// Which.
        operation: &'static str,
        /// What DPDK said.
        errno: Errno,
    },
}

/// An IPv4 longest-prefix table (DPDK's DIR-24-8), for one thread.
///
/// A lookup that matches nothing gives [`Fib4::NONE`]. The route to 0.0.0.0/0 is kept apart, so that
/// changing it does not write sixteen million entries.
pub struct Fib4 {
    raw: NonNull<sys::rte_fib>,
    default: u16,
}

// SAFETY: the table has one owner, and nothing in it is bound to a thread.
unsafe impl Send for Fib4 {}

impl Fib4 {
    /// What a lookup gives for an address that no route covers.
    pub const NONE: u16 = 0;
    /// The largest next hop.
    pub const MAX_NEXT_HOP: u16 = (1 << 15) - 1;

    /// Makes an empty table, 32 MiB large, for at most `max_routes`.
    pub fn create(name: &str, max_routes: u32, socket: i32) -> Result<Self, FibError> {
        let failed = |errno| FibError::Operation {
            operation: "creating the route table",
            errno,
        };
        let c_name = CString::new(name).unwrap_or_default();
        let routes = i32::try_from(max_routes).unwrap_or(i32::MAX);
        // One second-level table serves the 256 addresses of a /24 that has longer prefixes in it.
        let second_level = (max_routes / 4).clamp(256, 32_767);
        // SAFETY: the name is NUL-terminated and copied by DPDK.
        let raw = unsafe {
            sys::vl_fib_create(
                c_name.as_ptr(),
                socket,
                routes,
                second_level,
                Self::NONE.into(),
            )
        };
        let raw = NonNull::new(raw).ok_or_else(|| failed(Errno::last()))?;
        Ok(Self {
            raw,
            default: Self::NONE,
        })
    }

    /// Adds a route, or changes its next hop. Bits of the address past the prefix are ignored.
    pub fn insert(&mut self, prefix: Ipv4Addr, length: u8, next_hop: u16) -> Result<(), FibError> {
        if next_hop > Self::MAX_NEXT_HOP {
            return Err(FibError::NextHop(next_hop));
        }
        match length {
            0 => self.default = next_hop,
            1..=32 => {
                // SAFETY: the table is valid and this is its only user.
                let returned = unsafe {
                    sys::rte_fib_add(self.raw.as_ptr(), prefix.into(), length, next_hop.into())
                };
                Errno::check(returned).map_err(|errno| FibError::Operation {
                    operation: "adding a route",
                    errno,
                })?;
            }
            _ => return Err(FibError::PrefixLength(length)),
        }
        Ok(())
    }

    /// Removes a route.
    pub fn remove(&mut self, prefix: Ipv4Addr, length: u8) -> Result<(), FibError> {
        match length {
            0 => self.default = Self::NONE,
            1..=32 => {
                // SAFETY: as in `insert`.
                let returned =
                    unsafe { sys::rte_fib_delete(self.raw.as_ptr(), prefix.into(), length) };
                Errno::check(returned).map_err(|errno| FibError::Operation {
                    operation: "removing a route",
                    errno,
                })?;
            }
            _ => return Err(FibError::PrefixLength(length)),
        }
        Ok(())
    }

    /// Next hops of a burst of addresses (in host byte order), each in the place of its address.
    /// Looks up as many as both slices hold.
    #[inline]
    pub fn lookup(&self, addresses: &[u32], next_hops: &mut [u16]) {
        for (addresses, next_hops) in addresses.chunks(BURST).zip(next_hops.chunks_mut(BURST)) {
            let count = addresses.len().min(next_hops.len());
            let mut wide = [0_u64; BURST];
            #[allow(clippy::cast_possible_truncation, reason = "chunks of at most BURST")]
            // SAFETY: both arrays hold at least `count` elements; DPDK writes no more, and does not
            // write to the addresses although it takes a mutable pointer.
            unsafe {
                sys::rte_fib_lookup_bulk(
                    self.raw.as_ptr(),
                    addresses.as_ptr().cast_mut(),
                    wide.as_mut_ptr(),
                    count as i32,
                );
            }
            for (next_hop, wide) in next_hops.iter_mut().zip(wide) {
                #[allow(clippy::cast_possible_truncation, reason = "entries are 15 bits wide")]
                let found = wide as u16;
                *next_hop = if found == Self::NONE {
                    self.default
                } else {
                    found
                };
            }
        }
    }
}

impl Drop for Fib4 {
    fn drop(&mut self) {
        // SAFETY: the table is valid and not used again.
        unsafe { sys::rte_fib_free(self.raw.as_ptr()) }
    }
}

impl fmt::Debug for Fib4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fib4")
            .field("default", &self.default)
            .finish_non_exhaustive()
    }
}

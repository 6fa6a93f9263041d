use std::{ffi::CString, fmt, net::Ipv6Addr, ptr::NonNull};

use voicelane_dpdk_sys as sys;

use crate::{BURST, Errno, Fib4, FibError};

/// An IPv6 longest-prefix table (DPDK's trie of 24, then 8 bits a step), for one thread.
///
/// As [`Fib4`]: a lookup that matches nothing gives [`Fib4::NONE`], and the route to `::/0` is kept
/// apart.
pub struct Fib6 {
    raw: NonNull<sys::rte_fib6>,
    default: u16,
}

// SAFETY: the table has one owner, and nothing in it is bound to a thread.
unsafe impl Send for Fib6 {}

impl Fib6 {
    /// Makes an empty table, 32 MiB and 512 bytes for each of the steps that its routes need: at
    /// most `max_routes` routes.
    pub fn create(name: &str, max_routes: u32, socket: i32) -> Result<Self, FibError> {
        // Tables of both families keep their nodes in pools of one namespace.
        let c_name = CString::new(format!("{name}.6")).unwrap_or_default();
        let routes = i32::try_from(max_routes).unwrap_or(i32::MAX);
        // A host route alone takes 13 steps; prefixes of one network share all but the last few.
        let steps = max_routes.saturating_mul(2).clamp(1_024, 32_767);
        // SAFETY: the name is NUL-terminated and copied by DPDK.
        let raw = unsafe {
            sys::vl_fib6_create(c_name.as_ptr(), socket, routes, steps, Fib4::NONE.into())
        };
        let raw = NonNull::new(raw).ok_or_else(|| FibError::Operation {
            operation: "creating the IPv6 route table",
            errno: Errno::last(),
        })?;
        Ok(Self {
            raw,
            default: Fib4::NONE,
        })
    }

    /// Adds a route, or changes its next hop. Bits of the address past the prefix are ignored.
    pub fn insert(&mut self, prefix: Ipv6Addr, length: u8, next_hop: u16) -> Result<(), FibError> {
        if next_hop > Fib4::MAX_NEXT_HOP {
            return Err(FibError::NextHop(next_hop));
        }
        match length {
            0 => self.default = next_hop,
            1..=128 => {
                let octets = prefix.octets();
                // SAFETY: the table is valid, this is its only user, and the address has 16 bytes.
                let returned = unsafe {
                    let address = octets.as_ptr().cast();
                    sys::vl_fib6_add(self.raw.as_ptr(), address, length, next_hop.into())
                };
                Errno::check(returned).map_err(|errno| FibError::Operation {
                    operation: "adding an IPv6 route",
                    errno,
                })?;
            }
            _ => return Err(FibError::PrefixLength(length)),
        }
        Ok(())
    }

    /// Removes a route.
    pub fn remove(&mut self, prefix: Ipv6Addr, length: u8) -> Result<(), FibError> {
        match length {
            0 => self.default = Fib4::NONE,
            1..=128 => {
                let octets = prefix.octets();
                // SAFETY: as in `insert`.
                let returned = unsafe {
                    sys::vl_fib6_delete(self.raw.as_ptr(), octets.as_ptr().cast(), length)
                };
                Errno::check(returned).map_err(|errno| FibError::Operation {
                    operation: "removing an IPv6 route",
                    errno,
                })?;
            }
            _ => return Err(FibError::PrefixLength(length)),
        }
        Ok(())
    }

    /// Next hops of a burst of addresses, each in the place of its address. Looks up as many as both
    /// slices hold.
    #[inline]
    pub fn lookup(&self, addresses: &[[u8; 16]], next_hops: &mut [u16]) {
        for (addresses, next_hops) in addresses.chunks(BURST).zip(next_hops.chunks_mut(BURST)) {
            let count = addresses.len().min(next_hops.len());
            let mut wide = [0_u64; BURST];
            #[allow(clippy::cast_possible_truncation, reason = "chunks of at most BURST")]
            // SAFETY: both arrays hold at least `count` elements; DPDK reads the addresses and
            // writes no more next hops.
            unsafe {
                let first = addresses.as_ptr().cast();
                sys::vl_fib6_lookup_bulk(self.raw.as_ptr(), first, wide.as_mut_ptr(), count as i32);
            }
            for (next_hop, wide) in next_hops.iter_mut().zip(wide) {
                #[allow(clippy::cast_possible_truncation, reason = "entries are 15 bits wide")]
                let found = wide as u16;
                *next_hop = if found == Fib4::NONE {
                    self.default
                } else {
                    found
                };
            }
        }
    }
}

impl Drop for Fib6 {
    fn drop(&mut self) {
        // SAFETY: the table is valid and not used again.
        unsafe { sys::rte_fib6_free(self.raw.as_ptr()) }
    }
}

impl fmt::Debug for Fib6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fib6")
            .field("default", &self.default)
            .finish_non_exhaustive()
    }
}

use std::{
    ffi::CString,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    ptr::NonNull,
};

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

/// IPv4's table: DPDK's DIR-24-8, 32 MiB and 512 bytes for each /24 with longer prefixes in it.
pub type Fib4 = Fib<Ipv4Addr>;
/// IPv6's table: DPDK's trie of 24, then 8 bits a step, 32 MiB and 512 bytes a step.
pub type Fib6 = Fib<Ipv6Addr>;

/// A longest-prefix table, for one thread.
///
/// A lookup that matches nothing gives [`Fib::NONE`]. The route to everything is kept apart, so that
/// changing it does not write sixteen million entries.
pub struct Fib<A: FibAddress> {
    raw: NonNull<A::Table>,
    default: u16,
}

/// An address family that DPDK has a table for.
///
/// # Safety
///
/// The functions must do what [`Fib`] says of them, with tables that `create` made.
pub unsafe trait FibAddress: Copy {
    /// DPDK's table.
    type Table;
    /// An address in a burst of lookups.
    type Lookup: Copy;
    /// Bits of an address.
    const BITS: u8;

    /// Makes an empty table, or gives null.
    ///
    /// # Safety
    ///
    /// EAL must be initialised.
    unsafe fn create(name: &str, socket: i32, max_routes: u32) -> *mut Self::Table;
    /// Adds a route.
    ///
    /// # Safety
    ///
    /// The table must be valid and not in use elsewhere; so with all that follow.
    unsafe fn add(self, table: *mut Self::Table, length: u8, next_hop: u16) -> i32;
    /// Removes a route.
    ///
    /// # Safety
    ///
    /// As `add`.
    unsafe fn delete(self, table: *mut Self::Table, length: u8) -> i32;
    /// Looks up as many addresses as there are, each in its place; both slices are equally long, and
    /// at most [`BURST`].
    ///
    /// # Safety
    ///
    /// As `add`.
    unsafe fn lookup(table: *mut Self::Table, addresses: &[Self::Lookup], next_hops: &mut [u64]);
    /// Frees the table.
    ///
    /// # Safety
    ///
    /// As `add`, and it must not be used again.
    unsafe fn free(table: *mut Self::Table);
}

// SAFETY: each function hands its arguments to DPDK's function for this family.
unsafe impl FibAddress for Ipv4Addr {
    type Table = sys::rte_fib;
    /// In host byte order.
    type Lookup = u32;
    const BITS: u8 = 32;

    unsafe fn create(name: &str, socket: i32, max_routes: u32) -> *mut sys::rte_fib {
        let name = CString::new(name).unwrap_or_default();
        let routes = i32::try_from(max_routes).unwrap_or(i32::MAX);
        let second_level = (max_routes / 4).clamp(256, 32_767);
        // SAFETY: the name is NUL-terminated and copied by DPDK.
        unsafe { sys::vl_fib_create(name.as_ptr(), socket, routes, second_level, 0) }
    }

    unsafe fn add(self, table: *mut sys::rte_fib, length: u8, next_hop: u16) -> i32 {
        // SAFETY: the caller's.
        unsafe { sys::rte_fib_add(table, self.into(), length, next_hop.into()) }
    }

    unsafe fn delete(self, table: *mut sys::rte_fib, length: u8) -> i32 {
        // SAFETY: the caller's.
        unsafe { sys::rte_fib_delete(table, self.into(), length) }
    }

    #[inline]
    unsafe fn lookup(table: *mut sys::rte_fib, addresses: &[u32], next_hops: &mut [u64]) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            reason = "a burst"
        )]
        // SAFETY: the table is the caller's; DPDK reads the addresses, though it takes a mutable
        // pointer, and writes as many next hops.
        unsafe {
            let first = addresses.as_ptr().cast_mut();
            sys::rte_fib_lookup_bulk(table, first, next_hops.as_mut_ptr(), addresses.len() as i32);
        }
    }

    unsafe fn free(table: *mut sys::rte_fib) {
        // SAFETY: the caller's.
        unsafe { sys::rte_fib_free(table) }
    }
}

// SAFETY: each function hands its arguments to DPDK's function for this family.
unsafe impl FibAddress for Ipv6Addr {
    type Table = sys::rte_fib6;
    /// In network byte order.
    type Lookup = [u8; 16];
    const BITS: u8 = 128;

    unsafe fn create(name: &str, socket: i32, max_routes: u32) -> *mut sys::rte_fib6 {
        // Tables of both families keep their nodes in pools of one namespace.
        let name = CString::new(format!("{name}.6")).unwrap_or_default();
        let routes = i32::try_from(max_routes).unwrap_or(i32::MAX);
        // A host route alone takes 13 steps; prefixes of one network share all but the last few.
        let steps = max_routes.saturating_mul(2).clamp(1_024, 32_767);
        // SAFETY: the name is NUL-terminated and copied by DPDK.
        unsafe { sys::vl_fib6_create(name.as_ptr(), socket, routes, steps, 0) }
    }

    unsafe fn add(self, table: *mut sys::rte_fib6, length: u8, next_hop: u16) -> i32 {
        let octets = self.octets();
        // SAFETY: the table is the caller's, and the address has 16 bytes.
        unsafe { sys::vl_fib6_add(table, octets.as_ptr().cast(), length, next_hop.into()) }
    }

    unsafe fn delete(self, table: *mut sys::rte_fib6, length: u8) -> i32 {
        let octets = self.octets();
        // SAFETY: as in `add`.
        unsafe { sys::vl_fib6_delete(table, octets.as_ptr().cast(), length) }
    }

    #[inline]
    unsafe fn lookup(table: *mut sys::rte_fib6, addresses: &[[u8; 16]], next_hops: &mut [u64]) {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            reason = "a burst"
        )]
        // SAFETY: the table is the caller's; DPDK reads the addresses and writes as many next hops.
        unsafe {
            let first = addresses.as_ptr().cast();
            sys::vl_fib6_lookup_bulk(table, first, next_hops.as_mut_ptr(), addresses.len() as i32);
        }
    }

    unsafe fn free(table: *mut sys::rte_fib6) {
        // SAFETY: the caller's.
        unsafe { sys::rte_fib6_free(table) }
    }
}

// SAFETY: the table has one owner, and nothing in it is bound to a thread.
unsafe impl<A: FibAddress> Send for Fib<A> {}

impl<A: FibAddress> Fib<A> {
    /// What a lookup gives for an address that no route covers.
    pub const NONE: u16 = 0;
    /// The largest next hop.
    pub const MAX_NEXT_HOP: u16 = (1 << 15) - 1;

    /// Makes an empty table for at most `max_routes`. Call after [`crate::Eal::init`].
    pub fn create(name: &str, max_routes: u32, socket: i32) -> Result<Self, FibError> {
        // SAFETY: without EAL, DPDK finds no memory and gives null.
        let raw = NonNull::new(unsafe { A::create(name, socket, max_routes) });
        let raw = raw.ok_or_else(|| FibError::Operation {
            operation: "creating a route table",
            errno: Errno::last(),
        })?;
        Ok(Self {
            raw,
            default: Self::NONE,
        })
    }

    /// Adds a route, or changes its next hop. Bits of the address past the prefix are ignored.
    pub fn insert(&mut self, prefix: A, length: u8, next_hop: u16) -> Result<(), FibError> {
        if next_hop > Self::MAX_NEXT_HOP {
            return Err(FibError::NextHop(next_hop));
        }
        if length == 0 {
            self.default = next_hop;
            return Ok(());
        }
        if length > A::BITS {
            return Err(FibError::PrefixLength(length));
        }
        // SAFETY: the table is valid, and this is its only user.
        let returned = unsafe { prefix.add(self.raw.as_ptr(), length, next_hop) };
        Errno::check(returned)
            .map(drop)
            .map_err(|errno| FibError::Operation {
                operation: "adding a route",
                errno,
            })
    }

    /// Removes a route.
    pub fn remove(&mut self, prefix: A, length: u8) -> Result<(), FibError> {
        if length == 0 {
            self.default = Self::NONE;
            return Ok(());
        }
        if length > A::BITS {
            return Err(FibError::PrefixLength(length));
        }
        // SAFETY: as in `insert`.
        let returned = unsafe { prefix.delete(self.raw.as_ptr(), length) };
        Errno::check(returned)
            .map(drop)
            .map_err(|errno| FibError::Operation {
                operation: "removing a route",
                errno,
            })
    }

    /// Next hops of a burst of addresses, each in the place of its address. Looks up as many as there
    /// are addresses, at most [`BURST`].
    #[inline]
    pub fn lookup(&self, addresses: &[A::Lookup], next_hops: &mut [u64; BURST]) {
        let count = addresses.len().min(BURST);
        let (addresses, next_hops) = (&addresses[..count], &mut next_hops[..count]);
        // SAFETY: the table is valid, and lookups do not change it; both slices are equally long.
        unsafe { A::lookup(self.raw.as_ptr(), addresses, next_hops) };
        if self.default != Self::NONE {
            for next_hop in next_hops {
                if *next_hop == u64::from(Self::NONE) {
                    *next_hop = self.default.into();
                }
            }
        }
    }
}

impl<A: FibAddress> Drop for Fib<A> {
    fn drop(&mut self) {
        // SAFETY: the table is valid and not used again.
        unsafe { A::free(self.raw.as_ptr()) }
    }
}

impl<A: FibAddress> fmt::Debug for Fib<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fib")
            .field("default", &self.default)
            .finish_non_exhaustive()
    }
}

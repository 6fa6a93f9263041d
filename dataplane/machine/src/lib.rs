//! What the dataplane needs of CPU and memory, and safe Rust does not have: comparisons of many numbers
//! at once ([`equal_places`]), prefetching, and memory for large tables on cache lines ([`Memory`],
//! [`Slab`]), which comes from the heap or from another [`Allocator`], as DPDK's hugepages.
//!
//! Each piece is `unsafe` for a measured reason (bench/README.md, "What safe Rust would take"): with safe
//! comparisons a packet of a call takes 320 instructions in place of 264, and 674 in place of 458 where 13
//! classes are saturated; without [`scatter`]'s instruction these are 465. Session tables in hugepages take
//! 141 cycles a packet in place of 215 at a million flows; an IPv6 session's second line fetched ahead, 147
//! in place of 155. The fuzz target `frames` goes through all of it, and Miri over this crate's tests
//! (`scripts/test --deep`).

#![deny(unsafe_op_in_unsafe_fn)]

mod lanes;
mod memory;
mod prefetch;

pub use lanes::{equal_bytes, equal_lanes, equal_places, scatter};
pub use memory::{Allocator, HEAP, Memory, NoMemory, Slab, Zeroed};
pub use prefetch::prefetch;

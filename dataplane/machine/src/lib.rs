//! What the dataplane needs of CPU and memory, and safe Rust does not have: comparisons of many numbers
//! at once ([`equal_places`]), prefetching, and memory for large tables on cache lines ([`Memory`],
//! [`Slab`]), which comes from the heap or from another [`Allocator`], as DPDK's hugepages.

#![deny(unsafe_op_in_unsafe_fn)]

mod lanes;
mod memory;
mod prefetch;

pub use lanes::{equal_bytes, equal_lanes, equal_places, scatter};
pub use memory::{Allocator, HEAP, Memory, NoMemory, Slab, Zeroed};
pub use prefetch::prefetch;

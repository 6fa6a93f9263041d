//! A safe interface to DPDK.
//!
//! All of the data plane's `unsafe` code lives here and in the raw bindings below. The order of use:
//! [`Eal::init`] once, a [`Mempool`], [`Port::configure`] for each port, [`Port::start`], which gives
//! [`RxQueue`]s and [`TxQueue`]s, each of which belongs to one thread at a time.

#![deny(unsafe_op_in_unsafe_fn)]

mod eal;
mod errno;
mod lanes;
mod mbuf;
mod memory;
mod namespace;
mod port;
mod tsc;

pub use eal::{Eal, EalConfig, EalError, Hugepages, WorkerThread};
pub use errno::Errno;
pub use lanes::{equal_bytes, equal_lanes, equal_places, scatter};
pub use mbuf::{Mbuf, Mempool, MempoolError, TooLong};
pub use memory::{Memory, NoMemory, Slab, Zeroed};
pub use namespace::network_namespace;
pub use port::{
    Description, Link, Parked, Port, PortConfig, PortError, PortStats, RxQueue, TxQueue,
};
pub use tsc::{prefetch, tsc, tsc_hz};

/// How long a frame is that came with a service tag (IEEE 802.1ad) on a port of net_af_packet, without
/// the tag, which looks like any other: its addresses are left. No other frame is as short.
pub const SERVICE_TAGGED_BYTES: usize = voicelane_dpdk_sys::VL_SERVICE_TAGGED_BYTES as usize;

/// The most buffers that one receive or transmit call moves.
pub const BURST: usize = 64;

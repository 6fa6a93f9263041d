//! A safe interface to DPDK.
//!
//! All of the data plane's `unsafe` code lives here and in the raw bindings below. The order of use:
//! [`Eal::init`] once, a [`Mempool`], [`Port::configure`] for each port, [`Port::start`], which gives
//! [`RxQueue`]s and [`TxQueue`]s, each of which belongs to one thread at a time.

#![deny(unsafe_op_in_unsafe_fn)]

mod description;
mod device;
mod eal;
mod errno;
mod mbuf;
mod memory;
mod namespace;
mod port;
mod tsc;

pub use description::Description;
pub use device::DpdkDevice;
pub use eal::{Eal, EalConfig, EalError, Hugepages, WorkerThread};
pub use errno::Errno;
pub use mbuf::{Mbuf, Mempool, MempoolError, TooLong};
pub use namespace::network_namespace;
pub use port::{Link, Parked, Port, PortConfig, PortError, PortStats, RxQueue, TxQueue};
pub use tsc::{tsc, tsc_hz};

const _: () = assert!(
    voicelane_dpdk_sys::VL_SERVICE_TAGGED_BYTES as usize
        == voicelane_dataplane::device::SERVICE_TAGGED_BYTES,
    "the shim's filter and the parser agree"
);

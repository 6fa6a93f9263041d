//! The data plane's start and end: DPDK, buffers, ports, the pinned worker.

pub mod client;
pub mod cores;
pub mod links;
pub mod memory;

mod start;
mod worker;

pub use client::{Client, WorkerGone};
pub use start::{Dataplane, OpenPort, StartError, start};
pub use worker::{WorkerEnd, WorkerThread};

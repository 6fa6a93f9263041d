//! The data plane's start and end: DPDK, buffers, ports, the pinned workers.

pub mod client;
pub mod cores;
pub mod links;
pub mod memory;
pub mod numa;

mod spread;
mod start;
mod worker;

pub use client::{Client, WorkerGone};
pub use spread::WrongQueues;
pub use start::{Dataplane, OpenPort, StartError, start};
pub use worker::{WorkerEnd, WorkerThreads};

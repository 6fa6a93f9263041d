//! The network-namespace testbed below tests, demo and measurements. It knows the programs under test
//! by their files and their gRPC alone.
//!
//! A [`Lab`] owns network namespaces, the links between them and the processes in them, and takes
//! all of it down when it is dropped, on SIGINT and SIGTERM, and (by the next lab's start) after a
//! crash. [`TwoSites`] is the network of the demo: a caller's LAN and a bulk host on router A, a
//! callee's LAN and a bulk sink on router B, a core link between them, and a management network.
//!
//! Traffic comes from threads of this process that enter a namespace before they open their
//! sockets, so that sender and receiver read one clock. [`traffic::Calls`] sends and receives
//! RTP-like calls, [`traffic::Bulk`] fills a link, and [`quality`] makes figures of what arrived.
//!
//! Everything here needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN) and iproute2, ethtool, util-linux.

#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    reason = "a tool of this tree: fields are documented where the name leaves something open"
)]

pub mod clock;
pub mod control;
pub mod quality;
pub mod topology;
pub mod traffic;

mod capture;
mod command;
mod error;
mod lab;
mod link;
mod namespace;
mod process;
mod programs;

pub use self::{
    capture::Capture,
    error::LabError,
    lab::{Lab, sweep},
    link::End,
    namespace::Namespace,
    process::Process,
    programs::{PortDriver, RouterOptions, bin_dir, program},
    topology::{IpVersion, RouterProcess, Site, TwoSites},
};

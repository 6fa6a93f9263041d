//! The packet's way through Voicelane: a poll-mode data plane that knows calls by their five-tuple,
//! meters and marks them, and serves them by their behaviour aggregate.
//!
//! [`workers::Worker`] is one core's whole data plane. It runs on a [`device::Device`]: DPDK's ports,
//! or a simulated device with a virtual clock. The control side talks to it through
//! [`control::Control`] and [`control::Twins`], and never shares memory with it.

#![forbid(unsafe_code)]

pub mod control;
pub mod device;
pub mod diffserv;
pub mod packet_mask;
mod pipeline;
pub mod policy;
pub mod quality;
pub mod routing;
mod scheduler;
pub mod session;
pub mod settings;
pub mod stats;
pub mod trace;
pub mod units;
pub mod wire;
pub mod workers;

pub use routing::{Adjacency, Fibs, InterfaceSet, Paths};

//! The packet's way through Voicelane: a poll-mode data plane that knows calls by their five-tuple,
//! meters and marks them, and serves them by their behaviour aggregate.
//!
//! [`worker::Worker`] is one core's whole data plane. It runs on a [`device::Device`]: DPDK's ports,
//! or a simulated device with a virtual clock. The control side talks to it through
//! [`control::Control`] and [`control::Twins`], and never shares memory with it.

#![forbid(unsafe_code)]

mod bell;
pub mod control;
pub mod counters;
pub mod crew;
pub mod device;
pub mod diffserv;
pub mod fib;
mod interfaces;
mod merge;
mod pipeline;
pub mod places;
pub mod policy;
pub mod relay;
pub mod seconds;
pub mod session;
pub mod settings;
mod spread;
mod stalls;
mod twins;
pub mod units;
pub mod wire;
pub mod worker;

pub use fib::Fibs;
pub use interfaces::InterfaceSet;
pub use pipeline::{Adjacency, Paths};

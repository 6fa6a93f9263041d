//! Signalling from sockets: who may send it, and how it comes to the agent.
//!
//! A feed checks the sender, reads the frame around the message, and gives messages on in batches. The
//! queue is bounded: while the agent is busy, feeds wait, and what comes meanwhile is in the kernel's
//! buffers, which count what they drop.

pub mod hep_tcp;
pub mod hep_udp;
pub mod kernel;
pub mod ng;
mod senders;

use std::{io, net::SocketAddr};

pub use senders::{Counters, Sender, Senders};

use crate::agent::Input;

/// The most messages of a batch.
pub const BATCH: usize = 64;
/// Batches that wait for the agent.
pub const QUEUE: usize = 256;

/// Carries batches of input to the task that owns the call model. Bounded.
pub type Queue = tokio::sync::mpsc::Sender<Vec<Input>>;

/// A socket that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {what} (choose another with {key})")]
pub struct ListenError {
    /// What would come there.
    pub what: &'static str,
    /// The address that the configuration names.
    pub address: SocketAddr,
    /// The key of the configuration that says where.
    pub key: &'static str,
    /// Why the system refused it.
    pub source: io::Error,
}

//! The kernel mirror: what `ip` and routing daemons tell the kernel, told to the worker.
//!
//! netlink ([`messages`]) → the kernel's state ([`state`]) → the worker's route table ([`fib`]).

pub mod fib;
pub mod messages;
pub mod state;

mod events;
mod follow;
mod interfaces;
mod kernel;
mod netconf;
mod objects;
mod raw;
mod refusals;
mod retry;
mod routes;

pub use follow::{Mirror, MirrorError, Said, Underlays, connect, subscribe};
pub use interfaces::{InterfaceView, View};

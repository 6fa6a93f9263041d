//! Plain types and pure steps: what the server knows and decides. No gRPC, no tasks, no clock;
//! the time is an argument.

pub mod ids;
pub mod error;
mod calls;
mod routers;
mod capacity;
pub mod leases;
pub(crate) mod shards;
pub(crate) mod work;
mod tuples;
pub mod store;

pub use self::{
    calls::{codec, course, entries, meter, session},
    capacity::{admission, links, preemption},
    routers::{placement, registry, report},
};

#[cfg(test)]
mod tests;

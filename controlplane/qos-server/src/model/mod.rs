//! Plain types and pure steps: what the server knows and decides. No gRPC, no tasks, no clock;
//! the time is an argument.

pub mod ids;
pub mod error;
pub mod course;
pub mod codec;
pub mod session;
pub mod meter;
pub mod entries;
mod claims;
mod hosts;
pub mod registry;
pub mod report;
pub mod placement;
pub mod links;
pub mod admission;
pub mod preemption;
pub mod leases;
pub mod agents;
pub mod silence;
pub(crate) mod shards;
pub(crate) mod work;
mod tuples;
pub mod store;

#[cfg(test)]
mod tests;

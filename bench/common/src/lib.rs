//! What the bench programs share: the machine that figures depend on, flows and route tables with a
//! seed, and the form of reports and pictures.

#![forbid(unsafe_code)]

pub mod flows;
mod machine;
pub mod picture;
pub mod report;
pub mod routes;

pub use machine::{Machine, commit, date, dpdk_flags};

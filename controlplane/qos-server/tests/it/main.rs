//! The tests of the whole crate, one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test ends at what it did not expect"
)]

mod common;
#[path = "../../../../monitoring/families.rs"]
mod families;

mod cluster;
mod growth;
mod identities;
mod leases;
mod observe;
mod operating;
mod peers;
mod program;
mod routers;
mod sessions;
mod store;

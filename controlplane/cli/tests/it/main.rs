//! The tests of the whole crate, one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test ends at what it did not expect"
)]

mod command;
#[path = "../../../qos-server/tests/it/common/mod.rs"]
mod common;

mod agent;
mod cli;
mod explain;
mod pki;
mod quality;
mod router_api;
mod routers;
mod trace;
mod watch;

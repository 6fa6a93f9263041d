//! The tests of the whole crate, one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test ends at what it did not expect"
)]

#[path = "../../../../monitoring/families.rs"]
mod families;
mod support;

mod calls;
mod command_line;
mod kernel;
mod operator;
mod routes;
mod worker_end;

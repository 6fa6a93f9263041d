//! The tests of the whole crate, one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test ends at what it did not expect"
)]

mod common;

mod bursts;
mod churn;
mod cores;
mod fib;
mod forwarding;
mod garbage;
mod kernel;
mod policy;
mod readme;
mod scheduling;
mod sessions;
mod trace;

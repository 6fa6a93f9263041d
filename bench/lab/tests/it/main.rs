//! The tests of the whole crate, one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test ends at what it did not expect"
)]

mod judged;
mod network;

mod admitted;
mod churn;
mod classes;
mod compare;
mod demo;
mod explain;
mod fragments;
mod fraud;
mod frr;
mod quality;
mod real_ports;
mod sip;
mod watch;
mod wire;

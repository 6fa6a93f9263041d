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
mod bypass;
mod churn;
mod classes;
mod cores;
mod fib;
mod forwarding;
mod forwarding6;
mod fragments;
mod garbage;
mod ingress;
mod interfaces;
mod kernel;
mod latching;
mod metering;
mod multipath;
mod policy;
mod policy_meters;
mod quality;
mod readme;
mod reverse_path;
mod scheduling;
mod several;
mod trace;
mod trailers;
mod unusual;
mod vlan;

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
mod gate;
mod wire;

mod admission;
mod authorities;
mod changes;
mod cluster;
mod connections;
mod convergence;
mod events;
mod explain;
mod explain_now;
mod failed_adds;
mod fairness;
mod flood;
mod grace;
mod growth;
mod identities;
mod identity_files;
mod keep_agent;
mod keepalive;
mod killed_rounds;
mod leases;
mod limits;
mod meters;
mod metrics;
mod operating;
mod preemption;
mod program;
mod quality;
mod records;
mod refused;
mod reports;
mod reread;
mod reservations;
mod returning;
mod roles;
mod routers;
mod sessions;
mod store;
mod store_killed;
mod strays;
mod watch;
mod web;
mod web_readers;

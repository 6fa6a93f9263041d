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

mod command_line;
mod netns_bypassed;
mod netns_cores;
mod netns_ef_report;
mod netns_full_table;
mod netns_identity;
mod netns_interfaces;
mod netns_ipv6;
mod netns_kernel;
mod netns_latching;
mod netns_meters;
mod netns_metrics;
mod netns_overflow;
mod netns_paths;
mod netns_ports;
mod netns_punts;
mod netns_routes;
mod netns_rules;
mod netns_server;
mod netns_store;
mod netns_trace;
mod netns_vlan;
mod worker_end;

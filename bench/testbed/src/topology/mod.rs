//! The network of the demo and of the end-to-end tests.
//!
//! ```text
//! caller    10.1.0.10 ─┐lan                          lan┌─ callee    10.2.0.10
//!                      router A ── 10.9.0.0/30 core ── router B
//! bulk-src  10.3.0.10 ─┘bulk                        bulk└─ bulk-sink 10.4.0.10
//!
//! mgmt 172.30.0.0/24: server .1, agent .2, router A .11, router B .12
//! ```

pub mod addresses;
pub mod frr;
pub mod hop;
pub mod ipv6;

mod routers;
mod sites;
mod version;

pub use self::{
    routers::{RouterProcess, Servers},
    sites::{Site, TwoSites},
    version::IpVersion,
};

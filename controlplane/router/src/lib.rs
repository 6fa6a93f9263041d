//! The router's control side: it starts the data plane, gives each port a twin in the kernel,
//! mirrors the kernel's routes, and installs the sessions that the QoS server sends.

#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
mod attribute;
pub mod bypassed;
pub mod cli;
pub mod config;
pub mod dataplane;
pub mod mirror;
pub mod policy;
pub mod router;
pub mod routes;
pub mod sessions;
pub mod state_dir;
pub mod twin;

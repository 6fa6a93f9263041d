//! Voicelane's QoS server: call agents tell it of calls, routers tell it what they reach, and it
//! tells the routers of each call what to do with its packets.
//!
//! [`model`] is what it knows and decides, in plain types. [`engine`] carries that out: it owns the
//! state behind one lock that is held for in-memory steps only, and waits for routers outside it.
//! [`journal`] commits what has to survive the process.
//! [`grpc`] parses, translates and maps errors. [`records`] notes calls that have ended. [`identity`]
//! says who may say what, [`metrics`] counts, and [`serve`] puts all of it on
//! sockets.

#![forbid(unsafe_code)]

pub mod config;
pub mod model;
pub mod journal;
pub mod engine;
pub mod events;
pub mod metrics;
pub mod identity;
pub mod grpc;
pub mod records;
pub mod cluster;
mod lines;
pub mod serve;
pub mod web;

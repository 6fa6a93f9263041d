//! The call agent: learns each call from signalling that a SIP server already has, and keeps the QoS
//! server's sessions equal to it.
//!
//! ```text
//! feed (sockets) ─▶ hep, sip, sdp, ng (readers) ─▶ call (model) ─▶ client ─▶ QoS server
//!                                └───────── agent (one task) ─────────┘
//! ```
//!
//! [`hep`], [`sip`], [`sdp`] and [`ng`] read what comes from the network. They do no input or output,
//! never panic, allocate no more than a small multiple of what they read, and are lenient: a line that
//! they do not understand loses that line, not the call. [`call`] and [`client::Desired`] are pure, too:
//! time is an argument.

#![forbid(unsafe_code)]

pub mod agent;
pub mod call;
pub mod client;
pub mod config;
pub mod feed;
pub mod hep;
pub mod ng;
pub mod operator;
pub mod rate;
pub mod sdp;
pub mod sip;
pub mod start;
mod text;

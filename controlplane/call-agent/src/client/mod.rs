//! The agent's side of the QoS server.
//!
//! [`Desired`] is what the server should have, and how far it is; [`connection`] carries its changes to
//! the server and the outcomes back.

pub mod connection;
mod desired;
mod spec;

pub use desired::{Answer, Desired, Event, Question, Settings, State, Verdict};

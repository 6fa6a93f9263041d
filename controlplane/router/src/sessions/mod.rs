//! Sessions: what the QoS server asked for, and what of it the worker has.
//!
//! A command is understood ([`entries`]), planned against what is installed ([`table`]), and carried
//! out by the worker ([`commands`]). What the worker has confirmed is the truth that is reported.

pub mod entries;
pub mod table;

mod commands;
mod read;
mod sampling;
mod wanted;

pub use commands::{Commands, latched_messages};
pub use entries::WaysIn;
pub use read::{EntryReading, Sessions};
pub use sampling::Sampling;
pub use wanted::{Wanted, WantedFlow};

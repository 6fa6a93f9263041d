//! Rules, trust and meters while the router runs: the file is read again, and what differs is
//! swapped as a whole, or refused as a whole.

mod changes;
mod document;
mod policies;

pub use policies::{FIRST_GENERATION, Installed, Policies, ReloadError};

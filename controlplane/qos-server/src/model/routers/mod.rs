//! What routers report, which of them reaches an address, and so which a session concerns.

mod claims;
mod hosts;
pub mod registry;
pub mod report;
pub mod placement;

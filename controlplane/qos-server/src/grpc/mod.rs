//! The network's side: parses what comes, hands it to the [`engine`](crate::engine), translates
//! what it answers, and maps errors to status codes.

pub mod parse;
pub mod render;
pub mod status;
pub mod sessions;
mod changes;
pub mod routers;
pub mod operator;

/// The largest message that is read, and about the largest that is written.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// The largest message that is read from a router. It reports every prefix that it has routes to:
/// 20 bytes each, and ten times as many as its route table takes.
pub const MAX_ROUTER_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

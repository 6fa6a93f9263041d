//! The network's side: parses what comes, hands it to the [`engine`](crate::engine), translates
//! what it answers, and maps errors to status codes.

use tonic::{Request, Status};

use crate::serve::connection::Peer;

pub mod parse;
pub mod render;
mod quality;
pub mod status;
pub mod sessions;
mod agents;
mod changes;
mod watch;
pub mod routers;
pub mod operator;
pub mod overview;

/// The largest message that is read from agents and operators: what the limits of
/// `ChangeSessionsRequest` allow fits.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Where a page ends, bytes. Clients read 4 MiB unless told otherwise.
const PAGE_BYTES: usize = 960 * 1024;
/// The largest message that is read from a router. It reports every prefix that it has routes to:
/// 20 bytes each, and ten times as many as its route table takes.
pub const MAX_ROUTER_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Who asks.
fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Status::internal("the connection has no peer"))
}

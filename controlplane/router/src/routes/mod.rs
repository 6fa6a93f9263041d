//! Routes that the router itself gives the kernel: those of its configuration, and those that somebody
//! had added by hand on twins of a router that was killed.

mod added;
mod configured;

use futures_util::StreamExt as _;
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::{Error, Handle};

pub use added::{Added, is_by_hand};
pub use configured::{Configured, remove_blackhole};

/// Has the kernel do something.
async fn ask(handle: &Handle, message: RouteNetlinkMessage, flags: u16) -> Result<(), Error> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut answers = handle.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(Error::NetlinkError(error));
        }
    }
    Ok(())
}

/// The error number of the kernel's no.
fn errno(error: &Error) -> i32 {
    match error {
        Error::NetlinkError(error) => -error.raw_code(),
        _ => 0,
    }
}

//! Netlink messages that the netlink crates do not know yet: asked for, followed, and taken apart.

use std::io;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use rtnetlink::sys::{
    AsyncSocket as _, AsyncSocketExt as _, Socket, SocketAddr, TokioSocket,
    protocols::NETLINK_ROUTE,
};
use tracing::debug;

use super::{netconf, objects, state::Event};

/// From linux/netlink.h.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The bits of an attribute's kind that say how its value is written.
const NLA_FLAGS: u16 = 0xc000;

/// Room for what the kernel says while nobody reads, bytes.
const SOCKET_BYTES: usize = 4 << 20;

/// Bytes of a netlink message's header.
pub(super) const HEADER: usize = 16;

/// Lets a socket hold as much as the kernel may say in a burst, whatever `net.core.rmem_max` is.
pub(super) fn make_room(socket: &Socket) {
    if let Err(error) = setsockopt(socket, RcvBufForce, &SOCKET_BYTES) {
        debug!(%error, "netlink's receive buffer stays as it is");
    }
}

/// Follows these groups from now on. Call within the runtime.
pub(super) fn subscribe() -> io::Result<BoxStream<'static, Event>> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    make_room(socket.socket_mut());
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    for group in [objects::GROUP].iter().chain(&netconf::GROUPS) {
        socket.socket_mut().add_membership(*group)?;
    }
    let events = stream::unfold(socket, |socket| async {
        let events = match socket.recv_from_full().await {
            Ok((datagram, _)) => events(&datagram),
            // It holds no more: what changed is not known.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => vec![Event::Overrun],
            Err(_) => return None,
        };
        Some((stream::iter(events), socket))
    });
    Ok(events.flatten().boxed())
}

/// All that there is of a kind, by a question of this kind and content; `None` where the kernel does
/// not know the kind. Call within the runtime.
pub(super) async fn dump(kind: u16, content: &[u8]) -> io::Result<Vec<Event>> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    let length = u32::try_from(HEADER + content.len()).unwrap_or(u32::MAX);
    let mut question = length.to_ne_bytes().to_vec();
    question.extend(kind.to_ne_bytes());
    question.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    question.resize(HEADER, 0);
    question.extend(content);
    socket.send_to(&question, &SocketAddr::new(0, 0)).await?;
    let mut all = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full().await?;
        all.extend(events(&datagram));
        for (kind, message) in messages(&datagram) {
            let code = message.first_chunk();
            let code = code.map_or(0, |code| i32::from_ne_bytes(*code).wrapping_neg());
            match (kind, code) {
                (NLMSG_DONE, _) | (NLMSG_ERROR, nix::libc::EOPNOTSUPP) => return Ok(all),
                (NLMSG_ERROR, code) => return Err(io::Error::from_raw_os_error(code)),
                _ => {}
            }
        }
    }
}

/// The events in a datagram; none of what is cut short or something else.
fn events(datagram: &[u8]) -> Vec<Event> {
    let event =
        |(kind, message)| objects::event(kind, message).or_else(|| netconf::event(kind, message));
    messages(datagram).filter_map(event).collect()
}

/// Each message's kind, and what is behind its header.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d, e, f, ..] = *datagram.get(..HEADER)? else {
            return None;
        };
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
        let message = datagram.get(HEADER..length)?;
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some((u16::from_ne_bytes([e, f]), message))
    })
}

/// Each attribute's kind and value.
pub(super) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d, ..] = *rest else {
            return None;
        };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & !NLA_FLAGS, value))
    })
}

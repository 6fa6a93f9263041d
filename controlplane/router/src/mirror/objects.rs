//! What the kernel says of next hop objects (`ip nexthop`), which routing daemons make their routes of.
//!
//! A route's own message says where its objects lead. But when an object goes, or one of a group, the
//! routes go or change with it and nothing is said of them.

use std::io;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use rtnetlink::sys::{
    AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE,
};

use super::state::Event;

/// From linux/rtnetlink.h; the netlink crates do not know them yet.
const RTNLGRP_NEXTHOP: u32 = 32;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const NHA_ID: u16 = 1;

/// Bytes of a netlink message's header (linux/netlink.h), and of the header of these messages
/// (linux/nexthop.h).
const HEADER: usize = 16;
const NHMSG: usize = 8;

/// Follows the objects from now on. Call within the runtime.
pub(super) fn subscribe() -> io::Result<BoxStream<'static, Event>> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    socket.socket_mut().add_membership(RTNLGRP_NEXTHOP)?;
    let events = stream::unfold(socket, |socket| async {
        let events = match socket.recv_from_full().await {
            Ok((datagram, _)) => events(&datagram),
            // It holds no more: which objects changed is not known.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => vec![Event::Overrun],
            Err(_) => return None,
        };
        Some((stream::iter(events), socket))
    });
    Ok(events.flatten().boxed())
}

/// The events in a datagram; none of what is cut short or something else.
fn events(mut datagram: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some((message, kind, rest)) = split(datagram, HEADER) {
        if matches!(kind, RTM_NEWNEXTHOP | RTM_DELNEXTHOP) {
            events.extend(object(message).map(|id| Event::ObjectChanged { id }));
        }
        datagram = rest;
    }
    events
}

/// A message from its start on: the message, its kind, and what comes after it.
fn split(bytes: &[u8], header: usize) -> Option<(&[u8], u16, &[u8])> {
    let [a, b, c, d, e, f, ..] = *bytes.get(..header)? else {
        return None;
    };
    let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
    let message = bytes.get(header..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..);
    Some((
        message,
        u16::from_ne_bytes([e, f]),
        rest.unwrap_or_default(),
    ))
}

/// The number of the object that a message is about.
fn object(message: &[u8]) -> Option<u32> {
    let mut attributes = message.get(NHMSG..)?;
    loop {
        let [a, b, c, d, ..] = *attributes else {
            return None;
        };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([c, d]) == NHA_ID {
            return Some(u32::from_ne_bytes(value.try_into().ok()?));
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, id: u32) -> Vec<u8> {
        let attributes = [
            // NHA_OIF before, and one of an odd length.
            &[8, 0, 5, 0, 3, 0, 0, 0, 5, 0, 9, 0, 1, 0, 0, 0][..],
            &[8, 0, 1, 0],
            &id.to_ne_bytes(),
        ]
        .concat();
        let length = u32::try_from(HEADER + NHMSG + attributes.len()).unwrap();
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; HEADER - 6 + NHMSG]);
        message.extend(attributes);
        message
    }

    #[test]
    fn what_became_of_which_object_is_read() {
        let datagram = [
            message(RTM_NEWNEXTHOP, 7),
            message(24, 8),
            message(RTM_DELNEXTHOP, 9),
        ]
        .concat();
        let changed = |id| Event::ObjectChanged { id };
        assert_eq!(events(&datagram), [changed(7), changed(9)]);
        for cut in 0..datagram.len() {
            assert!(events(&datagram[..cut]).len() < 2);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_comes_ends_it(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            events(&bytes);
            let mut framed = u32::try_from(bytes.len() + 6).unwrap().to_ne_bytes().to_vec();
            framed.extend(RTM_DELNEXTHOP.to_ne_bytes());
            framed.extend(bytes);
            events(&framed);
        }
    }
}

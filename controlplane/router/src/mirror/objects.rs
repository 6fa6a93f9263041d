//! What the kernel says of next hop objects (`ip nexthop`), which routing daemons make their routes of.
//!
//! A route's own message says where its objects lead, unless `nexthop_compat_mode` is 0: then it says
//! their number only. And when an object changes or goes, or one of a group, the routes go or change
//! with it and nothing is said of them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use rtnetlink::sys::{
    AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE,
};

use super::state::{Event, Object, Via};

/// From linux/rtnetlink.h and linux/nexthop.h; the netlink crates do not know them yet.
const RTNLGRP_NEXTHOP: u32 = 32;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;
/// The bits of an attribute's kind that say how its value is written.
const NLA_FLAGS: u16 = 0xc000;
const RTNH_F_DEAD: u32 = 1;

/// From linux/netlink.h.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

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

/// All objects that there are. Call within the runtime.
pub(super) async fn dump() -> io::Result<Vec<Event>> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    let mut question = [0; HEADER + NHMSG];
    question[0] = 24; // its length
    question[4..6].copy_from_slice(&RTM_GETNEXTHOP.to_ne_bytes());
    question[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    if cfg!(target_endian = "big") {
        question[..4].reverse();
    }
    socket.send_to(&question, &SocketAddr::new(0, 0)).await?;
    let mut all = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full().await?;
        all.extend(events(&datagram));
        let mut rest = &datagram[..];
        while let Some((message, kind, behind)) = split(rest) {
            match kind {
                NLMSG_DONE => return Ok(all),
                NLMSG_ERROR => {
                    let code = message
                        .first_chunk()
                        .map_or(0, |code| i32::from_ne_bytes(*code));
                    return match code.wrapping_neg() {
                        // Before Linux 5.3 there are none.
                        nix::libc::EOPNOTSUPP => Ok(all),
                        code => Err(io::Error::from_raw_os_error(code)),
                    };
                }
                _ => rest = behind,
            }
        }
    }
}

/// The events in a datagram; none of what is cut short or something else.
fn events(mut datagram: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some((message, kind, rest)) = split(datagram) {
        match kind {
            RTM_NEWNEXTHOP => events.extend(object(message)),
            RTM_DELNEXTHOP => {
                let gone = object(message).map(|event| match event {
                    Event::Object { id, .. } => Event::Object { id, object: None },
                    other => other,
                });
                events.extend(gone);
            }
            _ => {}
        }
        datagram = rest;
    }
    events
}

/// A message behind its header, its kind, and what comes after it.
fn split(bytes: &[u8]) -> Option<(&[u8], u16, &[u8])> {
    let [a, b, c, d, e, f, ..] = *bytes.get(..HEADER)? else {
        return None;
    };
    let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
    let message = bytes.get(HEADER..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..);
    Some((
        message,
        u16::from_ne_bytes([e, f]),
        rest.unwrap_or_default(),
    ))
}

/// The object that a message is about.
fn object(message: &[u8]) -> Option<Event> {
    let flags = u32::from_ne_bytes(*message.get(4..NHMSG)?.first_chunk()?);
    let (mut id, mut interface, mut gateway, mut group) = (None, None, None, None);
    let (mut blackhole, mut refused) = (false, false);
    let mut attributes = message.get(NHMSG..)?;
    while let [a, b, c, d, ..] = *attributes {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = attributes.get(4..length)?;
        match u16::from_ne_bytes([c, d]) & !NLA_FLAGS {
            NHA_ID => id = Some(u32::from_ne_bytes(value.try_into().ok()?)),
            NHA_GROUP => group = Some(members(value)),
            NHA_BLACKHOLE => blackhole = true,
            NHA_OIF => interface = Some(u32::from_ne_bytes(value.try_into().ok()?)),
            NHA_GATEWAY => gateway = Some(address(value)?),
            NHA_ENCAP | NHA_FDB => refused = true,
            _ => {}
        }
        attributes = attributes
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    let one = || match (interface, gateway) {
        _ if blackhole => Via::Nowhere,
        _ if flags & RTNH_F_DEAD != 0 => Via::Dead,
        (Some(interface), Some(address)) if !refused => Via::Gateway { interface, address },
        (Some(interface), None) if !refused => Via::Link { interface },
        _ => Via::Refused,
    };
    let object = group.map_or_else(|| Object::One(one()), Object::Group);
    Some(Event::Object {
        id: id?,
        object: Some(object),
    })
}

/// `struct nexthop_grp`s: number, weight less 1, the weight's high byte, reserved.
fn members(value: &[u8]) -> Vec<(u32, NonZeroU16)> {
    let (members, _) = value.as_chunks::<8>();
    let member = |&[a, b, c, d, low, high, _, _]: &[u8; 8]| {
        let weight = NonZeroU16::MIN.saturating_add(u16::from_le_bytes([low, high]));
        (u32::from_ne_bytes([a, b, c, d]), weight)
    };
    members.iter().map(member).collect()
}

fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(value).ok()?;
    Some(Ipv6Addr::from(octets).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, id: u32) -> Vec<u8> {
        let own = [&[8, 0, 1, 0][..], &id.to_ne_bytes()].concat();
        // NHA_OIF before, and one of an odd length.
        let others = [8, 0, 5, 0, 3, 0, 0, 0, 5, 0, 9, 0, 1, 0, 0, 0];
        with(kind, &[&others[..], &own].concat())
    }

    fn with(kind: u16, attributes: &[u8]) -> Vec<u8> {
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
        let said = |id, via: Option<Via>| Event::Object {
            id,
            object: via.map(Object::One),
        };
        let link = Via::Link { interface: 3 };
        assert_eq!(events(&datagram), [said(7, Some(link)), said(9, None)]);
        for cut in 0..datagram.len() {
            assert!(events(&datagram[..cut]).len() < 2);
        }
    }

    #[test]
    fn groups_gateways_and_blackholes_are_read() {
        let id = [8, 0, 1, 0, 5, 0, 0, 0];
        let oif = [8, 0, 5, 0, 3, 0, 0, 0];
        let one = |attributes: &[&[u8]]| {
            let message = with(RTM_NEWNEXTHOP, &[&[&id[..]], attributes].concat().concat());
            match events(&message).pop() {
                Some(Event::Object { id: 5, object }) => object.unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let gateway = [8, 0, 6, 0, 10, 9, 0, 2];
        assert_eq!(
            one(&[&oif, &gateway]),
            Object::One(Via::Gateway {
                interface: 3,
                address: [10, 9, 0, 2].into(),
            })
        );
        let gateway6 = [
            20, 0, 6, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        ];
        assert_eq!(
            one(&[&oif, &gateway6]),
            Object::One(Via::Gateway {
                interface: 3,
                address: "fe80::1".parse().unwrap(),
            })
        );
        assert_eq!(one(&[&[4, 0, 4, 0]]), Object::One(Via::Nowhere));
        let encapsulation = [4, 0, 8, 0x80];
        assert_eq!(
            one(&[&oif, &gateway, &encapsulation]),
            Object::One(Via::Refused)
        );
        let group = [
            20, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 255, 0, 0, 0,
        ];
        let weight = |weight| NonZeroU16::new(weight).unwrap();
        assert_eq!(
            one(&[&group]),
            Object::Group(vec![(1, weight(1)), (2, weight(256))])
        );
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

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

use super::{
    raw,
    state::{Event, Object, Via},
};

/// From linux/rtnetlink.h and linux/nexthop.h; the netlink crates do not know them yet.
pub(super) const GROUP: u32 = 32; // RTNLGRP_NEXTHOP
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
const RTNH_F_DEAD: u32 = 1;

/// Bytes of the header of these messages (linux/nexthop.h).
const NHMSG: usize = 8;

/// All objects that there are: none before Linux 5.3. Call within the runtime.
pub(super) async fn dump() -> io::Result<Vec<Event>> {
    raw::dump(RTM_GETNEXTHOP, &[0; NHMSG]).await
}

/// What a message says of an object.
pub(super) fn event(kind: u16, message: &[u8]) -> Option<Event> {
    let (id, object) = match kind {
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => object(message)?,
        _ => return None,
    };
    let object = (kind == RTM_NEWNEXTHOP).then_some(object);
    Some(Event::Object { id, object })
}

/// The object that a message is about.
fn object(message: &[u8]) -> Option<(u32, Object)> {
    let flags = u32::from_ne_bytes(*message.get(4..NHMSG)?.first_chunk()?);
    let (mut id, mut interface, mut gateway, mut group) = (None, None, None, None);
    let (mut blackhole, mut refused) = (false, false);
    for (kind, value) in raw::attributes(message.get(NHMSG..)?) {
        match kind {
            NHA_ID => id = Some(u32::from_ne_bytes(value.try_into().ok()?)),
            NHA_GROUP => group = Some(members(value)),
            NHA_BLACKHOLE => blackhole = true,
            NHA_OIF => interface = Some(u32::from_ne_bytes(value.try_into().ok()?)),
            NHA_GATEWAY => gateway = Some(address(value)?),
            NHA_ENCAP | NHA_FDB => refused = true,
            _ => {}
        }
    }
    let one = || match (interface, gateway) {
        _ if blackhole => Via::Nowhere,
        _ if flags & RTNH_F_DEAD != 0 => Via::Dead,
        (Some(interface), Some(address)) if !refused => Via::Gateway { interface, address },
        (Some(interface), None) if !refused => Via::Link { interface },
        _ => Via::Refused,
    };
    let object = group.map_or_else(|| Object::One(one()), Object::Group);
    Some((id?, object))
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

    use super::{raw::HEADER, *};

    fn events(datagram: &[u8]) -> Vec<Event> {
        let event = |(kind, message)| event(kind, message);
        raw::messages(datagram).filter_map(event).collect()
    }

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

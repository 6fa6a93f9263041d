//! What the kernel says of forwarding (`net.ipv4.conf.*.forwarding`, `net.ipv6.conf.*.forwarding`).

use std::io;
use voicelane_types::IpVersion;

use super::{
    raw,
    state::{Event, Forwarding},
};

/// `RTNLGRP_IPV4_NETCONF` and `RTNLGRP_IPV6_NETCONF` (linux/rtnetlink.h).
pub(super) const GROUPS: [u32; 2] = [24, 25];
const RTM_NEWNETCONF: u16 = 80;
const RTM_GETNETCONF: u16 = 82;
/// From linux/netconf.h.
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_FORCE_FORWARDING: u16 = 9;
const NETCONFA_IFINDEX_ALL: i32 = -1;

/// `struct netconfmsg`, with what fills it up to four bytes.
const NETCONFMSG: usize = 4;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What is set for each interface. Call within the runtime.
pub(super) async fn dump() -> io::Result<Vec<Event>> {
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6] {
        all.extend(raw::dump(RTM_GETNETCONF, &[family, 0, 0, 0]).await?);
    }
    Ok(all)
}

/// What a message says of an interface.
pub(super) fn event(kind: u16, message: &[u8]) -> Option<Event> {
    if kind != RTM_NEWNETCONF {
        return None;
    }
    let family = match *message.first()? {
        AF_INET => IpVersion::V4,
        AF_INET6 => IpVersion::V6,
        _ => return None,
    };
    let (mut interface, mut forwarding) = (None, Forwarding::default());
    for (kind, value) in raw::attributes(message.get(NETCONFMSG..)?) {
        let number = || value.try_into().ok().map(i32::from_ne_bytes);
        match kind {
            NETCONFA_IFINDEX => interface = number(),
            NETCONFA_FORWARDING => forwarding.on = number().map(|number| number != 0),
            NETCONFA_FORCE_FORWARDING => forwarding.forced = number().map(|number| number != 0),
            _ => {}
        }
    }
    let interface = match interface? {
        NETCONFA_IFINDEX_ALL => None,
        interface => Some(u32::try_from(interface).ok()?),
    };
    Some(Event::Forwarding {
        interface,
        family,
        forwarding,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarding_is_read() {
        let attribute = |kind: u16, value: i32| {
            [&[8, 0][..], &kind.to_ne_bytes(), &value.to_ne_bytes()].concat()
        };
        let said = |family, attributes: &[Vec<u8>]| {
            event(80, &[&[family, 0, 0, 0][..], &attributes.concat()].concat())
        };
        let forwarding = |on, forced| Forwarding { on, forced };
        assert_eq!(
            said(2, &[attribute(1, 7), attribute(2, 0)]),
            Some(Event::Forwarding {
                interface: Some(7),
                family: IpVersion::V4,
                forwarding: forwarding(Some(false), None),
            })
        );
        assert_eq!(
            said(10, &[attribute(9, 1), attribute(2, 1), attribute(1, -1)]),
            Some(Event::Forwarding {
                interface: None,
                family: IpVersion::V6,
                forwarding: forwarding(Some(true), Some(true)),
            })
        );
        let none = [
            said(2, &[attribute(1, -2)]), // what interfaces begin with
            said(2, &[attribute(2, 0)]),
            said(7, &[attribute(1, 7)]),
            event(81, &[2, 0, 0, 0]),
            event(80, &[]),
            event(80, &[2, 0]),
        ];
        assert!(none.iter().all(Option::is_none), "{none:?}");
    }
}

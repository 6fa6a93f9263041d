//! Longest prefixes of every length, the default routes among them, against a scan.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::{prelude::*, sample::Index};

use super::{AttachmentId, Error, NOW, Registry, Role, interface};

/// Of one of a few addresses that differ in one bit each, so that prefixes of all lengths part them.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..32_u32).prop_map(|bit| IpAddr::V4(Ipv4Addr::from(0x0a00_0001 ^ 1 << bit))),
        (0..128_u32).prop_map(|bit| {
            let base = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
            IpAddr::V6(Ipv6Addr::from(base ^ 1 << bit))
        }),
    ]
}

fn prefix() -> impl Strategy<Value = IpNet> {
    let length = prop_oneof![1 => Just(0), 1 => Just(u8::MAX), 6 => 0..=128_u8];
    (address(), length).prop_map(|(address, length)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = if length == u8::MAX {
            most
        } else {
            length.min(most)
        };
        IpNet::new(address, length).unwrap().trunc()
    })
}

proptest! {
    #[test]
    fn the_longest_of_all_lengths_is_found(
        prefixes in prop::collection::vec(prefix(), 1..12),
        routers in prop::collection::vec(any::<Index>(), 12),
        addresses in prop::collection::vec(address(), 1..24),
    ) {
        const NAMES: [&str; 3] = ["a", "b", "c"];
        let mut registry = Registry::new(8);
        // Each prefix has one router, so that none is in conflict.
        let mut owned: Vec<(IpNet, &str)> = vec![];
        for (prefix, router) in prefixes.iter().zip(&routers) {
            if owned.iter().all(|(other, _)| other != prefix) {
                owned.push((*prefix, NAMES[router.index(NAMES.len())]));
            }
        }
        for (at, name) in (1..).zip(NAMES) {
            let of_it = owned.iter().filter(|(_, owner)| *owner == name);
            let of_it = of_it.map(|(prefix, _)| *prefix).collect();
            let lan = interface("lan", Role::Edge, true, of_it);
            registry.attach_at_once(name, vec![lan], AttachmentId(at)).unwrap();
        }
        for address in addresses {
            let having = owned.iter().filter(|(prefix, _)| prefix.contains(&address));
            let longest = having.max_by_key(|(prefix, _)| prefix.prefix_len());
            match (registry.locate(address, NOW), longest) {
                (Ok(found), Some((prefix, owner))) => {
                    prop_assert_eq!((found.prefix, found.router.as_str()), (*prefix, *owner));
                }
                (Err(Error::UnknownAddress { .. }), None) => {}
                other => prop_assert!(false, "{address}: {other:?}"),
            }
        }
    }
}

/// Both default routes, and nothing else.
#[test]
fn default_routes_reach_everything_of_their_family() {
    let mut registry = Registry::new(8);
    for (at, name, prefix) in [(1, "four", "0.0.0.0/0"), (2, "six", "::/0")] {
        let lan = interface("lan", Role::Edge, true, vec![prefix.parse().unwrap()]);
        registry
            .attach_at_once(name, vec![lan], AttachmentId(at))
            .unwrap();
    }
    for (address, name) in [
        ("10.0.0.1", "four"),
        ("223.255.255.254", "four"),
        ("2001:db8::1", "six"),
        ("fd00::1", "six"),
    ] {
        let found = registry.locate(address.parse().unwrap(), NOW).unwrap();
        assert_eq!(found.router.as_str(), name, "{address}");
        assert_eq!(found.prefix.prefix_len(), 0, "{address}");
    }
}

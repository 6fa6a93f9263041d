//! Addresses of ports and VLANs, and their subnets.

use super::{EXAMPLE, assert_mistakes, parse};

#[test]
fn mistakes_in_addresses_are_named_with_their_remedy() {
    assert_mistakes(&[
        (
            "10.1.0.1/24",
            "10.1.0.1",
            "port.lan.addresses",
            "prefix length",
        ),
        (
            "10.1.0.1/24",
            "10.1.0.0/24",
            "port.lan.addresses",
            "network",
        ),
        (
            "10.1.0.1/24",
            "224.0.0.5/24",
            "port.lan.addresses",
            "cannot",
        ),
        (
            "2001:db8:1::1/64",
            "2001:db8:1::1",
            "port.lan.addresses",
            "prefix length",
        ),
        (
            "2001:db8:1::1/64",
            "2001:db8:1::/64",
            "port.lan.addresses",
            "network",
        ),
        (
            "2001:db8:1::1/64",
            "ff02::1/64",
            "port.lan.addresses",
            "cannot",
        ),
        (
            "2001:db8:1::1/64",
            "2001:db8:9::1/48",
            "port.core.addresses",
            "already",
        ),
        (
            "10.1.0.1/24",
            "10.9.0.1/24",
            "port.core.addresses",
            "already",
        ),
        (
            "10.1.0.1/24",
            "10.9.0.4/29",
            "port.core.addresses",
            "10.9.0.1/30 overlaps 10.9.0.4/29 of port.lan:",
        ),
        (
            "10.1.0.1/24",
            "10.9.1.1/16",
            "port.core.addresses",
            "10.9.0.1/30 overlaps 10.9.1.1/16 of port.lan:",
        ),
        (
            "10.1.100.1/24",
            "10.1.0.129/25",
            "port.lan.vlan.100.addresses",
            "overlaps 10.1.0.1/24 of port.lan:",
        ),
        (
            "2001:db8:1::1/64",
            "2001:db8:9:8::1/48",
            "port.core.addresses",
            "2001:db8:9::1/64 overlaps 2001:db8:9:8::1/48 of port.lan:",
        ),
        (
            "10.1.100.1/24",
            "10.9.0.1/24",
            "port.lan.vlan.100.addresses",
            "port.core has the address",
        ),
        (
            "10.1.100.1/24",
            "10.1.100.0/24",
            "port.lan.vlan.100.addresses",
            "network",
        ),
    ]);
}

/// Each link has the subnet of link-local addresses, and an interface may have two addresses in one.
#[test]
fn subnets_that_do_not_get_in_each_others_way_are_right() {
    for (from, to) in [
        ("\"10.1.0.1/24\"", "\"10.1.0.1/24\", \"10.1.0.2/24\""),
        ("\"10.1.0.1/24\"", "\"10.8.0.1/16\""),
        ("2001:db8:1::1/64\"", "fe80::1/64\", \"fe80::2/64\""),
    ] {
        let text = EXAMPLE.replacen(from, to, 1);
        let text = text.replacen("\"10.1.100.1/24\"", "\"10.1.100.1/24\", \"fe80::3/64\"", 1);
        parse(&text).unwrap();
    }
}

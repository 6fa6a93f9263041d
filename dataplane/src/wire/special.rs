//! Special-purpose addresses.

use std::net::Ipv6Addr;

/// What an address may be used for, in a packet that comes from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Whether it may be a packet's source.
    pub source: bool,
    /// Whether it may be a packet's destination.
    pub destination: bool,
    /// Whether a router may forward a packet with it between two interfaces.
    pub forwardable: bool,
}

impl Usage {
    const ALL: Self = usage(true, true, true);
}

const fn usage(source: bool, destination: bool, forwardable: bool) -> Usage {
    Usage {
        source,
        destination,
        forwardable,
    }
}

struct Row {
    ipv6: bool,
    /// From the highest bit on, of IPv4, too.
    prefix: u128,
    length: u8,
    usage: Usage,
}

const fn ipv4(prefix: [u8; 4], length: u8, usage: Usage) -> Row {
    Row {
        ipv6: false,
        prefix: (u32::from_be_bytes(prefix) as u128) << 96,
        length,
        usage,
    }
}

const fn ipv6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8, usage: Usage) -> Row {
    Row {
        ipv6: true,
        prefix: Ipv6Addr::new(a, b, c, d, e, f, g, h).to_bits(),
        length,
        usage,
    }
}

/// RFC 6890 section 2.2, and the multicast that is none of it (RFC 5771, RFC 4291 section 2.7): source,
/// destination, forwardable; the first row that has an address counts. Blocks that all three are true of
/// need no row. Of those that it says are not forwardable, Linux forwards documentation (192.0.2.0/24,
/// 198.51.100.0/24, 203.0.113.0/24, 2001:db8::/32) and protocol assignments (192.0.0.0/24, 2001::/23), as
/// examples, tests and later assignments in them need it, and so does this router.
const TABLE: [Row; 11] = [
    // Limited broadcast.
    ipv4([255, 255, 255, 255], 32, usage(false, true, false)),
    // This network: the source of who has no address yet.
    ipv4([0, 0, 0, 0], 8, usage(true, false, false)),
    // Loopback.
    ipv4([127, 0, 0, 0], 8, usage(false, false, false)),
    // Link-local (RFC 3927 section 7).
    ipv4([169, 254, 0, 0], 16, usage(true, true, false)),
    // Multicast.
    ipv4([224, 0, 0, 0], 4, usage(false, true, false)),
    // Reserved.
    ipv4([240, 0, 0, 0], 4, usage(false, false, false)),
    // Loopback.
    ipv6([0, 0, 0, 0, 0, 0, 0, 1], 128, usage(false, false, false)),
    // Unspecified.
    ipv6([0; 8], 128, usage(true, false, false)),
    // IPv4-mapped.
    ipv6(
        [0, 0, 0, 0, 0, 0xffff, 0, 0],
        96,
        usage(false, false, false),
    ),
    // Link-local.
    ipv6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, usage(true, true, false)),
    // Multicast.
    ipv6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, usage(false, true, false)),
];

fn find(ipv6: bool, address: u128) -> Usage {
    let has = |row: &&Row| {
        let differ = (row.prefix ^ address).leading_zeros();
        row.ipv6 == ipv6 && differ >= u32::from(row.length)
    };
    TABLE.iter().find(has).map_or(Usage::ALL, |row| row.usage)
}

/// Of an IPv4 address.
#[must_use]
pub fn usage4(address: [u8; 4]) -> Usage {
    find(false, u128::from(u32::from_be_bytes(address)) << 96)
}

/// Of an IPv6 address.
#[must_use]
pub fn usage6(address: [u8; 16]) -> Usage {
    find(true, u128::from_be_bytes(address))
}

/// Whether all IPv4 addresses with this first octet may be used for anything.
#[must_use]
pub const fn is_plain4(first_octet: u8) -> bool {
    let mut at = 0;
    while at < TABLE.len() {
        let row = &TABLE[at];
        let length = if row.length < 8 { row.length } else { 8 };
        let differ = (row.prefix ^ (first_octet as u128) << 120).leading_zeros();
        if !row.ipv6 && differ >= length as u32 {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn addresses_are_for_what_the_rfc_says() {
        for (address, source, destination, forwardable) in [
            ("0.0.0.0", true, false, false),
            ("0.1.2.3", true, false, false),
            ("10.0.0.1", true, true, true),
            ("100.64.0.1", true, true, true),
            ("127.0.0.1", false, false, false),
            ("169.253.255.255", true, true, true),
            ("169.254.0.1", true, true, false),
            ("192.0.2.1", true, true, true),
            ("223.255.255.255", true, true, true),
            ("224.0.0.5", false, true, false),
            ("239.255.255.255", false, true, false),
            ("240.0.0.1", false, false, false),
            ("255.255.255.254", false, false, false),
            ("255.255.255.255", false, true, false),
        ] {
            let found = usage4(address.parse::<Ipv4Addr>().unwrap().octets());
            assert_eq!(found, usage(source, destination, forwardable), "{address}");
        }
        for (address, source, destination, forwardable) in [
            ("::", true, false, false),
            ("::1", false, false, false),
            ("::2", true, true, true),
            ("::ffff:10.0.0.1", false, false, false),
            ("64:ff9b::a00:1", true, true, true),
            ("2001:db8::1", true, true, true),
            ("fd00::1", true, true, true),
            ("fe80::1", true, true, false),
            ("febf::1", true, true, false),
            ("fec0::1", true, true, true),
            ("ff02::1", false, true, false),
        ] {
            let found = usage6(address.parse::<Ipv6Addr>().unwrap().octets());
            assert_eq!(found, usage(source, destination, forwardable), "{address}");
        }
    }

    #[test]
    fn first_octets_are_plain_where_all_addresses_are() {
        for octet in 0..=u8::MAX {
            let special = matches!(octet, 0 | 127 | 169 | 224..);
            assert_eq!(is_plain4(octet), !special, "{octet}");
        }
    }
}

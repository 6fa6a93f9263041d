//! The five-tuple, by which a flow is known.

use std::{fmt, net::SocketAddr};

/// A transport protocol's number (IANA).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP.
    pub const ICMP: Self = Self(1);
    /// ICMPv6.
    pub const ICMP_V6: Self = Self(58);
    /// The fragment header of IPv6 (RFC 8200 section 4.5): the protocol that later fragments show.
    pub const IPV6_FRAGMENT: Self = Self(44);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
}

/// What identifies a flow: protocol, and both transport addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FiveTuple {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// Transport protocol, the IPv4 Protocol or the last IPv6 Next Header.
    pub protocol: Protocol,
}

impl fmt::Display for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} -> {} protocol {}",
            self.source, self.destination, self.protocol.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_five_tuple_is_written_with_its_way() {
        let flow = FiveTuple {
            source: "10.1.0.5:4000".parse().unwrap(),
            destination: "[2001:db8::7]:4002".parse().unwrap(),
            protocol: Protocol::UDP,
        };
        let text = "10.1.0.5:4000 -> [2001:db8::7]:4002 protocol 17";
        assert_eq!(flow.to_string(), text);
    }
}

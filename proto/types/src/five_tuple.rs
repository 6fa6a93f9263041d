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

impl FiveTuple {
    /// Whether another flow is nearly this one: one of its ends is the same, or both but for their ports.
    #[must_use]
    pub fn is_near(&self, other: &Self) -> bool {
        matches!(self.likeness(other), 2 | 3)
    }

    /// How alike another flow is: 2 for each end that is the same, 1 for each that differs in its port only. 4:
    /// they are the same; 0 if their protocols differ.
    #[must_use]
    pub fn likeness(&self, other: &Self) -> u8 {
        let of = |one: SocketAddr, other: SocketAddr| {
            u8::from(one == other) + u8::from(one.ip() == other.ip())
        };
        if self.protocol == other.protocol {
            of(self.source, other.source) + of(self.destination, other.destination)
        } else {
            0
        }
    }
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

    #[test]
    fn near_is_what_shares_an_end_or_both_addresses() {
        let flow = |source: &str, destination: &str| FiveTuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: Protocol::UDP,
        };
        let call = flow("10.1.0.5:4000", "10.2.0.7:4000");
        for (source, destination, likeness) in [
            ("10.1.0.5:4000", "10.2.0.7:4000", 4),
            ("10.1.0.5:4002", "10.2.0.7:4000", 3),
            ("10.1.0.5:4000", "10.2.0.7:4002", 3),
            ("10.1.0.5:4002", "10.2.0.7:4002", 2),
            ("10.1.0.9:4000", "10.2.0.7:4000", 2),
            ("10.1.0.9:4000", "10.2.0.7:4002", 1),
            ("10.2.0.7:4000", "10.1.0.5:4000", 0),
        ] {
            let other = flow(source, destination);
            assert_eq!(call.likeness(&other), likeness, "{other}");
            assert_eq!(call.is_near(&other), [2, 3].contains(&likeness), "{other}");
        }
        let other = FiveTuple {
            protocol: Protocol::TCP,
            ..call
        };
        assert!(!call.is_near(&other));
    }
}

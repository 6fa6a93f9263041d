use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
};

use crate::{
    diffserv::{Dscp, Marking, MeterSpec},
    session::{FiveTuple, Protocol},
    units::InterfaceIndex,
};

/// What an operator wants of packets that no session covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// By which its counters and its meter are known over a change of the rules.
    pub name: String,
    /// The packets that it decides, unless an earlier rule matches.
    pub matches: Match,
    /// What becomes of them.
    pub action: Action,
    /// How many of them.
    pub meter: Option<Metering>,
}

/// Which packets a rule is for: those that every field says yes to. An empty list says yes to all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// What they came in on.
    pub interfaces: Vec<InterfaceIndex>,
    /// Where they come from. A prefix says no to packets of the other family.
    pub sources: Vec<Prefix>,
    /// Destination prefixes; empty: any.
    pub destinations: Vec<Prefix>,
    /// What they carry; in IPv6 what the extension headers lead to, or
    /// [`Protocol::IPV6_FRAGMENT`] in fragments other than the first, which do not show it.
    pub protocols: Vec<Protocol>,
    /// Where they come from. Says no to packets that show no ports: those that are neither UDP nor
    /// TCP, and fragments other than the first.
    pub source_ports: Vec<RangeInclusive<u16>>,
    /// Where they go, alike.
    pub destination_ports: Vec<RangeInclusive<u16>>,
    /// Code points that they come with; empty: any.
    pub dscps: Vec<Dscp>,
}

/// What becomes of a packet that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leaves the packet its own code point, wherever it came in.
    Keep,
    /// Gives the packet this code point.
    Mark(Dscp),
    /// Drops the packet.
    Drop,
}

/// A meter, and what becomes of each colour on top of what was decided without it. Whoever has one
/// has its buckets for itself: two rules with the same terms do not share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metering {
    /// Rates, bursts and colour mode.
    pub spec: MeterSpec,
    /// What becomes of each colour.
    pub marking: Marking,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// Those whose first `length` bits are the address's; `None` when it has not so many.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (length <= longest).then_some(Self { address, length })
    }

    /// The address whose bits count.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many of them.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// First and last of IPv4.
    pub(super) fn range4(&self) -> Option<RangeInclusive<u32>> {
        let IpAddr::V4(address) = self.address else {
            return None;
        };
        let hosts = u32::MAX.checked_shr(self.length.into()).unwrap_or(0);
        let address = u32::from(address);
        Some(address & !hosts..=address | hosts)
    }

    /// First and last of IPv6.
    pub(super) fn range6(&self) -> Option<RangeInclusive<u128>> {
        let IpAddr::V6(address) = self.address else {
            return None;
        };
        let hosts = u128::MAX.checked_shr(self.length.into()).unwrap_or(0);
        let address = u128::from(address);
        Some(address & !hosts..=address | hosts)
    }
}

/// What the rules look at in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// What it came in on.
    pub interface: InterfaceIndex,
    /// Where it comes from and goes.
    pub addresses: Addresses,
    /// The protocol number of its payload.
    pub protocol: Protocol,
    /// Source and destination port, where it shows them.
    pub ports: Option<(u16, u16)>,
    /// The code point that it came with.
    pub dscp: Dscp,
}

impl Fields {
    /// As a flow; without ports they are 0.
    #[must_use]
    pub fn five_tuple(&self) -> FiveTuple {
        let (source, destination): (IpAddr, IpAddr) = match self.addresses {
            Addresses::V4(source, destination) => (
                Ipv4Addr::from_bits(source).into(),
                Ipv4Addr::from_bits(destination).into(),
            ),
            Addresses::V6(source, destination) => (
                Ipv6Addr::from_bits(source).into(),
                Ipv6Addr::from_bits(destination).into(),
            ),
        };
        let (source_port, destination_port) = self.ports.unwrap_or_default();
        FiveTuple {
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
            protocol: self.protocol,
        }
    }
}

/// Source and destination, in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4 source and destination, in host byte order.
    V4(u32, u32),
    /// IPv6 source and destination, in host byte order.
    V6(u128, u128),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(address: &str, length: u8) -> Option<Prefix> {
        Prefix::new(address.parse().unwrap(), length)
    }

    #[test]
    fn prefixes_are_ranges_of_their_family() {
        let ten = prefix("10.1.2.3", 16).unwrap();
        assert_eq!(ten.range4(), Some(0x0a01_0000..=0x0a01_ffff));
        assert_eq!(ten.range6(), None);
        let all = prefix("10.0.0.0", 0).unwrap();
        assert_eq!(all.range4(), Some(0..=u32::MAX));
        let host = prefix("10.1.2.3", 32).unwrap();
        assert_eq!(host.range4(), Some(0x0a01_0203..=0x0a01_0203));
        let site = prefix("2001:db8:1::9", 48).unwrap();
        let first = 0x2001_0db8_0001 << 80;
        assert_eq!(site.range6(), Some(first..=first + (1 << 80) - 1));
        assert_eq!(site.range4(), None);
        assert_eq!(prefix("::", 0).unwrap().range6(), Some(0..=u128::MAX));
        assert_eq!((prefix("10.0.0.0", 33), prefix("::", 129)), (None, None));
    }
}

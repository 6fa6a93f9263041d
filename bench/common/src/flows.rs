//! Flow `i` is the same five-tuple wherever it is made, spread over 512 destination networks; and the
//! headers of a flow's packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use voicelane_types::IpVersion;
use voicelane_types::{FiveTuple, Protocol};

/// How many destination networks there are.
pub const NETWORKS: u16 = 512;

/// The prefix length of the networks: sources are in 10.0.0.0/8, destinations in RFC 2544's 198.18.0.0/15,
/// of which each /24 is a network; in IPv6 all in RFC 5180's 2001:2::/48, each /64 of the destinations.
#[must_use]
pub fn prefix_length(ip: IpVersion) -> u8 {
    match ip {
        IpVersion::V4 => 24,
        IpVersion::V6 => 64,
    }
}

/// The networks that the flows go to.
pub fn networks(ip: IpVersion) -> impl Iterator<Item = IpAddr> {
    (0..NETWORKS).map(move |network| destination(ip, network, 0))
}

fn destination(ip: IpVersion, network: u16, host: u8) -> IpAddr {
    match ip {
        IpVersion::V4 => {
            Ipv4Addr::from(0xc612_0000 | u32::from(network) << 8 | u32::from(host)).into()
        }
        IpVersion::V6 => Ipv6Addr::new(0x2001, 2, 0, network, 0, 0, 0, host.into()).into(),
    }
}

fn mix(number: u32) -> u32 {
    let number = (number ^ number >> 16).wrapping_mul(0x045d_9f3b);
    let number = (number ^ number >> 16).wrapping_mul(0x045d_9f3b);
    number ^ number >> 16
}

/// Flow number `i`, of 16 million.
#[must_use]
pub fn flow(ip: IpVersion, i: u32) -> FiveTuple {
    let (a, b) = (mix(i * 2 + 1), mix((i * 2).wrapping_add(0x9e37_79b9)));
    let number = (i + 1) & 0x00ff_ffff;
    let source: IpAddr = match ip {
        IpVersion::V4 => Ipv4Addr::from(0x0a00_0000 | number).into(),
        IpVersion::V6 => {
            Ipv6Addr::from(0x2001_0002_0000_ffff_u128 << 64 | u128::from(number)).into()
        }
    };
    #[allow(
        clippy::cast_possible_truncation,
        reason = "masked to 9, 8 and 16 bits"
    )]
    let (network, host, port) = ((a >> 8 & 0x1ff) as u16, (a & 0xff) as u8, |bits: u32| {
        (16_384 + (bits & 0x3fff) * 2 % 32_768) as u16
    });
    FiveTuple {
        source: SocketAddr::from((source, port(a >> 17))),
        destination: SocketAddr::from((destination(ip, network, host), port(b))),
        protocol: Protocol::UDP,
    }
}

/// The headers of a UDP packet from the Ethernet type on. With them, IP has `ip_bytes`; the rest is the
/// payload. UDP has no checksum; the identification is IPv4's alone.
#[must_use]
pub fn headers(flow: &FiveTuple, class: u8, identification: u16, ip_bytes: u16) -> Vec<u8> {
    let mut headers = Vec::new();
    let udp_bytes = match (flow.source.ip(), flow.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = [0; 20];
            header[..2].copy_from_slice(&[0x45, class]);
            header[2..4].copy_from_slice(&ip_bytes.to_be_bytes());
            header[4..6].copy_from_slice(&identification.to_be_bytes());
            header[6..10].copy_from_slice(&[0x40, 0, 64, 17]);
            header[12..16].copy_from_slice(&source.octets());
            header[16..].copy_from_slice(&destination.octets());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            headers.extend([8, 0]);
            headers.extend(header);
            ip_bytes - 20
        }
        (source, destination) => {
            headers.extend([0x86, 0xdd]);
            headers.extend((0x6000_0000 | u32::from(class) << 20).to_be_bytes());
            headers.extend((ip_bytes - 40).to_be_bytes());
            headers.extend([17, 64]);
            for address in [source, destination] {
                if let IpAddr::V6(address) = address {
                    headers.extend(address.octets());
                }
            }
            ip_bytes - 40
        }
    };
    headers.extend(flow.source.port().to_be_bytes());
    headers.extend(flow.destination.port().to_be_bytes());
    headers.extend(udp_bytes.to_be_bytes());
    headers.extend([0, 0]);
    headers
}

#[allow(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
fn checksum(header: &[u8; 20]) -> u16 {
    let words = header.as_chunks::<2>().0.iter();
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn flows_differ_and_go_to_the_networks() {
        for ip in [IpVersion::V4, IpVersion::V6] {
            let networks: HashSet<_> = networks(ip).collect();
            assert_eq!(networks.len(), usize::from(NETWORKS));
            let flows: HashSet<_> = (0..20_000).map(|i| flow(ip, i)).collect();
            assert_eq!(flows.len(), 20_000);
            for flow in &flows {
                let network = match flow.destination.ip() {
                    IpAddr::V4(to) => Ipv4Addr::from_bits(to.to_bits() & !0xff).into(),
                    IpAddr::V6(to) => Ipv6Addr::from_bits(to.to_bits() >> 64 << 64).into(),
                };
                assert!(networks.contains(&network), "{flow}");
            }
        }
    }
}

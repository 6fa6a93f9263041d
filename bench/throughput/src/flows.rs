//! The benchmark's flows: flow `i` is the same five-tuple wherever it is made, spread over 512
//! destination networks.

use std::net::{Ipv4Addr, SocketAddr};

use voicelane_dataplane::session::{FiveTuple, Protocol};

/// The 512 /24 networks in 198.18.0.0/15 (RFC 2544's benchmark range) that the flows go to.
pub(crate) fn networks() -> impl Iterator<Item = Ipv4Addr> {
    (0..512_u32).map(|network| Ipv4Addr::from(0xc612_0000 | network << 8))
}

fn mix(number: u32) -> u32 {
    let number = (number ^ number >> 16).wrapping_mul(0x045d_9f3b);
    let number = (number ^ number >> 16).wrapping_mul(0x045d_9f3b);
    number ^ number >> 16
}

/// Flow number `i`.
pub(crate) fn flow(i: u32) -> FiveTuple {
    let (a, b) = (mix(i * 2 + 1), mix((i * 2).wrapping_add(0x9e37_79b9)));
    let source = Ipv4Addr::from(0x0a00_0000 | (i + 1) & 0x00ff_ffff);
    let destination = Ipv4Addr::from(0xc612_0000 | a & 0x0001_ffff);
    #[allow(clippy::cast_possible_truncation, reason = "masked to 16 bits")]
    let port = |bits: u32| (16_384 + (bits & 0x3fff) * 2 % 32_768) as u16;
    FiveTuple {
        source: SocketAddr::from((source, port(a >> 17))),
        destination: SocketAddr::from((destination, port(b))),
        protocol: Protocol::UDP,
    }
}

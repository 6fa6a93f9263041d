//! Every address and port of the two-site network, in one place.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Site;

/// Length of the hosts' prefixes.
pub const LAN_PREFIX: u8 = 24;
/// Length of the core link's prefix.
pub const CORE_PREFIX: u8 = 30;
/// The QoS server, on the management network.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// The call agent, on the management network.
pub const AGENT: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 2);
/// Port of the QoS server.
pub const SERVER_PORT: u16 = 7400;
/// Port of a router's own gRPC and metrics.
pub const ROUTER_PORT: u16 = 7401;
/// The QoS server's page for operators, in its namespace.
pub const PAGE: SocketAddr = SocketAddr::new(v4([127, 0, 0, 1]), 7480);
/// UDP port at which bulk traffic is sent and received.
pub const BULK_PORT: u16 = 9;

/// First UDP port of the calls at both ends; each takes two (RTP, and RTCP above it).
const FIRST_CALL_PORT: u16 = 20_000;

/// Where clients find the QoS server.
pub fn server_url() -> String {
    server_url_of(0)
}

/// Where clients find one of several servers, by its number from 0.
pub fn server_url_of(number: u16) -> String {
    format!("https://{SERVER}:{}", server_port(number))
}

/// The port of one of several servers.
pub(super) fn server_port(number: u16) -> u16 {
    SERVER_PORT + 10 * number
}

/// The phones' address at a site: the caller's at A, the callee's at B.
pub const fn phone(site: Site) -> IpAddr {
    v4([10, site.number(), 0, 10])
}

/// The bulk host's address at a site: the source at A, the sink at B.
pub const fn bulk(site: Site) -> SocketAddr {
    SocketAddr::new(v4([10, 2 + site.number(), 0, 10]), BULK_PORT)
}

/// A phone's RTP socket for call `call`.
pub fn rtp(site: Site, call: u16) -> SocketAddr {
    SocketAddr::new(
        phone(site),
        FIRST_CALL_PORT.wrapping_add(call.wrapping_mul(2)),
    )
}

/// The router's address on its phones' LAN.
pub const fn lan_gateway(site: Site) -> IpAddr {
    v4([10, site.number(), 0, 1])
}

/// The router's address on its bulk LAN.
pub const fn bulk_gateway(site: Site) -> IpAddr {
    v4([10, 2 + site.number(), 0, 1])
}

/// The router's address on the core link.
pub const fn core(site: Site) -> IpAddr {
    v4([10, 9, 0, site.number()])
}

/// The router's address on the backup link, where there is one.
pub const fn backup(site: Site) -> IpAddr {
    v4([10, 9, 1, site.number()])
}

/// The prefixes behind a site's router.
pub const fn prefixes(site: Site) -> [&'static str; 2] {
    match site {
        Site::A => ["10.1.0.0/24", "10.3.0.0/24"],
        Site::B => ["10.2.0.0/24", "10.4.0.0/24"],
    }
}

/// A router's address on the management network.
pub const fn management(site: Site) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, 10 + site.number())
}

const fn v4([a, b, c, d]: [u8; 4]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

//! The same network in IPv6, beside IPv4: hosts and routers have an address of each family.
//!
//! ```text
//! caller   2001:db8:1::10 ─┐lan                              lan┌─ callee    2001:db8:2::10
//!                          router A ── 2001:db8:9::/64 core ── router B
//! bulk-src 2001:db8:3::10 ─┘bulk                            bulk└─ bulk-sink 2001:db8:4::10
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{
    Site, TwoSites,
    addresses::{self, BULK_PORT},
    sites::UNDERLAYS,
};
use crate::{error::LabError, namespace::Namespace, traffic::Flow};

/// Length of all prefixes.
pub(crate) const PREFIX: u8 = 64;

/// The phones' address at a site.
pub const fn phone(site: Site) -> IpAddr {
    address(site.number(), 0x10)
}

/// The router's address on its phones' LAN.
pub const fn lan_gateway(site: Site) -> IpAddr {
    address(site.number(), 1)
}

/// The bulk host's address at a site.
pub const fn bulk(site: Site) -> SocketAddr {
    SocketAddr::new(address(bulk_lan(site), 0x10), BULK_PORT)
}

/// The router's address on its bulk LAN.
pub const fn bulk_gateway(site: Site) -> IpAddr {
    address(bulk_lan(site), 1)
}

/// The router's address on the core link.
pub const fn core(site: Site) -> IpAddr {
    address(9, site.number())
}

/// A phone's RTP socket for call `call`: the port is that of the call over IPv4.
pub fn rtp(site: Site, call: u16) -> SocketAddr {
    SocketAddr::new(phone(site), addresses::rtp(site, call).port())
}

/// The prefixes behind a site's router.
pub fn prefixes(site: Site) -> [String; 2] {
    [site.number(), bulk_lan(site)].map(|network| format!("2001:db8:{network}::/{PREFIX}"))
}

const fn bulk_lan(site: Site) -> u8 {
    2 + site.number()
}

const fn address(network: u8, host: u8) -> IpAddr {
    let (network, host) = (network as u16, host as u16);
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host))
}

impl Namespace {
    /// Gives an interface IPv6, which [`Lab::link`](crate::Lab::link) leaves off. Its addresses can
    /// be used at once.
    pub fn enable_ipv6(&self, interface: &str) -> Result<(), LabError> {
        for (key, value) in [
            ("accept_dad", "0"),
            ("accept_ra", "0"),
            ("disable_ipv6", "0"),
        ] {
            self.sysctl(&format!("net.ipv6.conf.{interface}.{key}"), value)?;
        }
        Ok(())
    }
}

impl TwoSites {
    /// Gives the hosts IPv6. The routers have it by their options.
    pub fn add_ipv6(&self) -> Result<(), LabError> {
        for site in Site::BOTH {
            for (host, own, gateway) in [
                (self.phone(site), phone(site), lan_gateway(site)),
                (self.bulk(site), bulk(site).ip(), bulk_gateway(site)),
            ] {
                host.enable_ipv6("eth0")?;
                host.ip(&format!(
                    "address add {own}/{PREFIX} dev eth0\nroute add default via {gateway}"
                ))?;
            }
        }
        Ok(())
    }

    /// As [`Self::forward_by_kernel`], for IPv6 beside it.
    pub fn forward_ipv6_by_kernel(&self) -> Result<(), LabError> {
        for site in Site::BOTH {
            let router = self.router(site);
            router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
            let mut lines = String::new();
            let own = [lan_gateway(site), bulk_gateway(site), core(site)];
            for (interface, address) in UNDERLAYS.into_iter().zip(own) {
                router.enable_ipv6(interface)?;
                lines.push_str(&format!("address add {address}/{PREFIX} dev {interface}\n"));
            }
            router.ip(&(lines + &routes(site, "u-core")))?;
        }
        Ok(())
    }

    /// As [`Self::calls`], over IPv6.
    pub fn calls6(&self, count: u16) -> Vec<Flow> {
        self.calls_of(count, rtp)
    }
}

/// `ip` commands that lead from a site's router to the other site.
pub(super) fn routes(site: Site, core_interface: &str) -> String {
    let via = core(site.other());
    prefixes(site.other())
        .map(|prefix| format!("route replace {prefix} via {via} dev {core_interface}\n"))
        .concat()
}

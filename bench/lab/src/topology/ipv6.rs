//! The same network in IPv6, beside IPv4: phones and routers have an address of each family.
//!
//! ```text
//! caller 2001:db8:1::10 ─ router A ── 2001:db8:9::/64 core ── router B ─ callee 2001:db8:2::10
//! ```

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Site, TwoSites, addresses};
use crate::{error::LabError, namespace::Namespace, traffic::Flow};

/// Length of all prefixes.
pub(crate) const PREFIX: u8 = 64;

/// The phones' address at a site.
pub const fn phone(site: Site) -> IpAddr {
    address(lan(site), 0x10)
}

/// The router's address on its phones' LAN.
pub const fn lan_gateway(site: Site) -> IpAddr {
    address(lan(site), 1)
}

/// The router's address on the core link.
pub const fn core(site: Site) -> IpAddr {
    match site {
        Site::A => address(9, 1),
        Site::B => address(9, 2),
    }
}

/// A phone's RTP socket for call `call`: the port is that of the call over IPv4.
pub fn rtp(site: Site, call: u16) -> SocketAddr {
    SocketAddr::new(phone(site), addresses::rtp(site, call).port())
}

/// The prefix behind a site's router.
pub fn prefix(site: Site) -> String {
    format!("2001:db8:{}::/{PREFIX}", lan(site))
}

const fn lan(site: Site) -> u16 {
    match site {
        Site::A => 1,
        Site::B => 2,
    }
}

const fn address(network: u16, host: u16) -> IpAddr {
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
    /// Gives the phones IPv6. The routers have it by their options.
    pub fn add_ipv6(&self) -> Result<(), LabError> {
        for site in Site::BOTH {
            let host = self.phone(site);
            host.enable_ipv6("eth0")?;
            host.ip(&format!(
                "address add {}/{PREFIX} dev eth0\nroute add default via {}",
                phone(site),
                lan_gateway(site)
            ))?;
        }
        Ok(())
    }

    /// As [`Self::calls`], over IPv6.
    pub fn calls6(&self, count: u16) -> Vec<Flow> {
        self.calls_of(count, rtp)
    }
}

/// `ip` commands that lead from a site's router to the other site.
pub(super) fn routes(site: Site) -> String {
    let other = site.other();
    format!(
        "route replace {} via {} dev core\n",
        prefix(other),
        core(other)
    )
}

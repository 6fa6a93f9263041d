//! Which version of IP traffic goes by, and the hosts' addresses of each.

use std::net::{IpAddr, SocketAddr};

use super::{Site, TwoSites, addresses, ipv6};
use crate::{error::LabError, traffic::Flow};

/// A version of IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

impl IpVersion {
    /// That of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// 4 or 6.
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// Bytes of its header and UDP's.
    pub const fn udp_headers_bytes(self) -> u16 {
        match self {
            Self::V4 => 28,
            Self::V6 => 48,
        }
    }

    /// The phones' address at a site.
    pub const fn phone(self, site: Site) -> IpAddr {
        match self {
            Self::V4 => addresses::phone(site),
            Self::V6 => ipv6::phone(site),
        }
    }

    /// The bulk host's address at a site.
    pub const fn bulk(self, site: Site) -> SocketAddr {
        match self {
            Self::V4 => addresses::bulk(site),
            Self::V6 => ipv6::bulk(site),
        }
    }
}

impl TwoSites {
    /// Builds it with what a version of IP needs at the hosts.
    pub fn with_ip(name: &str, version: IpVersion) -> Result<Self, LabError> {
        let sites = Self::new(name)?;
        if version == IpVersion::V6 {
            sites.add_ipv6()?;
        }
        Ok(sites)
    }

    /// [`Self::calls`] or [`Self::calls6`].
    pub fn calls_over(&self, version: IpVersion, count: u16) -> Vec<Flow> {
        match version {
            IpVersion::V4 => self.calls(count),
            IpVersion::V6 => self.calls6(count),
        }
    }
}

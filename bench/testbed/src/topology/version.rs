//! Which version of IP traffic goes by, and the hosts' addresses of each.

use std::net::{IpAddr, SocketAddr};

pub use voicelane_types::IpVersion;

use super::{Site, TwoSites, addresses, ipv6};
use crate::{error::LabError, traffic::Flow};

impl Site {
    /// The address of its phones.
    pub const fn phone(self, version: IpVersion) -> IpAddr {
        match version {
            IpVersion::V4 => addresses::phone(self),
            IpVersion::V6 => ipv6::phone(self),
        }
    }

    /// The address of its bulk host.
    pub const fn bulk(self, version: IpVersion) -> SocketAddr {
        match version {
            IpVersion::V4 => addresses::bulk(self),
            IpVersion::V6 => ipv6::bulk(self),
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

use std::fmt;

use ipnet::IpNet;
use voicelane_dataplane::{
    policy::{ReversePath, Trust},
    units::{PortIndex, VlanId},
};

use super::{PoliceConfig, PortConfig, Role};

/// A section `[[port.vlan]]`.
#[derive(Clone, Debug)]
pub struct VlanConfig {
    /// The VLAN identifier of its tag.
    pub id: VlanId,
    /// Its name, and that of its kernel twin.
    pub name: String,
    /// What is behind it.
    pub role: Role,
    /// How far code points from there are believed.
    pub trust: Trust,
    /// What the sources of packets from there must be, if they have no session.
    pub reverse_path: ReversePath,
    /// Whether routers are behind it.
    pub routing: bool,
    /// How much of each behaviour may come from there without sessions.
    pub police: Vec<PoliceConfig>,
    /// The router's own addresses on it, of both families.
    pub addresses: Vec<IpNet>,
    /// The largest IP packet, at most the port's.
    pub mtu: u16,
}

/// An interface: a port without a tag, or one of its VLANs.
#[derive(Clone, Copy, Debug)]
pub struct InterfaceConfig<'a> {
    /// Which port it is on.
    pub index: PortIndex,
    /// The configuration of that port.
    pub port: &'a PortConfig,
    /// Its VLAN, if it is one.
    pub vlan: Option<&'a VlanConfig>,
}

/// All interfaces, in the order of [`voicelane_dataplane::units::InterfaceIndex`].
pub fn interfaces(ports: &[PortConfig]) -> impl Iterator<Item = InterfaceConfig<'_>> {
    let ports = || (0..).map(PortIndex).zip(ports);
    let untagged = ports().map(|(index, port)| InterfaceConfig {
        index,
        port,
        vlan: None,
    });
    let vlans = ports().flat_map(|(index, port)| {
        port.vlans.iter().map(move |vlan| InterfaceConfig {
            index,
            port,
            vlan: Some(vlan),
        })
    });
    untagged.chain(vlans)
}

impl<'a> InterfaceConfig<'a> {
    /// Its name, and that of its twin.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.vlan.map_or(&self.port.name, |vlan| &vlan.name)
    }

    /// What is behind it.
    #[must_use]
    pub fn role(&self) -> Role {
        self.vlan.map_or(self.port.role, |vlan| vlan.role)
    }

    /// The router's own addresses on it.
    #[must_use]
    pub fn addresses(&self) -> &'a [IpNet] {
        self.vlan
            .map_or(&self.port.addresses, |vlan| &vlan.addresses)
    }

    /// Whether it has an IPv6 address.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.addresses().iter().any(|net| net.addr().is_ipv6())
    }

    /// The largest IP packet.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.vlan.map_or(self.port.mtu, |vlan| vlan.mtu)
    }
}

/// As an error names it: `port lan`, or `port lan, VLAN 100`.
impl fmt::Display for InterfaceConfig<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.port.name)?;
        self.vlan
            .map_or(Ok(()), |vlan| write!(f, ", VLAN {}", vlan.id))
    }
}

//! Whether an interface under a port carries packets as long as the port's.

use netlink_packet_route::link::LinkAttribute;
use rtnetlink::Handle;
use thiserror::Error;

use super::{quiet::find, sysctl};
use crate::{attribute::attribute, config::PortConfig};

/// The interface under a port is too narrow.
#[derive(Debug, Error)]
#[error(
    "port {port}: mtu = {wanted}, but interface {interface} has an MTU of {own}: write less, or raise it \
     with: ip link set {interface} mtu {wanted}"
)]
pub struct Narrow {
    port: String,
    interface: String,
    wanted: u16,
    own: u32,
}

/// Compares the MTU of a port and that of the interface under it. What cannot be read is left to those
/// who use the interface.
pub async fn check_mtu(handle: &Handle, port: &PortConfig, interface: &str) -> Result<(), Narrow> {
    let Ok(Some(link)) = find(handle, interface).await else {
        return Ok(());
    };
    match attribute!(link.attributes, LinkAttribute::Mtu(mtu) => *mtu) {
        Some(own) if own < u32::from(port.mtu) => Err(Narrow {
            port: port.name.clone(),
            interface: interface.to_owned(),
            wanted: port.mtu,
            own,
        }),
        _ => Ok(()),
    }
}

/// The largest IPv6 packet that leaves by an interface (`net.ipv6.conf.NAME.mtu`); `None` where it has no
/// IPv6.
#[must_use]
pub fn ipv6_mtu(interface: &str) -> Option<u16> {
    let mtu = sysctl::read(voicelane_types::IpVersion::V6, interface, "mtu").ok()?;
    mtu.parse().ok()
}

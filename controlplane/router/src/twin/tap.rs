//! One interface's twin: a TAP with its name, MTU and addresses, and its port's MAC.

use std::{fmt, io};

use rtnetlink::{Handle, LinkUnspec};
use thiserror::Error;
use tracing::info;
use tun_rs::{AsyncDevice, DeviceBuilder, Layer};
use voicelane_dataplane::units::{InterfaceIndex, MacAddress};
use voicelane_types::IpVersion;

use super::{
    forwarding,
    quiet::find,
    sysctl::{self, SysctlError},
};
use crate::config::InterfaceConfig;

/// Why a twin could not be made.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TwinError {
    /// The name is taken.
    #[error(
        "{of}: there is an interface {name} already: write another name, or delete it with: ip \
         link del {name}"
    )]
    Exists {
        /// Whose twin: `port lan, VLAN 100`.
        of: String,
        name: String,
    },
    #[error("{of}: its twin could not be made: {source}")]
    Tap { of: String, source: io::Error },
    #[error("{of}: setting {what} of its twin failed: {source}")]
    Netlink {
        of: String,
        /// What was to be set.
        what: String,
        source: rtnetlink::Error,
    },
    #[error("{of}: {source}")]
    Sysctl { of: String, source: SysctlError },
}

/// A twin. The interface goes away with this value.
pub struct Twin {
    /// The interface that it is the twin of.
    pub interface: InterfaceIndex,
    /// The kernel's number of it.
    pub index: u32,
    /// The port's address, and that of each twin of the port.
    pub mac: MacAddress,
    /// The frames' way in and out.
    pub(super) device: AsyncDevice,
}

impl fmt::Debug for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            interface,
            index,
            mac,
            ..
        } = self;
        f.debug_struct("Twin")
            .field("interface", interface)
            .field("index", index)
            .field("mac", mac)
            .finish()
    }
}

/// Makes an interface's twin, and sets it up. Call within the runtime.
pub async fn create(
    handle: &Handle,
    interface: InterfaceIndex,
    config: InterfaceConfig<'_>,
    mac: MacAddress,
) -> Result<Twin, TwinError> {
    let name = config.name();
    let of = || config.to_string();
    let netlink = |what: &str, source| TwinError::Netlink {
        of: of(),
        what: what.to_owned(),
        source,
    };
    if find(handle, name)
        .await
        .map_err(|source| netlink("the name", source))?
        .is_some()
    {
        return Err(TwinError::Exists {
            of: of(),
            name: name.to_owned(),
        });
    }
    let tap = |source| TwinError::Tap { of: of(), source };
    let sysctl = |source| TwinError::Sysctl { of: of(), source };
    // Without offloads: the kernel then fills in every checksum and cuts every segment to the MTU.
    let device = DeviceBuilder::new()
        .name(name)
        .layer(Layer::L2)
        .mac_addr(mac.0)
        .mtu(config.mtu())
        .enable(false)
        .build_async()
        .map_err(tap)?;
    let index = device.if_index().map_err(tap)?;

    // Forwarding is on where the kernel takes over: TTL expiry, unreachable, unknown neighbours.
    // Nothing is said twice: a twin gets back only what its own interface received. A link that is
    // lost takes its routes along.
    for (key, value) in [
        ("forwarding", "1"),
        ("rp_filter", "0"),
        ("ignore_routes_with_linkdown", "1"),
    ] {
        sysctl::write(IpVersion::V4, name, key, value).map_err(sysctl)?;
    }
    forwarding::set_up(name, config.has_ipv6()).map_err(sysctl)?;
    for address in config.addresses() {
        handle
            .address()
            .add(index, address.addr(), address.prefix_len())
            .execute()
            .await
            .map_err(|source| netlink(&format!("the address {address}"), source))?;
    }
    let up = LinkUnspec::new_with_index(index).up().build();
    handle
        .link()
        .set(up)
        .execute()
        .await
        .map_err(|source| netlink("the state", source))?;
    info!(twin = name, index, addresses = ?config.addresses(), "twin is up");
    Ok(Twin {
        interface,
        index,
        mac,
        device,
    })
}

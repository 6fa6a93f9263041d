//! Keeps the kernel quiet on interfaces that a DPDK port works on.
//!
//! With net_af_packet the kernel sees every frame too, and would answer and forward a second time.
//! So such an interface has no address, no IPv6, no forwarding, answers no ARP, and drops by reverse
//! path (every route points to a twin) whatever is for the router itself.

use std::process::Command;

use futures_util::TryStreamExt as _;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressHeaderFlags, AddressScope},
    link::{LinkAttribute, LinkFlags, LinkMessage},
};
use rtnetlink::{Handle, LinkUnspec};
use thiserror::Error;
use tracing::{info, warn};
use voicelane_types::IpVersion;

use super::{
    ledger::{Identity, Ledger},
    sysctl::{self, SysctlError},
};
use crate::attribute::attribute;

/// Why an interface cannot be used under a port.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum QuietError {
    #[error("port {port}: there is no interface {interface}: ip link shows which there are")]
    Missing { port: String, interface: String },
    /// The kernel uses it.
    #[error(
        "port {port}: interface {interface} has the address {address}, so the kernel would answer \
         beside the router: move it to port.{port}.addresses (ip addr flush dev {interface})"
    )]
    HasAddress {
        port: String,
        interface: String,
        address: String,
    },
    #[error("port {port}: {source}")]
    Sysctl { port: String, source: SysctlError },
    #[error("port {port}: interface {interface}: {source}")]
    Netlink {
        port: String,
        interface: String,
        source: rtnetlink::Error,
    },
}

/// Makes an interface quiet and sets it up, until the ledger is undone. Gives the kernel's index of it.
pub async fn quiet(
    ledger: &mut Ledger,
    handle: &Handle,
    port: &str,
    interface: &str,
) -> Result<u32, QuietError> {
    let netlink = |source| QuietError::Netlink {
        port: port.to_owned(),
        interface: interface.to_owned(),
        source,
    };
    let sysctl = |source| QuietError::Sysctl {
        port: port.to_owned(),
        source,
    };
    let link = find(handle, interface)
        .await
        .map_err(netlink)?
        .ok_or_else(|| QuietError::Missing {
            port: port.to_owned(),
            interface: interface.to_owned(),
        })?;
    let index = link.header.index;
    if let Some(address) = own_address(handle, index).await.map_err(netlink)? {
        let (port, interface) = (port.to_owned(), interface.to_owned());
        return Err(QuietError::HasAddress {
            port,
            interface,
            address,
        });
    }
    let identity = Identity::of(interface);
    let mut set = |family, key, value| {
        let set = ledger.set(family, &identity, key, value);
        set.map_err(sysctl)
    };
    if sysctl::exists(IpVersion::V6, interface, "") {
        set(IpVersion::V6, "disable_ipv6", "1")?;
    }
    for (key, value) in [("forwarding", "0"), ("rp_filter", "1"), ("arp_ignore", "8")] {
        set(IpVersion::V4, key, value)?;
    }
    ledger.note_link(&identity, before(&link));
    whole_frames_off(ledger, &identity, interface);
    if !link.header.flags.contains(LinkFlags::Up) {
        let up = LinkUnspec::new_with_index(index).up().build();
        handle.link().set(up).execute().await.map_err(netlink)?;
    }
    info!(
        port,
        interface, "the kernel keeps quiet on the interface under the port"
    );
    Ok(index)
}

/// Whether a link is up, whether it is promiscuous, and its MTU.
fn before(link: &LinkMessage) -> (bool, bool, Option<u32>) {
    let flags = link.header.flags;
    let mtu = attribute!(link.attributes, LinkAttribute::Mtu(mtu) => *mtu);
    let is = |flag| flags.contains(flag);
    (is(LinkFlags::Up), is(LinkFlags::Promisc), mtu)
}

/// Packets that the kernel has merged are longer than any buffer and have no checksum: no GRO, no LRO.
/// The kernel offers this by ioctl only, so ethtool does it.
fn whole_frames_off(ledger: &mut Ledger, identity: &Identity, interface: &str) {
    let features = match Command::new("ethtool").args(["-k", interface]).output() {
        Ok(output) if output.status.success() => output.stdout,
        _ => {
            warn!(
                interface,
                "ethtool cannot be run, so GRO may be on; if it is, long TCP segments are lost; \
                 turn it off with: ethtool -K {interface} gro off lro off"
            );
            return;
        }
    };
    let features = String::from_utf8_lossy(&features);
    for (name, short) in [
        ("generic-receive-offload", "gro"),
        ("large-receive-offload", "lro"),
    ] {
        let on = features
            .lines()
            .any(|line| line.trim() == format!("{name}: on"));
        if on {
            ledger.turn_off(identity, short);
        }
    }
}

/// Warns of parameters of `all`, which overrule what is set for an interface.
pub fn warn_of_overruling_parameters() {
    match sysctl::read(IpVersion::V4, "all", "rp_filter").as_deref() {
        Ok("2") => warn!(
            "net.ipv4.conf.all.rp_filter is 2 (loose), which overrules the strict filter on the \
             interfaces under ports: the kernel may answer pings a second time; \
             set it to 0: sysctl -w net.ipv4.conf.all.rp_filter=0"
        ),
        Ok("1") => warn!(
            "net.ipv4.conf.all.rp_filter is 1 (strict), which overrules the twins' 0: what comes \
             by another way than it would go is not for the kernel; \
             set it to 0: sysctl -w net.ipv4.conf.all.rp_filter=0"
        ),
        _ => {}
    }
}

/// The interface of a name.
pub(super) async fn find(
    handle: &Handle,
    name: &str,
) -> Result<Option<LinkMessage>, rtnetlink::Error> {
    match handle
        .link()
        .get()
        .match_name(name)
        .execute()
        .try_next()
        .await
    {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -nix::libc::ENODEV => {
            Ok(None)
        }
        found => found,
    }
}

/// An address that somebody gave the interface: not those that IPv6 makes by itself, which go and
/// come with it.
async fn own_address(handle: &Handle, index: u32) -> Result<Option<String>, rtnetlink::Error> {
    let mut addresses = handle
        .address()
        .get()
        .set_link_index_filter(index)
        .execute();
    let mut own = None;
    // To the end: while the kernel still answers, it takes no other question for a list.
    while let Some(message) = addresses.try_next().await? {
        let made = message.header.family == AddressFamily::Inet6
            && (message.header.scope == AddressScope::Link
                || !message.header.flags.contains(AddressHeaderFlags::Permanent));
        if message.header.index == index && !made && own.is_none() {
            let address = crate::mirror::messages::address(&message);
            own = Some(address.map_or_else(|| "?".to_owned(), |address| address.to_string()));
        }
    }
    Ok(own)
}

//! Forwarding of IPv6 where the kernel takes over from the fast path.
//!
//! Since Linux 6.17 an interface can forward by itself (`force_forwarding`). Before, the kernel
//! forwards IPv6 for all interfaces or for none: then it does for all while the router runs, and
//! every other interface stays the host that it was in all else, which accepts router
//! advertisements and keeps what it learned from them.

use tracing::{info, warn};
use voicelane_types::IpVersion;

use super::{
    ledger::{Identity, Ledger},
    sysctl::{self, SysctlError},
};

/// Lets the kernel forward IPv6 between the twins, until the ledger is undone. Call before there are
/// twins, and only if they are to have IPv6.
pub fn forward_ipv6(ledger: &mut Ledger) -> Result<(), SysctlError> {
    if sysctl::exists(IpVersion::V6, "all", "force_forwarding")
        || sysctl::read(IpVersion::V6, "all", "forwarding")? == "1"
    {
        return Ok(());
    }
    let mut others = Vec::new();
    for interface in sysctl::interfaces(IpVersion::V6) {
        let read = |key| sysctl::read(IpVersion::V6, &interface, key);
        let (Ok(forwarding), Ok(accept_ra)) = (read("forwarding"), read("accept_ra")) else {
            continue; // It went away meanwhile.
        };
        // An interface that begins to forward forgets its default route, unless this is 2.
        if forwarding == "0" && accept_ra == "1" {
            ledger.set(IpVersion::V6, &Identity::of(&interface), "accept_ra", "2")?;
        }
        others.push((interface, forwarding));
    }
    ledger.forward6(others)?;
    info!("the kernel forwards IPv6 between all interfaces while the router runs");
    Ok(())
}

/// Lets the kernel forward what comes in on a macvlan on a twin, as it does for the twin. What cannot be
/// set is logged: the kernel then forwards nothing of what the fast path leaves to it.
pub fn forward_macvlan(interface: &str) {
    for (family, key) in [
        (IpVersion::V4, "forwarding"),
        (IpVersion::V6, "forwarding"),
        (IpVersion::V6, "force_forwarding"),
    ] {
        if sysctl::exists(family, interface, key)
            && let Err(error) = sysctl::write(family, interface, key, "1")
        {
            warn!(%error, "the kernel does not forward for the macvlan");
        }
    }
}

/// Makes a twin an IPv6 router's interface. Its addresses are there at once, without the question
/// whether somebody else has them (RFC 4862 section 5.4): its frames pass the port only once the
/// worker runs, so nobody would hear it, and for as long as it is asked an address cannot be used.
pub(super) fn set_up(twin: &str, wanted: bool) -> Result<(), SysctlError> {
    if !sysctl::exists(IpVersion::V6, twin, "") && !wanted {
        return Ok(()); // A kernel without IPv6.
    }
    let mut parameters = vec![
        ("accept_ra", "0"),
        ("accept_dad", "0"),
        // As IPv4 does: what is set down keeps the addresses that were given to it.
        ("keep_addr_on_down", "1"),
        ("ignore_routes_with_linkdown", "1"),
        ("forwarding", "1"),
    ];
    if sysctl::exists(IpVersion::V6, twin, "force_forwarding") {
        parameters.push(("force_forwarding", "1"));
    }
    if wanted {
        parameters.insert(0, ("disable_ipv6", "0"));
    }
    for (key, value) in parameters {
        sysctl::write(IpVersion::V6, twin, key, value)?;
    }
    Ok(())
}

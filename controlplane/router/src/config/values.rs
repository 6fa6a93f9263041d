//! Single values: text to type, or the reason why not.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tonic::transport::Uri;
use voicelane_types::{BitRate, InvalidMac, MacAddress};

use crate::sessions::Sampling;

/// 1 to 64 characters of `[A-Za-z0-9._-]`.
pub(super) fn router_id(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=64).contains(&text.len()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is no id: write 1 to 64 characters of A-Z, a-z, 0-9, '.', '_', '-'"
        ))
    }
}

/// The name of a rule or a meter: as an id.
pub(super) fn name(text: &str) -> Result<String, String> {
    router_id(text).map_err(|_| {
        format!("{text:?} is no name: write 1 to 64 characters of A-Z, a-z, 0-9, '.', '_', '-'")
    })
}

/// `https://HOST:PORT`, or http; several with commas between them.
pub(super) fn servers(text: &str) -> Result<Vec<Uri>, String> {
    text.split(',').map(|one| server(one.trim())).collect()
}

fn server(text: &str) -> Result<Uri, String> {
    let wanted = "write \"https://HOST:PORT\", such as \"https://172.30.0.1:7400\"";
    let uri: Uri = text
        .parse()
        .map_err(|error| format!("{text:?} is no URL ({error}): {wanted}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("{text:?} is no http or https URL: {wanted}"));
    }
    if uri.port_u16().is_none() || !matches!(uri.path(), "" | "/") {
        return Err(format!("{text:?} must have a port and no path: {wanted}"));
    }
    Ok(uri)
}

/// Where the router's own API listens.
pub(super) fn listener(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is no address with a port: write it as \"172.30.0.11:7401\"")
    })
}

/// Whose RTP is measured.
pub(super) fn sampling(text: &str) -> Result<Sampling, String> {
    match text {
        "all" => return Ok(Sampling::ALL),
        "off" => return Ok(Sampling::Off),
        _ => {}
    }
    let count = text
        .strip_prefix("1/")
        .and_then(|count| count.parse::<NonZeroU64>().ok());
    count.map(Sampling::OneIn).ok_or_else(|| {
        format!("{text:?} is not known: write \"all\", \"off\", or one call in so many, such as \"1/16\"")
    })
}

/// A path from the root.
pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!(
            "{text:?} is no absolute path: write one such as \"/run/voicelane\""
        ))
    }
}

/// A name that Linux takes for an interface, and that is not special to it.
pub(super) fn interface_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
    if !(1..=15).contains(&text.len()) || !text.chars().all(fits) {
        return Err(format!(
            "{text:?} is no interface name: write 1 to 15 printable characters without '/', ':', '%'"
        ));
    }
    if matches!(text, "." | ".." | "all" | "default" | "lo") {
        return Err(format!(
            "{text:?} means something else to Linux: choose another name"
        ));
    }
    Ok(text.to_owned())
}

/// An address that an interface can have, with its prefix length.
pub(super) fn address(text: &str) -> Result<IpNet, String> {
    let wanted = "write an address with its prefix length, such as \"10.1.0.1/24\" or \
                  \"2001:db8:1::1/64\"";
    let net: IpNet = text
        .parse()
        .map_err(|_| format!("{text:?} is no address: {wanted}"))?;
    let (network, reserved) = match net {
        IpNet::V4(net) => (names_network4(net), is_reserved4(net)),
        IpNet::V6(net) => (names_network6(net), is_reserved6(net)),
    };
    if network || net.prefix_len() == 0 {
        return Err(format!(
            "{text:?} names a network, not a host in it: {wanted}"
        ));
    }
    if reserved {
        let ip = net.addr();
        return Err(format!("{ip} cannot be an interface's address: {wanted}"));
    }
    Ok(net)
}

/// A network that a route leads to.
pub(super) fn prefix(text: &str) -> Result<IpNet, String> {
    let wanted = "write a network such as \"10.2.0.0/16\" or \"2001:db8:2::/48\", or \"default\", \
                  which is 0.0.0.0/0";
    if text == "default" {
        return Ok(IpNet::V4(Ipv4Net::default()));
    }
    let host = || text.parse::<IpAddr>().map(IpNet::from).ok();
    let net: IpNet = text
        .parse()
        .ok()
        .or_else(host)
        .ok_or_else(|| format!("{text:?} is no network: {wanted}"))?;
    if net != net.trunc() {
        return Err(format!(
            "{text:?} names a host in a network: write \"{}\", or the host alone with /{}",
            net.trunc(),
            net.max_prefix_len()
        ));
    }
    let ip = net.network();
    if ip.is_multicast() || (ip.is_loopback() && net.prefix_len() > 7) {
        return Err(format!("{text:?} is not forwarded to: {wanted}"));
    }
    Ok(net)
}

fn names_network4(net: Ipv4Net) -> bool {
    let ip = net.addr();
    net.prefix_len() < 31 && (ip == net.network() || ip == net.broadcast())
}

/// RFC 4291 section 2.6.1: the first address of a subnet is that of any of its routers. RFC 6164:
/// not on links between two.
fn names_network6(net: Ipv6Net) -> bool {
    net.prefix_len() < 127 && net.addr() == net.network()
}

fn is_reserved4(net: Ipv4Net) -> bool {
    let ip = net.addr();
    let reserved = ip.octets()[0] >= 240 || ip.octets()[0] == 0;
    ip.is_multicast() || ip.is_loopback() || reserved
}

fn is_reserved6(net: Ipv6Net) -> bool {
    let ip = net.addr();
    ip.is_multicast() || ip.is_loopback() || ip.is_unspecified() || ip.to_ipv4_mapped().is_some()
}

/// A unicast MAC address.
pub(super) fn mac(text: &str) -> Result<MacAddress, String> {
    let mac: MacAddress = text
        .parse()
        .map_err(|error: InvalidMac| error.to_string())?;
    if mac.is_group() || mac == MacAddress::default() {
        return Err(format!(
            "{text:?} cannot be a port's own: its first byte must be even, and not all 0"
        ));
    }
    Ok(mac)
}

/// A part of a rate: `50%`, or a rate.
pub(super) fn budget(text: &str, rate: BitRate) -> Result<BitRate, String> {
    let wanted = "write a part such as \"50%\", or a rate such as \"5Mbit/s\"";
    if let Some(percent) = text.trim().strip_suffix('%') {
        let percent: u8 = percent
            .trim()
            .parse()
            .ok()
            .filter(|percent| (1..=100).contains(percent))
            .ok_or_else(|| format!("{text:?} is not between 1% and 100%: {wanted}"))?;
        return Ok(rate.percent(percent));
    }
    let budget: BitRate = text
        .parse()
        .map_err(|error| format!("{error}, or a part such as \"50%\""))?;
    if budget > rate {
        return Err(format!(
            "{budget} is more than the port's rate of {rate}: {wanted}"
        ));
    }
    Ok(budget)
}

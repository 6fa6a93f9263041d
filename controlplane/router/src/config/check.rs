//! What crosses sections: each value right by itself, and not beside the others.

use std::{collections::HashMap, fmt::Display, hash::Hash};

use ipnet::IpNet;

use super::{
    Config, Device, PortConfig, VlanConfig,
    parse::{port_path, vlan_path},
    problems::Problems,
    raw::RawConfig,
};
use crate::dataplane::memory;

/// A router has a bit for each port in places, and [`voicelane_dataplane::units::PortIndex`] is a byte.
const MAX_PORTS: usize = 32;
/// Ports and VLANs: [`voicelane_dataplane::units::InterfaceIndex`] is a byte.
const MAX_INTERFACES: usize = 254;

/// Checks ports and VLANs beside each other, and the cores beside them. `None` is a port that is wrong by
/// itself.
pub(super) fn sections(raw: &RawConfig, ports: &[Option<PortConfig>], problems: &mut Problems) {
    let count = raw.port.len();
    if !(1..=MAX_PORTS).contains(&count) {
        let reason = format!("there are {count} ports: write between 1 and {MAX_PORTS} [[port]]");
        problems.add("port", reason);
    }
    let all = count + raw.port.iter().map(|port| port.vlan.len()).sum::<usize>();
    if all > MAX_INTERFACES {
        let reason = format!("there are {all} ports and VLANs: write at most {MAX_INTERFACES}");
        problems.add("port", reason);
    }
    let schedulers = raw.router.scheduler_cores.len();
    if schedulers > count {
        let reason =
            format!("there are {schedulers} for {count} ports, each of which has one: write fewer");
        problems.add("router.scheduler_cores", reason);
    }
    duplicates(raw, ports, problems);
}

/// Checks that the memory has room for the tables and the fewest buffers.
pub(super) fn memory(config: &Config, problems: &mut Problems) {
    if let Err(error) = memory::plan(config) {
        problems.add("router.memory_mb", error);
    }
}

/// The interface under a port has another name than the port's and its VLANs' twins.
pub(super) fn twin_names(
    path: &str,
    name: Option<&String>,
    vlans: Option<&[VlanConfig]>,
    device: Option<&Device>,
    problems: &mut Problems,
) {
    let vlans = vlans.unwrap_or_default().iter();
    let vlans = vlans.map(|one| (vlan_path(path, one.id), &one.name));
    let names = name.map(|name| (path.to_owned(), name)).into_iter();
    for (path, name) in names.chain(vlans) {
        if let Some(device) = device
            && [device.underlay(), device.made_interface()].contains(&Some(name.as_str()))
        {
            let reason = format!(
                "the interface under the port and a twin cannot both be called {name:?}: write \
                 another name"
            );
            problems.add(format!("{path}.name"), reason);
        }
    }
}

/// Names, devices, addresses that may occur once, over all ports and VLANs.
fn duplicates(raw: &RawConfig, ports: &[Option<PortConfig>], problems: &mut Problems) {
    let paths = raw.port.iter().enumerate();
    let paths: Vec<_> = paths
        .map(|(index, port)| port_path(index, &port.name))
        .collect();
    let right = || {
        paths
            .iter()
            .zip(ports)
            .filter_map(|(path, port)| Some((path, port.as_ref()?)))
    };
    let vlans = right().flat_map(|(path, port)| {
        let vlans = port.vlans.iter();
        vlans.map(move |vlan| (vlan_path(path, vlan.id), vlan))
    });
    let vlans: Vec<_> = vlans.collect();

    let names = paths
        .iter()
        .zip(raw.port.iter().map(|port| port.name.clone()));
    let vlan_names = vlans.iter().map(|(path, vlan)| (path, vlan.name.clone()));
    once("name", "name", names.chain(vlan_names), problems);
    let devices = right().map(|(path, port)| (path, port.device.name().to_owned()));
    once("device", "device", devices, problems);
    let interfaces = right().filter_map(|(path, port)| {
        let device = &port.device;
        let interface = device.underlay().or(device.made_interface())?;
        Some((path, interface.to_owned()))
    });
    once("device", "interface", interfaces, problems);
    let macs = right().filter_map(|(path, port)| Some((path, port.mac?)));
    once("mac", "MAC address", macs, problems);
    let addresses =
        right().flat_map(|(path, port)| port.addresses.iter().map(move |net| (path, *net)));
    let vlan_addresses = vlans
        .iter()
        .flat_map(|(path, vlan)| vlan.addresses.iter().map(move |net| (path, *net)));
    let addresses: Vec<_> = addresses.chain(vlan_addresses).collect();
    apart(&addresses, problems);
    let addresses = addresses.iter().map(|(path, net)| (*path, net.addr()));
    once("addresses", "address", addresses, problems);
}

/// Each value may occur once over all paths.
fn once<'a, T: Display + Hash + Eq>(
    key: &str,
    what: &str,
    values: impl Iterator<Item = (&'a String, T)>,
    problems: &mut Problems,
) {
    let mut first: HashMap<T, &String> = HashMap::new();
    for (path, value) in values {
        if let Some(other) = first.get(&value) {
            let reason = format!("{other} has the {what} {value} already: write another one");
            problems.add(format!("{path}.{key}"), reason);
        } else {
            first.insert(value, path);
        }
    }
}

/// No two interfaces may have subnets that overlap: the kernel would send to all hosts of both by
/// one of them. Link-local ones of IPv6 are on every link.
fn apart(addresses: &[(&String, IpNet)], problems: &mut Problems) {
    let is_link_local = crate::mirror::state::is_link_local;
    let mut subnets: Vec<_> = addresses
        .iter()
        .filter(|(_, net)| !is_link_local(*net))
        .collect();
    // Each behind those that contain it, and equal ones in the order of the file.
    subnets.sort_by_key(|(_, net)| (net.network(), net.prefix_len()));
    let mut around: Vec<(&String, IpNet)> = Vec::new();
    for &&(path, address) in &subnets {
        around.retain(|(_, outer)| outer.trunc().contains(&address.trunc()));
        let other = around.iter().rfind(|(of, outer)| {
            // The same address twice is said as such.
            *of != path && outer.addr() != address.addr()
        });
        if let Some((of, outer)) = other {
            let reason = format!(
                "{address} overlaps {outer} of {of}: give each interface a subnet of its own"
            );
            problems.add(format!("{path}.addresses"), reason);
        }
        around.push((path, address));
    }
}

use ipnet::IpNet;

use super::Problems;

/// No two interfaces may have subnets that overlap: the kernel would send to all hosts of both by
/// one of them. Link-local ones of IPv6 are on every link.
pub(super) fn apart(paths: &[String], addresses: &[&[IpNet]], problems: &mut Problems) {
    let mut subnets: Vec<_> = paths
        .iter()
        .zip(addresses)
        .flat_map(|(path, addresses)| addresses.iter().map(move |address| (*address, path)))
        .filter(|(address, _)| !crate::mirror::state::is_link_local(*address))
        .collect();
    // Each behind those that contain it, and equal ones in the order of the file.
    subnets.sort_by_key(|(address, _)| (address.network(), address.prefix_len()));
    let mut around: Vec<(IpNet, &String)> = Vec::new();
    for (address, path) in subnets {
        around.retain(|(outer, _)| outer.trunc().contains(&address.trunc()));
        let other = around.iter().rfind(|(outer, of)| {
            // The same address twice is said as such.
            *of != path && outer.addr() != address.addr()
        });
        if let Some((outer, of)) = other {
            let reason = format!(
                "{address} overlaps {outer} of {of}: give each interface a subnet of its own"
            );
            problems.add(format!("{path}.addresses"), reason);
        }
        around.push((address, path));
    }
}

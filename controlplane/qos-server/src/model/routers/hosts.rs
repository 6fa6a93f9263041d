//! Addresses behind a router that no host can have.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::registry::Interface;
use crate::model::ids::RouterId;

/// A router's own addresses, and those that name a whole subnet of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NoHosts(BTreeMap<IpAddr, Why>);

#[derive(Debug, PartialEq, Eq)]
struct Why {
    what: &'static str,
    subnet: IpNet,
    interface: Arc<str>,
    router: RouterId,
}

impl NoHosts {
    /// Those on a router's interfaces.
    pub(in crate::model) fn of(router: &RouterId, interfaces: &[Interface]) -> Self {
        let mut all = BTreeMap::new();
        let interfaces = interfaces.iter();
        let subnets = interfaces.flat_map(|it| it.addresses.iter().map(move |net| (&it.name, net)));
        for (interface, subnet) in subnets {
            // RFC 3021, RFC 6164: the longest ones have neither.
            let has_ends = subnet.prefix_len() + 1 < subnet.max_prefix_len();
            let own = (subnet.addr(), "router's own address");
            let ends = match subnet {
                IpNet::V4(_) => vec![
                    (subnet.network(), "network address"),
                    (subnet.broadcast(), "broadcast address"),
                ],
                // RFC 4291 section 2.6.1.
                IpNet::V6(_) => vec![(subnet.network(), "subnet-router anycast address")],
            };
            let ends = ends.into_iter().filter(|_| has_ends);
            for (address, what) in [own].into_iter().chain(ends) {
                // The first interface that has it names it.
                if let Entry::Vacant(slot) = all.entry(address) {
                    slot.insert(Why {
                        what,
                        subnet: *subnet,
                        interface: interface.clone(),
                        router: router.clone(),
                    });
                }
            }
        }
        Self(all)
    }

    /// Why an address cannot be a host's, if it is one of these.
    pub(super) fn why(&self, address: IpAddr) -> Option<String> {
        let Why {
            what,
            subnet,
            interface,
            router,
        } = self.0.get(&address)?;
        Some(format!(
            "the {what} of {subnet} on {interface} of router {router}; give a host's address"
        ))
    }
}

//! The kernel's routes.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU16,
    sync::Arc,
};

use ipnet::IpNet;

/// The two tables that a packet is looked up in, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// The kernel's own addresses and broadcasts; asked first.
    Local,
    /// The main table, and all others.
    Main,
}

/// One of several next hops of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// The kernel's number of the interface.
    pub interface: u32,
    /// The address of the gateway.
    pub address: IpAddr,
    /// Its share of the flows, beside the others'.
    pub weight: NonZeroU16,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// To neighbours on an interface.
    Link {
        /// The kernel's number of it.
        interface: u32,
    },
    /// To a gateway on an interface.
    Gateway {
        /// The kernel's number of it.
        interface: u32,
        /// The address of the gateway.
        address: IpAddr,
    },
    /// To one of several gateways, by the packet's flow: made by [`Via::paths`].
    Paths(Arc<[Path]>),
    /// One of the router's own addresses.
    Kernel,
    /// To nowhere: packets are dropped without an answer (`blackhole`).
    Nowhere,
    /// To the kernel, which answers that this does not go, or knows a way that is not ours.
    Refused,
    /// Over a link that has no carrier: for as long as that is so, as if the route were not there.
    Dead,
    /// To where a next hop object leads, of which the route says nothing more.
    Object {
        /// The kernel's number of the next-hop object.
        id: u32,
    },
}

/// A next hop object (`ip nexthop`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A single next hop.
    One(Via),
    /// Others, each with its share of the flows.
    Group(Vec<(u32, NonZeroU16)>),
}

/// What a packet must be beside its destination for a route to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// Its type of service (RFC 1349, made obsolete by RFC 2474); 0 is any.
    pub tos: u8,
    /// From where it is.
    pub source: Option<IpNet>,
}

impl Via {
    /// To one of several gateways, in whatever order, or to the only one.
    #[must_use]
    pub fn paths(mut paths: Vec<Path>) -> Self {
        paths.sort_unstable();
        paths.dedup_by(|path, kept| {
            let same = (path.interface, path.address) == (kept.interface, kept.address);
            if same {
                kept.weight = kept.weight.saturating_add(path.weight.get());
            }
            same
        });
        match *paths.as_slice() {
            [] => Self::Dead,
            [
                Path {
                    interface, address, ..
                },
            ] => Self::Gateway { interface, address },
            _ => Self::Paths(paths.into()),
        }
    }

    /// The interfaces and gateways that it leads to.
    fn gateways(&self) -> BTreeSet<(u32, IpAddr)> {
        match self {
            Self::Gateway { interface, address } => BTreeSet::from([(*interface, *address)]),
            Self::Paths(paths) => paths
                .iter()
                .map(|path| (path.interface, path.address))
                .collect(),
            _ => BTreeSet::new(),
        }
    }
}

impl Object {
    /// Where it leads, beside `others`.
    pub(super) fn via(&self, others: &BTreeMap<u32, Self>) -> Via {
        let members = match self {
            Self::One(via) => return via.clone(),
            Self::Group(members) => members,
        };
        let mut paths = Vec::new();
        for (id, weight) in members {
            match others.get(id) {
                Some(Self::One(Via::Gateway { interface, address })) => paths.push(Path {
                    interface: *interface,
                    address: *address,
                    weight: *weight,
                }),
                Some(Self::One(Via::Dead)) => {}
                Some(Self::One(via)) if members.len() == 1 => return via.clone(),
                // The kernel shares the flows.
                _ => return Via::Refused,
            }
        }
        Via::paths(paths)
    }

    /// Those that it is a group of.
    pub(super) fn members(&self) -> impl Iterator<Item = u32> {
        let members: &[_] = match self {
            Self::One(_) => &[],
            Self::Group(members) => members,
        };
        members.iter().map(|(id, _)| *id)
    }
}

/// A route as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The table that it is in.
    pub table: Table,
    /// The destination prefix, host bits 0.
    pub prefix: IpNet,
    /// The largest packet that is sent on by it, where the interface's MTU does not say so.
    pub mtu: Option<u16>,
    /// Routes with one are asked before those without.
    pub condition: Option<Condition>,
    /// The lower one wins.
    pub metric: u32,
    /// Whether it has several next hops, those that are not alive counted in.
    pub multipath: bool,
    /// The next hop object that it is made of.
    pub object: Option<u32>,
    /// The next hop or hops.
    pub via: Via,
}

/// Where a route goes among those of its prefix and metric, of which the first is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `ip route add`, `ip route prepend`.
    First,
    /// `ip route append`.
    Last,
    /// `ip route replace`: instead of the first.
    Replace,
}

/// Adds a route to those of its prefix.
pub(super) fn add(routes: &mut Vec<Route>, route: Route, place: Place) {
    // IPv6 says all next hops when one is added to others.
    let whole = route.multipath && route.prefix.addr().is_ipv6();
    let gateways = route.via.gateways();
    let is_part = |other: &Route| {
        let part = other.via.gateways();
        whole && other.metric == route.metric && !part.is_empty() && part.is_subset(&gateways)
    };
    let part = routes.iter().position(is_part);
    routes.retain(|other| !is_part(other));
    let rank = |route: &Route| (Reverse(route.condition), route.metric);
    let first = routes.partition_point(|other| rank(other) < rank(&route));
    let after = routes.partition_point(|other| rank(other) <= rank(&route));
    match (place, part) {
        (_, Some(part)) => routes.insert(part, route),
        (Place::Replace, None) if first < after => {
            if let Some(replaced) = routes.get_mut(first) {
                *replaced = route;
            }
        }
        (Place::Replace | Place::First, None) => routes.insert(first, route),
        (Place::Last, None) => routes.insert(after, route),
    }
}

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol,
        RouteScope, RouteType,
    },
};
use nix::libc::EEXIST;
use rtnetlink::{Error, Handle};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, info, warn};

use super::{ask, errno};
use crate::{
    config::{NextHop, RouteConfig, RouteWay},
    mirror::View,
};

/// By which the kernel's routes of the configuration are known (`rtm_protocol`): `proto 86`, or a name
/// for it in /etc/iproute2/rt_protos.d. Nobody else's in iproute2 or FRR.
const PROTOCOL: u8 = 86;
/// How long after a change the kernel is told: what belongs together comes together.
const SETTLE: Duration = Duration::from_millis(300);

/// The routes of the configuration. The kernel drops them when a twin is set down or its addresses go;
/// they come back with it.
#[derive(Debug)]
pub struct Configured {
    /// Each with what it is made of.
    routes: Vec<(RouteConfig, Vec<RouteMessage>)>,
    /// Those that the kernel does not take, as was said.
    refused: BTreeSet<usize>,
}

impl Configured {
    /// `twins` are the kernel's numbers of the interfaces, by name.
    #[must_use]
    pub fn new(routes: &[RouteConfig], twins: &BTreeMap<String, u32>) -> Self {
        let route = |route: &RouteConfig| (route.clone(), messages(route, twins));
        Self {
            routes: routes.iter().map(route).collect(),
            refused: BTreeSet::new(),
        }
    }

    /// Those to nowhere, which do not go with a twin.
    pub fn blackholes(&self) -> impl Iterator<Item = &RouteConfig> {
        let routes = self.routes.iter().map(|(route, _)| route);
        routes.filter(|route| route.way == RouteWay::Blackhole)
    }

    /// Adds what is missing.
    pub async fn add(&mut self, handle: &Handle) {
        for (index, (route, messages)) in self.routes.iter().enumerate() {
            for (place, message) in messages.iter().enumerate() {
                // IPv6 gets each next hop by itself: those of a link that was down are missing alone.
                let flags = if place == 0 { NLM_F_EXCL } else { NLM_F_APPEND };
                let message = RouteNetlinkMessage::NewRoute(message.clone());
                match ask(handle, message, NLM_F_CREATE | flags).await {
                    Ok(()) => {
                        self.refused.remove(&index);
                        debug!(to = %route.to, "a route of the configuration was added");
                    }
                    Err(error) if errno(&error) == EEXIST => {}
                    Err(error) => {
                        if self.refused.insert(index) {
                            warn!(
                                to = %route.to,
                                metric = route.metric,
                                %error,
                                "the kernel does not take a route of the configuration yet"
                            );
                        }
                    }
                }
            }
        }
    }

    /// Keeps them while the mirror lives.
    pub async fn keep(mut self, handle: Handle, mut view: watch::Receiver<Arc<View>>) {
        if self.routes.is_empty() {
            return;
        }
        info!(
            routes = self.routes.len(),
            "the configuration's routes are kept"
        );
        let mut seen = Seen::default();
        loop {
            let now = self.seen(&view.borrow_and_update());
            if now != seen {
                self.add(&handle).await;
                seen = now;
            }
            if view.changed().await.is_err() {
                return;
            }
            sleep(SETTLE).await;
        }
    }

    /// What of the kernel's state says that a route of the configuration may be missing.
    fn seen(&self, view: &View) -> Seen {
        let interfaces = view.interfaces.iter();
        let interfaces = interfaces.map(|one| (one.up, one.addresses.clone()));
        let there: BTreeSet<_> = view
            .interfaces
            .iter()
            .flat_map(|one| &one.prefixes)
            .collect();
        let missing = self.routes.iter().map(|(route, _)| route);
        let missing = missing.filter(|route| route.way != RouteWay::Blackhole);
        Seen {
            interfaces: interfaces.collect(),
            missing: missing.filter(|route| !there.contains(&route.to)).count(),
        }
    }
}

/// Removes a route to nowhere that the configuration had.
pub async fn remove_blackhole(handle: &Handle, to: IpNet, metric: u32) -> Result<(), Error> {
    let way = RouteWay::Blackhole;
    let message = message(&RouteConfig { to, metric, way }, RouteType::BlackHole, []);
    ask(handle, RouteNetlinkMessage::DelRoute(message), 0).await
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    interfaces: Vec<(bool, Vec<IpNet>)>,
    missing: usize,
}

fn messages(route: &RouteConfig, twins: &BTreeMap<String, u32>) -> Vec<RouteMessage> {
    let hops = match &route.way {
        RouteWay::Blackhole => return vec![message(route, RouteType::BlackHole, [])],
        RouteWay::NextHops(hops) => hops,
    };
    let index = |hop: &NextHop| twins.get(&hop.dev).copied().unwrap_or_default();
    let gateway = |via: IpAddr| RouteAttribute::Gateway(address(via));
    let one = |hop: &NextHop| {
        let oif = RouteAttribute::Oif(index(hop));
        message(
            route,
            RouteType::Unicast,
            hop.via.map(gateway).into_iter().chain([oif]),
        )
    };
    if hops.len() == 1 || route.to.addr().is_ipv6() {
        return hops.iter().map(one).collect();
    }
    let hop = |hop: &NextHop| {
        let mut next = RouteNextHop::default();
        next.interface_index = index(hop);
        next.attributes.extend(hop.via.map(gateway));
        next
    };
    let hops = RouteAttribute::MultiPath(hops.iter().map(hop).collect());
    vec![message(route, RouteType::Unicast, [hops])]
}

fn message(
    route: &RouteConfig,
    kind: RouteType,
    way: impl IntoIterator<Item = RouteAttribute>,
) -> RouteMessage {
    let on_link =
        matches!(&route.way, RouteWay::NextHops(hops) if hops.iter().all(|hop| hop.via.is_none()));
    let ipv4 = route.to.addr().is_ipv4();
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: if ipv4 {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        },
        destination_prefix_length: route.to.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(PROTOCOL),
        scope: if on_link && ipv4 {
            RouteScope::Link
        } else {
            RouteScope::Universe
        },
        kind,
        ..RouteHeader::default()
    };
    message.attributes = way.into_iter().collect();
    if route.to.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(address(route.to.network())));
    }
    if route.metric > 0 {
        message
            .attributes
            .push(RouteAttribute::Priority(route.metric));
    }
    message
}

fn address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

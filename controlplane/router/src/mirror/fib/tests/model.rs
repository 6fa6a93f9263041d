//! A worker and a kernel as lists, and what may happen to them.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
};

use proptest::prelude::*;

use voicelane_dataplane::{control::RouteError, routing::fib::FibError};

use super::super::*;
use crate::mirror::state::{Event, Neighbour, Path, Place, Route, Table, Via};

/// Two twins, and an interface that only the kernel has.
pub(super) const LAN: u32 = 7;
pub(super) const CORE: u32 = 8;
const MANAGEMENT: u32 = 2;

/// A host of the small world that both families have alike: 10.0.`net`.`host`, or
/// 2001:db8::`net`:`host`.
pub(super) fn host(ipv6: bool, net: u8, host: u8) -> IpAddr {
    if ipv6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, net.into(), host.into()).into()
    } else {
        Ipv4Addr::new(10, 0, net, host).into()
    }
}

/// A gateway that may be link-local, and then is another one on each link.
pub(super) fn link_local(last: u8) -> IpAddr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last.into()).into()
}

pub(super) fn twins() -> Twins {
    let twin = |port, last| TwinOf {
        interface: InterfaceIndex(port),
        mac: MacAddress([2, 0, 0, 0, 0, last]),
        largest_mtu: 1500,
    };
    Twins::from([(LAN, twin(0, 1)), (CORE, twin(1, 2))])
}

/// Where an address leads: each way with its share of the flows, of 256.
pub(super) type Ways = Vec<(Adjacency, u32)>;

/// Whether each way has its share, give or take two parts of 256: it may be several paths' way.
pub(super) fn alike(got: Option<&Ways>, wanted: Option<&Ways>) -> bool {
    let (Some(got), Some(wanted)) = (got, wanted) else {
        return got.is_none() && wanted.is_none();
    };
    let total: u32 = wanted.iter().map(|(_, weight)| weight).sum();
    let exact = |weight: u32| 256.0 * f64::from(weight) / f64::from(total);
    got.len() == wanted.len()
        && wanted.iter().all(|(way, weight)| {
            let mut same = got.iter().filter(|(other, _)| other == way);
            same.any(|&(_, count)| (f64::from(count) - exact(*weight)).abs() <= 2.0)
        })
}

/// Shares of a way that stands there twice are one.
fn merged(ways: impl IntoIterator<Item = (Adjacency, u32)>) -> Ways {
    let mut merged: Ways = Vec::new();
    for (way, weight) in ways {
        match merged.iter_mut().find(|(other, _)| *other == way) {
            Some((_, sum)) => *sum += weight,
            None => merged.push((way, weight)),
        }
    }
    merged
}

/// A worker's table that takes requests and looks up by brute force.
#[derive(Default)]
pub(super) struct Worker {
    /// How many routes of each family it takes, and of those how many hosts; `None`: all.
    pub(super) room: Option<(usize, usize)>,
    adjacencies: HashMap<NextHop, Adjacency>,
    paths: HashMap<NextHop, Vec<NextHop>>,
    ways_in: HashMap<NextHop, InterfaceSet>,
    pub(super) routes: BTreeMap<IpNet, NextHop>,
    pub(super) requests: usize,
}

impl Worker {
    /// Obeys, as the mirror has it do, until there is nothing more to say.
    pub(super) fn obey(&mut self, fib: &mut Fib, state: &State, requests: Vec<Request>) {
        let mut requests = requests;
        while !requests.is_empty() {
            let answers = self.take(requests);
            requests = fib.answered(state, answers);
        }
        fib.invariants();
    }

    /// Obeys, and offers what it had no room for, a bounded number of times.
    pub(super) fn settle(&mut self, fib: &mut Fib, state: &State, requests: Vec<Request>) {
        self.obey(fib, state, requests);
        let mut rounds = 0;
        while fib.has_offers() {
            rounds += 1;
            assert!(rounds < 100, "offers end");
            let requests = fib.offer(state);
            self.obey(fib, state, requests);
        }
    }

    /// Why there is no room for a route.
    fn refuses(&self, prefix: IpNet) -> Option<FibError> {
        let (routes, hosts) = self.room?;
        let is_ipv6 = |prefix: &IpNet| prefix.addr().is_ipv6();
        let is_host = |prefix: &IpNet| prefix.prefix_len() == prefix.max_prefix_len();
        let same = |other: &&IpNet| is_ipv6(other) == is_ipv6(&prefix);
        if self.routes.contains_key(&prefix) || prefix.prefix_len() == 0 {
            return None;
        }
        let there = self.routes.keys().filter(same);
        if there.clone().filter(|other| other.prefix_len() > 0).count() >= routes {
            let family = "a";
            return Some(FibError::Full { family, routes: 0 });
        }
        // Stands for nodes, of which some routes need more than others.
        (is_host(&prefix) && there.filter(|other| is_host(other)).count() >= hosts).then_some(
            FibError::Nodes {
                family: "a",
                routes: 0,
                nodes: 0,
            },
        )
    }

    pub(super) fn take(&mut self, requests: Vec<Request>) -> Vec<(IpNet, Result<(), RouteError>)> {
        self.requests += requests.len();
        let mut answers = Vec::new();
        for request in requests {
            match request {
                Request::SetAdjacency {
                    next_hop,
                    adjacency,
                } => {
                    assert!((1..1 << 15).contains(&next_hop.0));
                    self.paths.remove(&next_hop);
                    self.adjacencies.insert(next_hop, adjacency);
                }
                Request::SetPaths { next_hop, paths } => {
                    assert!((1..1 << 15).contains(&next_hop.0));
                    let paths: Vec<_> = paths.buckets().collect();
                    for path in &paths {
                        assert!(self.adjacencies.contains_key(path), "set before it is used");
                    }
                    self.adjacencies.remove(&next_hop);
                    self.paths.insert(next_hop, paths);
                }
                Request::SetRoute {
                    prefix,
                    length,
                    next_hop,
                } => {
                    assert!(
                        self.adjacencies.contains_key(&next_hop)
                            || self.paths.contains_key(&next_hop),
                        "set before it is used"
                    );
                    let prefix = IpNet::new(prefix, length).unwrap();
                    assert_eq!(prefix, prefix.trunc());
                    let refused = self.refuses(prefix);
                    if refused.is_none() {
                        self.routes.insert(prefix, next_hop);
                    }
                    answers.push((prefix, refused.map_or(Ok(()), |error| Err(error.into()))));
                }
                Request::RemoveRoute { prefix, length } => {
                    let prefix = IpNet::new(prefix, length).unwrap();
                    let removed = self.routes.remove(&prefix);
                    assert!(
                        self.room.is_some() || removed.is_some(),
                        "{prefix} was there"
                    );
                }
                Request::SetWaysIn {
                    next_hop,
                    interfaces,
                } => {
                    self.ways_in.insert(next_hop, interfaces);
                }
                other => panic!("{other:?} is no request of the mirror"),
            }
        }
        answers
    }

    /// From which of the two twins' interfaces packets may come whose source is this address.
    pub(super) fn ways_in(&self, address: IpAddr) -> [bool; 2] {
        let covering = self
            .routes
            .iter()
            .filter(|(prefix, _)| prefix.contains(&address));
        let longest = covering.max_by_key(|(prefix, _)| prefix.prefix_len());
        let ways_in = longest.map_or(InterfaceSet::NONE, |(_, next_hop)| self.ways_in[next_hop]);
        [0, 1].map(|index| ways_in.contains(InterfaceIndex(index)))
    }

    pub(super) fn lookup(&self, address: IpAddr) -> Option<Ways> {
        let covering = self
            .routes
            .iter()
            .filter(|(prefix, _)| prefix.contains(&address));
        let (_, next_hop) = covering.max_by_key(|(prefix, _)| prefix.prefix_len())?;
        Some(match self.paths.get(next_hop) {
            Some(paths) => merged(paths.iter().map(|path| (self.adjacencies[path], 1))),
            None => vec![(self.adjacencies[next_hop], 256)],
        })
    }
}

/// The kernel, as far as it matters here: all that was said, in order, kept as lists.
#[derive(Default)]
pub(super) struct Kernel {
    pub(super) routes: Vec<Route>,
    /// The IPv6 MTU of interfaces where it is less than the link's.
    pub(super) ipv6_mtus: BTreeMap<u32, u16>,
    neighbours: Vec<(u32, IpAddr, MacAddress)>,
}

impl Kernel {
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::RouteAdded(route, _) => self.routes.push(route.clone()),
            Event::RouteRemoved(route) => self.routes.retain(|other| other != route),
            &Event::Neighbour {
                interface,
                address,
                neighbour,
            } => {
                self.neighbours
                    .retain(|&(i, a, _)| (i, a) != (interface, address));
                self.neighbours
                    .extend(neighbour.map(|n| (interface, address, n.mac)));
            }
            _ => {}
        }
    }

    /// What may happen: to add to a prefix and metric that is taken is EEXIST in the kernel, and to
    /// remove needs the very route.
    pub(super) fn possible(&self, event: Event) -> Option<Event> {
        match event {
            Event::RouteAdded(ref new, _) => {
                let taken = self
                    .routes
                    .iter()
                    .any(|r| (r.table, r.prefix, r.metric) == (new.table, new.prefix, new.metric));
                (!taken).then_some(event)
            }
            Event::RouteRemoved(route) => {
                let same = |r: &&Route| (r.table, r.prefix) == (route.table, route.prefix);
                let there = self.routes.iter().find(same)?;
                Some(Event::RouteRemoved(there.clone()))
            }
            other => Some(other),
        }
    }

    fn find(&self, table: Table, address: IpAddr) -> Option<&Route> {
        let matching = self
            .routes
            .iter()
            .filter(|r| r.table == table && r.prefix.contains(&address) && r.via != Via::Dead);
        let best = matching.min_by_key(|r| (128 - r.prefix.prefix_len(), r.metric))?;
        Some(best)
    }

    fn neighbour(&self, interface: u32, address: IpAddr, route: &Route) -> Adjacency {
        let twin = twins()[&interface];
        let of_interface = self.ipv6_mtus.get(&interface).copied();
        let of_interface = of_interface.filter(|_| route.prefix.addr().is_ipv6());

        let known = self
            .neighbours
            .iter()
            .find(|&&(i, a, _)| (i, a) == (interface, address));
        let (interface, source) = (twin.interface, twin.mac);
        known.map_or(Adjacency::Resolve, |&(_, _, destination)| {
            match route.mtu.or(of_interface) {
                Some(mtu) => Adjacency::Narrow {
                    interface,
                    destination,
                    source,
                    mtu,
                },
                None => Adjacency::Forward {
                    interface,
                    destination,
                    source,
                },
            }
        })
    }

    pub(super) fn lookup(&self, address: IpAddr) -> Option<Ways> {
        let route = self
            .find(Table::Local, address)
            .or_else(|| self.find(Table::Main, address))?;
        let one = match route.via {
            Via::Kernel => Adjacency::Local,
            Via::Nowhere => Adjacency::Blackhole,
            Via::Refused | Via::Dead | Via::Object { .. } => Adjacency::Resolve,
            Via::Link {
                interface: MANAGEMENT,
            }
            | Via::Gateway {
                interface: MANAGEMENT,
                ..
            } => Adjacency::Kernel,
            Via::Link { interface } => self.neighbour(interface, address, route),
            Via::Gateway { interface, address } => self.neighbour(interface, address, route),
            Via::Paths(ref paths) => {
                if paths.iter().any(|path| path.interface == MANAGEMENT) {
                    return Some(vec![(Adjacency::Resolve, 256)]);
                }
                let ways = paths.iter().map(|path| {
                    let way = self.neighbour(path.interface, path.address, route);
                    (way, u32::from(path.weight.get()))
                });
                let known = ways.filter(|(way, _)| *way != Adjacency::Resolve);
                let known = merged(known);
                if !known.is_empty() {
                    return Some(known);
                }
                Adjacency::Resolve
            }
        };
        Some(vec![(one, 256)])
    }
}

/// Few addresses, so that everything meets everything.
fn addresses(ipv6: bool) -> impl Strategy<Value = IpAddr> {
    (0..2_u8, 0..4_u8).prop_map(move |(net, last)| host(ipv6, net, last))
}

fn gateways(ipv6: bool) -> impl Strategy<Value = IpAddr> {
    (any::<bool>(), 1..3_u8, addresses(ipv6)).prop_map(move |(local, last, address)| {
        if ipv6 && local {
            link_local(last)
        } else {
            address
        }
    })
}

fn interfaces() -> impl Strategy<Value = u32> {
    prop_oneof![Just(LAN), Just(CORE), Just(MANAGEMENT)]
}

/// Some of them the same twice, most of them over twins only.
fn paths(ipv6: bool) -> impl Strategy<Value = Via> {
    let interface = prop_oneof![8 => Just(LAN), 8 => Just(CORE), 1 => Just(MANAGEMENT)];
    let path = (interface, gateways(ipv6), 1..5_u16).prop_map(|(interface, address, weight)| {
        let weight = NonZeroU16::new(weight).unwrap();
        Path {
            interface,
            address,
            weight,
        }
    });
    prop::collection::vec(path, 1..5).prop_map(Via::paths)
}

fn routes() -> impl Strategy<Value = Route> {
    any::<bool>().prop_flat_map(routes_of)
}

fn routes_of(ipv6: bool) -> impl Strategy<Value = Route> {
    let main = prop_oneof![
        4 => interfaces().prop_map(|interface| Via::Link { interface }),
        4 => (interfaces(), gateways(ipv6))
            .prop_map(|(interface, address)| Via::Gateway { interface, address }),
        4 => paths(ipv6),
        1 => Just(Via::Nowhere),
        1 => Just(Via::Refused),
        1 => Just(Via::Dead),
    ];
    let table = prop_oneof![
        4 => main.prop_map(|via| (Table::Main, via)),
        1 => Just((Table::Local, Via::Kernel)),
    ];
    // Of a host, of two, of four, of a network, of all networks, of everything.
    let shorter = prop_oneof![Just(0), Just(1), Just(2), Just(8), Just(24), Just(32)];
    let mtu = prop_oneof![3 => Just(None), 1 => Just(Some(1300)), 1 => Just(Some(1400))];
    // One route a prefix and metric, as `ip route add` insists on: the order of others is tested apart.
    (table, addresses(ipv6), shorter, 0..3_u32, mtu).prop_map(
        |((table, via), address, shorter, metric, mtu)| {
            let host = IpNet::from(address);
            let length = match (shorter, host.max_prefix_len()) {
                (32, _) => 0,
                (shorter, longest) => longest - shorter,
            };
            let prefix = IpNet::new(address, length).unwrap().trunc();
            Route {
                table,
                prefix,
                mtu,
                condition: None,
                metric,
                multipath: false,
                object: None,
                via,
            }
        },
    )
}

pub(super) fn events() -> impl Strategy<Value = Event> {
    let neighbours = any::<bool>().prop_flat_map(gateways);
    let neighbour =
        prop::option::of(
            (1..4_u8, any::<bool>()).prop_map(|(last, stale)| Neighbour {
                mac: MacAddress([6, 0, 0, 0, 0, last]),
                stale,
            }),
        );
    prop_oneof![
        3 => routes().prop_map(|route| Event::RouteAdded(route, Place::First)),
        2 => routes().prop_map(Event::RouteRemoved),
        4 => (interfaces(), neighbours, neighbour).prop_map(|(interface, address, neighbour)| {
            Event::Neighbour { interface, address, neighbour }
        }),
    ]
}

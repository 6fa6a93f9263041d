//! Random events against the kernel's own way of looking up, written out naively.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::mirror::state::{Event, Neighbour, Place, Route, Table};

/// Two twins, and an interface that only the kernel has.
const LAN: u32 = 7;
const CORE: u32 = 8;
const MANAGEMENT: u32 = 2;

fn v4(prefix: IpAddr, length: u8) -> Ipv4Net {
    let IpAddr::V4(prefix) = prefix else {
        panic!("{prefix} is not IPv4")
    };
    Ipv4Net::new(prefix, length).unwrap()
}

fn twins() -> Twins {
    let twin = |port, last| TwinPort {
        port: PortIndex(port),
        mac: MacAddress([2, 0, 0, 0, 0, last]),
    };
    Twins::from([(LAN, twin(0, 1)), (CORE, twin(1, 2))])
}

/// A worker's table that takes requests and looks up by brute force.
#[derive(Default)]
struct Worker {
    adjacencies: HashMap<NextHop, Adjacency>,
    routes: BTreeMap<Ipv4Net, NextHop>,
    requests: usize,
}

impl Worker {
    fn take(&mut self, requests: Vec<Request>) {
        self.requests += requests.len();
        for request in requests {
            match request {
                Request::SetAdjacency {
                    next_hop,
                    adjacency,
                } => {
                    assert!((1..1 << 15).contains(&next_hop.0));
                    self.adjacencies.insert(next_hop, adjacency);
                }
                Request::SetRoute {
                    prefix,
                    length,
                    next_hop,
                } => {
                    assert!(
                        self.adjacencies.contains_key(&next_hop),
                        "set before it is used"
                    );
                    let prefix = v4(prefix, length);
                    assert_eq!(prefix, prefix.trunc());
                    self.routes.insert(prefix, next_hop);
                }
                Request::RemoveRoute { prefix, length } => {
                    let prefix = v4(prefix, length);
                    assert!(self.routes.remove(&prefix).is_some(), "{prefix} was there");
                }
                other => panic!("{other:?} is no request of the mirror"),
            }
        }
    }

    fn lookup(&self, address: Ipv4Addr) -> Option<Adjacency> {
        let covering = self
            .routes
            .iter()
            .filter(|(prefix, _)| prefix.contains(&address));
        let (_, next_hop) = covering.max_by_key(|(prefix, _)| prefix.prefix_len())?;
        Some(self.adjacencies[next_hop])
    }
}

/// The kernel, as far as it matters here: all that was said, in order, kept as lists.
#[derive(Default)]
struct Kernel {
    routes: Vec<Route>,
    neighbours: Vec<(u32, Ipv4Addr, MacAddress)>,
}

impl Kernel {
    fn apply(&mut self, event: &Event) {
        match *event {
            Event::RouteAdded(route, _) => self.routes.push(route),
            Event::RouteRemoved(route) => self.routes.retain(|other| *other != route),
            Event::Neighbour {
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

    fn find(&self, table: Table, address: Ipv4Addr) -> Option<Via> {
        let matching = self
            .routes
            .iter()
            .filter(|r| r.table == table && r.prefix.contains(&address));
        let best = matching.min_by_key(|r| (32 - r.prefix.prefix_len(), r.metric))?;
        Some(best.via)
    }

    fn lookup(&self, address: Ipv4Addr) -> Option<Adjacency> {
        let via = self
            .find(Table::Local, address)
            .or_else(|| self.find(Table::Main, address))?;
        let neighbour = |interface, address| {
            let twin = twins()[&interface];
            let known = self
                .neighbours
                .iter()
                .find(|&&(i, a, _)| (i, a) == (interface, address));
            known.map_or(Adjacency::Resolve, |&(_, _, destination)| {
                Adjacency::Forward {
                    port: twin.port,
                    destination,
                    source: twin.mac,
                }
            })
        };
        Some(match via {
            Via::Kernel => Adjacency::Local,
            Via::Nowhere => Adjacency::Blackhole,
            Via::Refused => Adjacency::Resolve,
            Via::Link {
                interface: MANAGEMENT,
            }
            | Via::Gateway {
                interface: MANAGEMENT,
                ..
            } => Adjacency::Local,
            Via::Link { interface } => neighbour(interface, address),
            Via::Gateway { interface, address } => neighbour(interface, address),
        })
    }
}

/// Few addresses, so that everything meets everything.
fn addresses() -> impl Strategy<Value = Ipv4Addr> {
    (0..2_u8, 0..4_u8).prop_map(|(net, host)| Ipv4Addr::new(10, 0, net, host))
}

fn interfaces() -> impl Strategy<Value = u32> {
    prop_oneof![Just(LAN), Just(CORE), Just(MANAGEMENT)]
}

fn routes() -> impl Strategy<Value = Route> {
    let main = prop_oneof![
        4 => interfaces().prop_map(|interface| Via::Link { interface }),
        4 => (interfaces(), addresses())
            .prop_map(|(interface, address)| Via::Gateway { interface, address }),
        1 => Just(Via::Nowhere),
        1 => Just(Via::Refused),
    ];
    let table = prop_oneof![
        4 => main.prop_map(|via| (Table::Main, via)),
        1 => Just((Table::Local, Via::Kernel)),
    ];
    let length = prop_oneof![Just(0), Just(8), Just(24), Just(30), Just(31), Just(32)];
    // One route a prefix and metric, as `ip route add` insists on: the order of others is tested apart.
    (table, addresses(), length, 0..3_u32).prop_map(|((table, via), address, length, metric)| {
        let prefix = Ipv4Net::new(address, length).unwrap().trunc();
        Route {
            table,
            prefix,
            metric,
            via,
        }
    })
}

fn events() -> impl Strategy<Value = Event> {
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
        4 => (interfaces(), addresses(), neighbour).prop_map(|(interface, address, neighbour)| {
            Event::Neighbour { interface, address, neighbour }
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// After each event every address leads where the kernel would send it, and the table is the
    /// one that building it from scratch gives.
    #[test]
    fn every_address_leads_where_the_kernel_would_send_it(
        events in prop::collection::vec(events(), 1..60),
    ) {
        let (mut state, mut kernel) = (State::default(), Kernel::default());
        let (mut fib, mut worker) = (Fib::new(twins()), Worker::default());
        for event in events {
            // Adding to a prefix and metric that is taken is EEXIST in the kernel; removing needs
            // the very route.
            let skip = match &event {
                Event::RouteAdded(new, _) => kernel.routes.iter().any(|r| {
                    (r.table, r.prefix, r.metric) == (new.table, new.prefix, new.metric)
                }),
                _ => false,
            };
            if skip {
                continue;
            }
            let event = match event {
                Event::RouteRemoved(route) => {
                    let same = |r: &&Route| (r.table, r.prefix) == (route.table, route.prefix);
                    match kernel.routes.iter().find(same) {
                        Some(&there) => Event::RouteRemoved(there),
                        None => continue,
                    }
                }
                other => other,
            };
            kernel.apply(&event);
            let mut dirty = Dirty::default();
            state.apply(event, &mut dirty);
            prop_assert!(!dirty.resync);
            worker.take(fib.update(&state, &dirty));
            fib.invariants();
            for net in 0..3 {
                for host in 0..5 {
                    let address = Ipv4Addr::new(10, 0, net, host);
                    prop_assert_eq!(worker.lookup(address), kernel.lookup(address), "{}", address);
                }
            }
        }
        let mut scratch = Fib::new(twins());
        let mut fresh = Worker::default();
        fresh.take(scratch.update(&state, &state.all_dirty(&State::default(), &Dirty::default())));
        prop_assert_eq!(&fib.routes, &scratch.routes);

        // Nothing has changed, so there is nothing to say.
        let said = worker.requests;
        worker.take(fib.update(&state, &state.all_dirty(&state, &Dirty::default())));
        prop_assert_eq!(worker.requests, said);

        // And all of it goes away again.
        let empty = State::default();
        worker.take(fib.update(&empty, &empty.all_dirty(&state, &Dirty::default())));
        prop_assert!(worker.routes.is_empty() && fib.hops.is_empty());
    }
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn main_route(prefix: &str, metric: u32, via: Via) -> Route {
    Route {
        table: Table::Main,
        prefix: net(prefix),
        metric,
        via,
    }
}

#[test]
fn a_gateway_that_moves_costs_one_request() {
    let (mut state, mut fib) = (State::default(), Fib::new(twins()));
    let gateway = Ipv4Addr::new(10, 0, 0, 1);
    let mut dirty = Dirty::default();
    state.apply(
        Event::RouteAdded(
            main_route("10.0.0.0/30", 0, Via::Link { interface: CORE }),
            Place::First,
        ),
        &mut dirty,
    );
    for number in 0..1000_u32 {
        let prefix = Ipv4Net::new((0x1400_0000 + (number << 8)).into(), 24).unwrap();
        let via = Via::Gateway {
            interface: CORE,
            address: gateway,
        };
        let route = Route {
            table: Table::Main,
            prefix,
            metric: 0,
            via,
        };
        state.apply(Event::RouteAdded(route, Place::First), &mut dirty);
    }
    fib.update(&state, &dirty);
    assert_eq!(fib.routes(), 1001);
    for (last, expected) in [(1, 2), (2, 1)] {
        let neighbour = Some(Neighbour {
            mac: MacAddress([6, 0, 0, 0, 0, last]),
            stale: false,
        });
        let event = Event::Neighbour {
            interface: CORE,
            address: gateway,
            neighbour,
        };
        let mut dirty = Dirty::default();
        state.apply(event, &mut dirty);
        let requests = fib.update(&state, &dirty);
        // The first time its own /32 comes, too.
        assert_eq!(requests.len(), expected, "{requests:?}");
        assert!(matches!(
            requests.first(),
            Some(Request::SetAdjacency {
                adjacency: Adjacency::Forward { .. },
                ..
            })
        ));
    }
    assert_eq!(fib.used_neighbours().collect::<Vec<_>>(), [(CORE, gateway)]);
}

#[test]
fn routes_of_one_prefix_keep_the_kernels_order() {
    let gateway = |last| Via::Gateway {
        interface: CORE,
        address: Ipv4Addr::new(10, 0, 0, last),
    };
    let mut state = State::default();
    let mut said = |event| {
        let mut dirty = Dirty::default();
        state.apply(event, &mut dirty);
        (state.main_route(net("20.0.0.0/8")), dirty.resync)
    };
    let route = |metric, last| main_route("20.0.0.0/8", metric, gateway(last));
    let first = |last| (Some(gateway(last)), false);
    assert_eq!(said(Event::RouteAdded(route(5, 1), Place::First)), first(1));
    assert_eq!(said(Event::RouteAdded(route(5, 2), Place::Last)), first(1));
    assert_eq!(
        said(Event::RouteAdded(route(5, 2), Place::Last)),
        first(1),
        "said twice"
    );
    assert_eq!(said(Event::RouteAdded(route(9, 3), Place::First)), first(1));
    assert_eq!(
        said(Event::RouteAdded(route(5, 4), Place::Replace)),
        first(4)
    );
    assert_eq!(said(Event::RouteRemoved(route(5, 4))), first(2));
    assert_eq!(said(Event::RouteRemoved(route(5, 2))), first(3));
    assert_eq!(
        said(Event::RouteRemoved(route(9, 7))),
        (Some(gateway(3)), true),
        "not as known"
    );
    assert_eq!(said(Event::RouteRemoved(route(9, 3))), (None, false));
}

#[test]
fn what_the_kernel_does_silently_is_asked_for() {
    let mut state = State::default();
    let link = |up| Event::Link {
        interface: LAN,
        name: "lan".to_owned(),
        up,
        carrier: up,
    };
    let mut resync = |event| {
        let mut dirty = Dirty::default();
        state.apply(event, &mut dirty);
        dirty.resync
    };
    assert!(!resync(link(true)));
    assert!(
        resync(link(false)),
        "routes of a link that goes down go silently"
    );
    assert!(!resync(link(true)));
    assert!(resync(Event::LinkRemoved { interface: LAN }));
    assert!(resync(Event::Overrun));
}

/// A link goes down: the kernel says so, and that its neighbours are gone, but not that its routes
/// are. So it is asked for everything, and what came in the same breath must not be forgotten.
#[test]
fn a_neighbour_that_goes_with_its_link_leaves_no_route() {
    let host: Ipv4Addr = "10.1.0.10".parse().unwrap();
    let link = |up| Event::Link {
        interface: LAN,
        name: "lan".into(),
        up,
        carrier: true,
    };
    let neighbour = |neighbour| Event::Neighbour {
        interface: LAN,
        address: host,
        neighbour,
    };
    let known = Neighbour {
        mac: MacAddress([2, 0, 0, 0, 1, 1]),
        stale: false,
    };
    let connected = main_route("10.1.0.0/24", 0, Via::Link { interface: LAN });
    let (mut state, mut dirty) = (State::default(), Dirty::default());
    state.apply(link(true), &mut dirty);
    state.apply(Event::RouteAdded(connected, Place::First), &mut dirty);
    state.apply(neighbour(Some(known)), &mut dirty);
    let (mut fib, mut worker) = (Fib::new(twins()), Worker::default());
    worker.take(fib.update(&state, &dirty));
    assert_eq!(fib.routes(), 2);

    let mut dirty = Dirty::default();
    state.apply(link(false), &mut dirty);
    state.apply(neighbour(None), &mut dirty);
    assert!(dirty.resync);
    let mut asked = State::default();
    asked.apply(link(false), &mut Dirty::default());
    worker.take(fib.update(&asked, &asked.all_dirty(&state, &dirty)));
    assert!(worker.routes.is_empty(), "{:?}", worker.routes);
}

//! Random events against the kernel's own way of looking up, written out naively.

mod model;
mod paths;
mod room;

use std::{net::Ipv4Addr, num::NonZeroU16};

use proptest::prelude::*;

use self::model::{CORE, Kernel, LAN, Ways, Worker, alike, events, host, link_local, twins};
use super::*;
use crate::mirror::{
    interfaces,
    state::{Event, LinkState, Neighbour, Object, Path, Place, Route, Table, Via, is_link_local},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 3 / 2, ..ProptestConfig::default() })]

    /// After each event every address leads where the kernel would send it, and the table is the
    /// one that building it from scratch gives.
    #[test]
    fn every_address_leads_where_the_kernel_would_send_it(
        events in prop::collection::vec(events(), 1..60),
        narrowing in prop::collection::btree_map(0..60_usize, mtus(), 0..3),
    ) {
        let (mut state, mut kernel) = (State::default(), Kernel::default());
        let (mut fib, mut worker) = (Fib::new(twins()), Worker::default());
        for (index, event) in events.into_iter().enumerate() {
            let Some(event) = kernel.possible(event) else {
                continue;
            };
            kernel.apply(&event);
            let mut dirty = Dirty::default();
            state.apply(event, &mut dirty);
            if let Some(mtus) = narrowing.get(&index) {
                kernel.ipv6_mtus.clone_from(mtus);
                state.set_ipv6_mtus(mtus, &mut dirty);
            }
            prop_assert!(!dirty.resync);
            worker.take(fib.update(&state, &dirty));
            fib.invariants();
            for (address, got, wanted) in everywhere(&worker, &kernel) {
                prop_assert!(
                    alike(got.as_ref(), wanted.as_ref()),
                    "{}: {:?} {:?}", address, got, wanted
                );
            }
            prop_assert!(!worker.routes.keys().any(|&prefix| is_link_local(prefix)));
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

/// The IPv6 MTU of interfaces where it is less than the link's.
fn mtus() -> impl Strategy<Value = BTreeMap<u32, u16>> {
    prop::collection::btree_map(prop_oneof![Just(LAN), Just(CORE)], 1280..1300_u16, 0..3)
}

/// Where the worker and the kernel send each address of the small world.
fn everywhere<'a>(
    worker: &'a Worker,
    kernel: &'a Kernel,
) -> impl Iterator<Item = (IpAddr, Option<Ways>, Option<Ways>)> {
    let hosts = (0..3).flat_map(|net| (0..5).map(move |last| (net, last)));
    let addresses = hosts.flat_map(|(net, last)| [false, true].map(|ipv6| host(ipv6, net, last)));
    addresses.map(|address| (address, worker.lookup(address), kernel.lookup(address)))
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn main_route(prefix: &str, metric: u32, via: Via) -> Route {
    Route {
        table: Table::Main,
        prefix: net(prefix),
        mtu: None,
        condition: None,
        metric,
        multipath: false,
        object: None,
        via,
    }
}

#[test]
fn a_gateway_that_moves_costs_one_request() {
    let (mut state, mut fib) = (State::default(), Fib::new(twins()));
    let gateway = host(false, 0, 1);
    let mut dirty = Dirty::default();
    state.apply(
        Event::RouteAdded(
            main_route("10.0.0.0/30", 0, Via::Link { interface: CORE }),
            Place::First,
        ),
        &mut dirty,
    );
    for number in 0..1000_u32 {
        let prefix = Ipv4Addr::from(0x1400_0000 + (number << 8));
        let prefix = IpNet::new(prefix.into(), 24).unwrap();
        let via = Via::Gateway {
            interface: CORE,
            address: gateway,
        };
        let route = Route {
            table: Table::Main,
            prefix,
            mtu: None,
            condition: None,
            metric: 0,
            multipath: false,
            object: None,
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

/// A source may come from where its route leads, whether its neighbours are known or not.
#[test]
fn sources_come_from_where_their_routes_lead() {
    let (mut state, mut fib) = (State::default(), Fib::new(twins()));
    let mut worker = Worker::default();
    let gateway = |interface, last| Path {
        interface,
        address: host(false, 9, last),
        weight: NonZeroU16::MIN,
    };
    let one = |path: Path| Via::Gateway {
        interface: path.interface,
        address: path.address,
    };
    let both = [gateway(LAN, 1), gateway(CORE, 2)];
    let management = Via::Link { interface: 2 };
    let mut dirty = Dirty::default();
    for (prefix, via) in [
        ("10.0.0.0/24", Via::Link { interface: LAN }),
        ("10.0.1.0/24", one(gateway(CORE, 2))),
        ("10.0.2.0/24", Via::paths(both.to_vec())),
        ("10.0.3.0/24", management),
        ("10.0.4.0/24", Via::Nowhere),
        ("0.0.0.0/0", one(gateway(CORE, 3))),
    ] {
        let event = Event::RouteAdded(main_route(prefix, 0, via), Place::First);
        state.apply(event, &mut dirty);
    }
    worker.take(fib.update(&state, &dirty));
    let check = |worker: &Worker, known: &str| {
        for (address, ways_in) in [
            (host(false, 0, 1), [true, false]),
            (host(false, 1, 1), [false, true]),
            (host(false, 2, 1), [true, true]),
            (host(false, 3, 1), [false, false]),
            (host(false, 4, 1), [false, false]),
            (host(false, 5, 1), [false, true]),
            (host(true, 0, 1), [false, false]),
        ] {
            assert_eq!(worker.ways_in(address), ways_in, "{address}, {known}");
        }
    };
    check(&worker, "no neighbour is known");
    for (interface, address) in [(LAN, host(false, 0, 1)), (LAN, both[0].address)] {
        let neighbour = Some(Neighbour {
            mac: MacAddress([6, 0, 0, 0, 0, 1]),
            stale: false,
        });
        let event = Event::Neighbour {
            interface,
            address,
            neighbour,
        };
        let mut dirty = Dirty::default();
        state.apply(event, &mut dirty);
        worker.take(fib.update(&state, &dirty));
    }
    check(&worker, "some are known");
}

#[test]
fn routes_of_one_prefix_keep_the_kernels_order() {
    let gateway = |last| Via::Gateway {
        interface: CORE,
        address: host(false, 0, last),
    };
    let mut state = State::default();
    let mut said = |event| {
        let mut dirty = Dirty::default();
        state.apply(event, &mut dirty);
        let via = state.main_route(net("20.0.0.0/8")).cloned();
        (via, dirty.resync)
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

/// IPv6 tells each next hop that goes from a route with several as a route of its own.
#[test]
fn a_next_hop_that_goes_leaves_the_kernel_to_be_asked_for_the_others() {
    let one = main_route(
        "2001:db8:5::/48",
        1024,
        Via::Gateway {
            interface: CORE,
            address: link_local(1),
        },
    );
    let path = |last| Path {
        interface: CORE,
        address: link_local(last),
        weight: NonZeroU16::MIN,
    };
    let several = Route {
        multipath: true,
        via: Via::paths(vec![path(2), path(1)]),
        ..one.clone()
    };
    let (mut state, mut dirty) = (State::default(), Dirty::default());
    state.apply(Event::RouteAdded(one.clone(), Place::Last), &mut dirty);
    state.apply(Event::RouteAdded(several.clone(), Place::Last), &mut dirty);
    assert!(!dirty.resync);
    assert_eq!(
        state.main_route(one.prefix),
        Some(&several.via),
        "it was added to the first"
    );
    state.apply(Event::RouteRemoved(one.clone()), &mut dirty);
    assert!(dirty.resync);
    for known in [several, one.clone()] {
        let (mut state, mut dirty) = (State::default(), Dirty::default());
        let multipath = known.multipath;
        state.apply(Event::RouteAdded(known, Place::Last), &mut dirty);
        state.apply(Event::RouteRemoved(one.clone()), &mut dirty);
        assert_eq!(dirty.resync, multipath);
    }
}

/// What became of the link of that name.
fn lan(up: bool, carrier: bool) -> Event {
    Event::Link {
        interface: LAN,
        link: LinkState {
            name: "lan".to_owned(),
            up,
            carrier,
            ..LinkState::default()
        },
    }
}

#[test]
fn what_the_kernel_does_silently_is_asked_for() {
    let mut state = State::default();
    let link = |up, carrier| lan(up, carrier);
    let mut resync = |event| {
        let mut dirty = Dirty::default();
        state.apply(event, &mut dirty);
        dirty.resync
    };
    assert!(!resync(link(true, false)));
    assert!(
        resync(link(true, true)),
        "routes live again without a word when a carrier comes"
    );
    assert!(!resync(link(true, true)));
    assert!(resync(link(true, false)), "and die so when it goes");
    assert!(
        resync(link(false, false)),
        "routes of a link that goes down go silently"
    );
    assert!(!resync(link(true, false)));
    assert!(resync(Event::LinkRemoved { interface: LAN }));
    assert!(resync(Event::Overrun));

    // A next hop object matters for as long as a route is made of it.
    let changed = |id| Event::Object { id, object: None };
    let made = |id| Route {
        object: Some(id),
        ..main_route("20.0.0.0/8", 0, Via::Link { interface: LAN })
    };
    assert!(!resync(Event::RouteAdded(made(5), Place::First)));
    assert_eq!([4, 5].map(|id| resync(changed(id))), [false, true]);
    assert!(!resync(Event::RouteAdded(made(4), Place::Replace)));
    assert_eq!([4, 5].map(|id| resync(changed(id))), [true, false]);
    assert!(!resync(Event::RouteRemoved(made(4))));
    assert!(!resync(changed(4)));
}

/// A link goes down: the kernel says so, and that its neighbours are gone, but not that its routes
/// are. So it is asked for everything, and what came in the same breath must not be forgotten.
#[test]
fn a_neighbour_that_goes_with_its_link_leaves_no_route() {
    let host: IpAddr = "10.1.0.10".parse().unwrap();
    let link = |up| lan(up, true);
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

/// Routes of objects lead where these do, and are reported of the interfaces that they lead to.
#[test]
fn what_a_next_hop_object_says_holds_for_its_routes() {
    let one = |last| Object::One(Via::paths(vec![path(CORE, last, 1)]));
    let group = Object::Group(vec![(1, NonZeroU16::MIN), (2, NonZeroU16::new(3).unwrap())]);
    let route = |prefix, id| {
        let route = Route {
            object: Some(id),
            ..main_route(prefix, 0, Via::Object { id })
        };
        Event::RouteAdded(route, Place::First)
    };
    let (mut state, mut dirty) = (State::default(), Dirty::default());
    let object = |id, object| Event::Object { id, object };
    for event in [
        object(1, Some(one(1))),
        object(3, Some(group)),
        object(2, Some(one(2))),
        route("20.0.0.0/8", 3),
        route("30.0.0.0/8", 4),
    ] {
        state.apply(event, &mut dirty);
    }
    assert!(!dirty.resync);
    let via = |state: &State, prefix| state.main_route(net(prefix)).cloned();
    let both = Via::paths(vec![path(CORE, 1, 1), path(CORE, 2, 3)]);
    assert_eq!(via(&state, "20.0.0.0/8"), Some(both));
    assert_eq!(via(&state, "30.0.0.0/8"), Some(Via::Refused), "not known");
    let fib = Fib::new(twins());
    let view = interfaces::view(&state, &fib, &[None, None]);
    assert_eq!(view.interfaces[1].prefixes, [net("20.0.0.0/8")]);

    state.apply(object(2, None), &mut dirty);
    assert!(dirty.resync, "of a group that a route is made of");
    assert_eq!(via(&state, "20.0.0.0/8"), Some(Via::Refused));
    state.apply(object(4, Some(Object::One(Via::Nowhere))), &mut dirty);
    assert_eq!(via(&state, "30.0.0.0/8"), Some(Via::Nowhere));
}

fn path(interface: u32, last: u8, weight: u16) -> Path {
    Path {
        interface,
        address: host(false, 0, last),
        weight: NonZeroU16::new(weight).unwrap(),
    }
}

//! Routes with several next hops, and what is left of them.

use super::{
    main_route,
    model::{CORE, LAN, Worker, host, twins},
    path,
};
use crate::mirror::{
    fib::*,
    state::{Event, Neighbour, Path, Place, Via},
};

/// A neighbour is there, or not any more.
fn known(interface: u32, last: u8, mac: Option<u8>) -> Event {
    let neighbour = mac.map(|mac| Neighbour {
        mac: MacAddress([6, 0, 0, 0, 0, mac]),
        stale: false,
    });
    Event::Neighbour {
        interface,
        address: host(false, 0, last),
        neighbour,
    }
}

/// What a route with several next hops means follows its neighbours, and stays in one group.
#[test]
fn flows_are_shared_among_the_neighbours_that_are_known() {
    let paths = vec![path(CORE, 1, 1), path(CORE, 2, 2), path(LAN, 3, 1)];
    let (mut state, mut fib) = (State::default(), Fib::new(twins()));
    let mut worker = Worker::default();
    let mut said = |fib: &mut Fib, event| {
        let mut dirty = Dirty::default();
        state.apply(event, &mut dirty);
        worker.take(fib.update(&state, &dirty));
        fib.invariants();
        let ways = worker.lookup(host(false, 9, 9)).unwrap();
        let mut shares: Vec<_> = ways.iter().map(|(_, share)| *share).collect();
        shares.sort_unstable();
        (shares, fib.missing_neighbours(&state).len())
    };
    let route = main_route("10.0.9.0/24", 0, Via::paths(paths));
    let added = Event::RouteAdded(route.clone(), Place::First);
    assert_eq!(said(&mut fib, added), (vec![256], 3), "the kernel's");
    assert_eq!(said(&mut fib, known(CORE, 1, Some(1))), (vec![256], 2));
    let three = (vec![64, 64, 128], 0);
    said(&mut fib, known(CORE, 2, Some(2)));
    assert_eq!(said(&mut fib, known(LAN, 3, Some(3))), three);
    assert_eq!(said(&mut fib, known(CORE, 2, Some(4))), three, "moved");
    assert_eq!(said(&mut fib, known(CORE, 2, None)), (vec![128, 128], 1));
    let number = |fib: &Fib| fib.hops[&fib.routes[&route.prefix]].number;
    let before = number(&fib);
    said(&mut fib, known(CORE, 2, Some(2)));
    assert_eq!(number(&fib), before);
    let gone = Event::RouteRemoved(route);
    let mut dirty = Dirty::default();
    state.apply(gone, &mut dirty);
    fib.update(&state, &dirty);
    fib.invariants();
    assert!(fib.missing_neighbours(&state).is_empty());
}

/// A route that loses a next hop has another group, in which the other flows stay where they were.
#[test]
fn a_route_that_loses_a_next_hop_moves_its_flows_only() {
    let (mut state, mut fib) = (State::default(), Fib::new(twins()));
    let mut dirty = Dirty::default();
    for last in 1..=3 {
        state.apply(known(CORE, last, Some(last)), &mut dirty);
    }
    let mut buckets = |paths: Vec<Path>| {
        let route = main_route("10.0.9.0/24", 0, Via::paths(paths));
        let prefix = route.prefix;
        state.apply(Event::RouteAdded(route, Place::Replace), &mut dirty);
        fib.update(&state, &dirty);
        fib.invariants();
        let names: HashMap<_, _> = fib.hops.iter().map(|(t, hop)| (hop.number, t)).collect();
        match &fib.hops[&fib.routes[&prefix]].meaning {
            Meaning::Several(paths) => paths.buckets().map(|n| names[&n].clone()).collect(),
            one @ Meaning::One(_) => panic!("{one:?}"),
        }
    };
    let [first, second, third] = [1, 2, 3].map(|last| path(CORE, last, 1));
    let all: Vec<Target> = buckets(vec![first, second, third]);
    let without: Vec<Target> = buckets(vec![first, second]);
    let pairs = all.iter().zip(&without);
    for (was, is) in pairs {
        assert!(was == is || *was == Target::neighbour(&third).0);
    }
}

/// With no number left it is the kernel that forwards, and every number is given back.
#[test]
fn without_numbers_the_kernel_forwards() {
    let both = [path(CORE, 1, 1), path(CORE, 2, 1)];
    for left in 0..4 {
        let (mut state, mut fib) = (State::default(), Fib::new(twins()));
        let spent = LAST_NEXT_HOP - left;
        fib.unused = spent + 1;
        let route = main_route("10.0.9.0/24", 0, Via::paths(both.to_vec()));
        let mut dirty = Dirty::default();
        state.apply(Event::RouteAdded(route.clone(), Place::First), &mut dirty);
        fib.update(&state, &dirty);
        let expected = if left < 3 {
            Target::Resolve
        } else {
            Target::Paths(both.iter().map(Target::neighbour).collect())
        };
        assert_eq!(fib.routes[&route.prefix], expected, "{left} left");
        state.apply(Event::RouteRemoved(route), &mut dirty);
        fib.update(&state, &dirty);
        assert!(fib.hops.is_empty());
        assert_eq!(fib.free.len(), usize::from(fib.unused - spent - 1));
    }
}

/// A port's link is known to be lost before the kernel says what it makes of it.
#[test]
fn what_leads_over_a_lost_link_counts_for_nothing() {
    let (mut state, mut fib) = (State::default(), Fib::new(twins()));
    let (mut worker, mut dirty) = (Worker::default(), Dirty::default());
    let [one, other] = [path(CORE, 1, 1), path(LAN, 2, 1)];
    let gateway = |path: &Path| Via::paths(vec![*path]);
    for event in [
        known(CORE, 1, Some(1)),
        known(LAN, 2, Some(2)),
        Event::RouteAdded(main_route("10.0.8.0/24", 0, gateway(&one)), Place::First),
        Event::RouteAdded(main_route("10.0.8.0/24", 9, gateway(&other)), Place::First),
        Event::RouteAdded(
            main_route("10.0.9.0/24", 0, Via::paths(vec![one, other])),
            Place::First,
        ),
    ] {
        state.apply(event, &mut dirty);
    }
    let mut ports = |state: &mut State, lost: &[u32]| {
        state.set_lost(lost.iter().copied().collect(), &mut dirty);
        worker.take(fib.update(state, &dirty));
        fib.invariants();
        dirty = Dirty::default();
        [8, 9].map(|net| {
            let ways = worker.lookup(host(false, net, 9)).unwrap_or_default();
            let interface = |way: &(Adjacency, u32)| match way.0 {
                Adjacency::Forward { interface, .. } => interface.0,
                other => panic!("{other:?}"),
            };
            let mut interfaces: Vec<_> = ways.iter().map(interface).collect();
            interfaces.sort_unstable();
            interfaces
        })
    };
    assert_eq!(ports(&mut state, &[]), [vec![1], vec![0, 1]]);
    assert_eq!(ports(&mut state, &[CORE]), [vec![0], vec![0]]);
    assert_eq!(ports(&mut state, &[CORE, LAN]), <[Vec<u8>; 2]>::default());
    assert_eq!(ports(&mut state, &[LAN]), [vec![1], vec![1]]);
    assert_eq!(ports(&mut state, &[]), [vec![1], vec![0, 1]]);
}

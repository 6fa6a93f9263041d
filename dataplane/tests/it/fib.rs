//! The route tables against models: a trie of another make for the Internet's table, a list for few
//! routes close together.

use std::collections::BTreeMap;

use prefix_trie::PrefixMap;
use proptest::prelude::*;
use voicelane_dataplane::device::HEAP;
use voicelane_dataplane::routing::fib::{Fib, Fib4, Fib6, FibError, Key, MAX_NEXT_HOP, NO_ROUTE};

fn table<K: Key>(routes: u32) -> Fib<K> {
    Fib::create(routes, HEAP).unwrap()
}

fn find<K: Key>(fib: &Fib<K>, address: K) -> u16 {
    let mut found = [9];
    fib.lookup(&[address], &mut found);
    found[0]
}

/// A generator of numbers that needs no crate's promise to stay the same.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Random addresses, and those at and around the edges of random routes: all the same as in the
/// model, in bursts.
fn compare<K: Key, W: Copy>(
    fib: &Fib<K>,
    addresses: &[W],
    key: impl Fn(W) -> K,
    model: impl Fn(W) -> u16,
) {
    for burst in addresses.chunks(50) {
        let keys: Vec<K> = burst.iter().map(|&address| key(address)).collect();
        let mut found = vec![0; burst.len()];
        fib.lookup(&keys, &mut found);
        let wanted: Vec<u16> = burst.iter().map(|&address| model(address)).collect();
        assert_eq!(found, wanted);
    }
}

#[test]
fn the_internets_ipv4_table_is_the_models() {
    const ROUTES: u32 = 1_000_000;
    let mut fib: Fib4 = table(ROUTES);
    assert!(Fib4::bytes(ROUTES) < 270 << 20, "{}", Fib4::bytes(ROUTES));
    let mut model = PrefixMap::<(u32, u8), u16>::new();
    let mut numbers = Numbers(1);
    let routes = voicelane_bench::routes::ipv4(ROUTES as usize, 1);
    for &(prefix, length) in &routes {
        let next_hop = (numbers.next() % 1_000) as u16 + 1;
        fib.insert(prefix.into(), length, next_hop).unwrap();
        model.insert((prefix.into(), length), next_hop);
    }
    assert_eq!(fib.routes(), ROUTES);
    let another = fib.insert(0x0a01_0203, 32, 1);
    assert!(matches!(another, Err(FibError::Full { .. })), "{another:?}");
    fib.invariants();
    let mut check = |fib: &Fib4, model: &PrefixMap<(u32, u8), u16>| {
        let mut addresses: Vec<u32> = (0..500_000).map(|_| numbers.next() as u32).collect();
        for &(prefix, length) in routes.iter().step_by(10) {
            let first = u32::from(prefix);
            let last = first | u32::MAX.checked_shr(length.into()).unwrap_or(0);
            addresses.extend([first.wrapping_sub(1), first, last, last.wrapping_add(1)]);
        }
        compare(
            fib,
            &addresses,
            |address| address,
            |address| model.get_lpm(&(address, 32)).map_or(NO_ROUTE, |it| *it.1),
        );
    };
    check(&fib, &model);
    // Half of it goes, some of the rest leads elsewhere.
    for &(prefix, length) in routes.iter().step_by(2) {
        fib.remove(prefix.into(), length).unwrap();
        model.remove(&(prefix.into(), length));
    }
    for &(prefix, length) in routes.iter().skip(1).step_by(6) {
        fib.insert(prefix.into(), length, 2_000).unwrap();
        model.insert((prefix.into(), length), 2_000);
    }
    fib.invariants();
    check(&fib, &model);
    for &(prefix, length) in routes.iter().skip(1).step_by(2) {
        fib.remove(prefix.into(), length).unwrap();
    }
    assert_eq!(
        (fib.routes(), fib.nodes()),
        (0, 0),
        "nothing is left behind"
    );
}

#[test]
fn the_internets_ipv6_table_is_the_models() {
    const ROUTES: u32 = 250_000;
    let mut fib: Fib6 = table(ROUTES);
    assert!(Fib6::bytes(ROUTES) < 175 << 20, "{}", Fib6::bytes(ROUTES));
    let mut model = PrefixMap::<(u128, u8), u16>::new();
    let mut numbers = Numbers(2);
    let routes = voicelane_bench::routes::ipv6(ROUTES as usize, 2);
    for &(prefix, length) in &routes {
        let next_hop = (numbers.next() % 1_000) as u16 + 1;
        fib.insert(prefix.octets(), length, next_hop).unwrap();
        model.insert((prefix.into(), length), next_hop);
    }
    fib.invariants();
    let mut addresses = Vec::new();
    for &(prefix, length) in &routes {
        let first = u128::from(prefix);
        let last = first | u128::MAX >> length;
        let within = first | u128::from(numbers.next()) << 32 & u128::MAX >> length;
        addresses.extend([first.wrapping_sub(1), within, last, last.wrapping_add(1)]);
    }
    let lookup = |model: &PrefixMap<(u128, u8), u16>, address| {
        model.get_lpm(&(address, 128)).map_or(NO_ROUTE, |it| *it.1)
    };
    compare(&fib, &addresses, u128::to_be_bytes, |address| {
        lookup(&model, address)
    });
    for &(prefix, length) in routes.iter().step_by(2) {
        fib.remove(prefix.octets(), length).unwrap();
        model.remove(&(prefix.into(), length));
    }
    fib.invariants();
    compare(&fib, &addresses, u128::to_be_bytes, |address| {
        lookup(&model, address)
    });
}

/// DPDK's own tables of 22.11 count what they reserve wrongly, and are full after so many changes.
#[test]
fn a_route_that_flaps_for_ever_fills_nothing() {
    let mut fib: Fib6 = table(64);
    let network = "2001:db8:1::".parse::<std::net::Ipv6Addr>().unwrap();
    let mut ipv4: Fib4 = table(64);
    ipv4.insert(0x0a00_0000, 8, 1).unwrap();
    for _ in 0..100_000 {
        fib.insert(network.octets(), 48, 1).unwrap();
        fib.remove(network.octets(), 48).unwrap();
        ipv4.insert(0x0a00_0001, 32, 1).unwrap();
        ipv4.remove(0x0a00_0001, 32).unwrap();
    }
    assert_eq!((fib.nodes(), ipv4.nodes()), (0, 0));
}

#[test]
fn what_cannot_be_changes_nothing() {
    let mut fib: Fib4 = table(64);
    fib.insert(0, 0, 7).unwrap();
    for next_hop in [NO_ROUTE, MAX_NEXT_HOP + 1] {
        let error = FibError::NextHop(next_hop);
        assert_eq!(fib.insert(0x0a00_0000, 8, next_hop), Err(error));
    }
    assert_eq!(fib.insert(0, 33, 1), Err(FibError::PrefixLength(33)));
    assert_eq!(fib.remove(0, 33), Err(FibError::PrefixLength(33)));
    assert_eq!(fib.remove(0x0a00_0000, 8), Err(FibError::Missing));
    assert_eq!(find(&fib, 0x0a00_0001), 7, "the route to everything");
    for host in 0..64 {
        fib.insert(0x0a00_0000 + host, 32, MAX_NEXT_HOP).unwrap();
    }
    let (family, routes) = ("IPv4", 64);
    let full = FibError::Full { family, routes };
    assert_eq!(fib.insert(0x0a01_0000, 16, 1), Err(full));
    assert_eq!(find(&fib, 0x0a01_0000), 7);
    fib.insert(0x0a00_0000, 32, 2).unwrap();
    assert_eq!(find(&fib, 0x0a00_0000), 2, "it was there already");
    fib.remove(0, 0).unwrap();
    assert_eq!(find(&fib, 0x0a01_0000), NO_ROUTE);
    fib.invariants();

    // Two neighbours of which nothing else is near take a node.
    let mut fib: Fib6 = table(4_000);
    let far = |number: u16| {
        let mut address = [1; 16];
        address[..2].copy_from_slice(&(number / 2).to_be_bytes());
        address[15] = (number % 2) as u8;
        address
    };
    let refused =
        (0..4_000).find_map(|number| Some((number, fib.insert(far(number), 128, 1).err()?)));
    let (number, error) = refused.unwrap();
    assert!(matches!(error, FibError::Nodes { .. }), "{error}");
    assert_eq!(u32::from(number), fib.nodes() * 2 + 1);
    assert_eq!(find(&fib, far(number)), NO_ROUTE);
    fib.invariants();
    fib.remove(far(0), 128).unwrap();
    fib.insert(far(number), 128, 1).unwrap();
    assert_eq!(find(&fib, far(number)), 1);
}

proptest! {
    /// Few bits, so that routes lie in and beside each other, at every level's edge.
    #[test]
    fn routes_close_together_are_the_lists(
        changes in prop::collection::vec((any::<u8>(), any::<u8>(), 0_u8..=32, 0_u16..4), 1..200),
    ) {
        let mut fib: Fib4 = table(500);
        let mut model = BTreeMap::new();
        for (high, low, length, next_hop) in changes {
            let address = u32::from_be_bytes([10, high & 1, high & 0xc1, low & 0x83]);
            let address = address & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            if next_hop == 0 {
                let known = model.remove(&(length, address)).is_some() || length == 0;
                prop_assert_eq!(fib.remove(address, length).is_ok(), known);
            } else {
                fib.insert(address, length, next_hop).unwrap();
                model.insert((length, address), next_hop);
            }
        }
        fib.invariants();
        for number in 0..1_024_u32 {
            let [_, _, high, low] = number.to_be_bytes();
            let address = u32::from_be_bytes([10, high & 1, low & 0xc1 | high & 2, low & 0x3f | low << 6]);
            let covers = |&(length, prefix): &(u8, u32)| {
                (address ^ prefix).checked_shr(32 - u32::from(length)).unwrap_or(0) == 0
            };
            let wanted = model.iter().rev().find(|(route, _)| covers(route));
            prop_assert_eq!(find(&fib, address), wanted.map_or(NO_ROUTE, |it| *it.1));
        }
    }
}

/// Whether a route of these bits covers an address.
fn covers((length, prefix): (u8, u128), address: u128) -> bool {
    (address ^ prefix)
        .checked_shr(128 - u32::from(length))
        .unwrap_or(0)
        == 0
}

fn longest(routes: &BTreeMap<(u8, u128), u16>, address: u128) -> u16 {
    let mut matching = routes.iter().rev();
    let found = matching.find(|&(&route, _)| covers(route, address));
    found.map_or(NO_ROUTE, |(_, &next_hop)| next_hop)
}

/// The address itself, and those that are apart from it at every bit.
fn around(address: u128) -> impl Iterator<Item = u128> {
    std::iter::once(address).chain((0..128).map(move |bit| address ^ 1 << bit))
}

/// Addresses of few kinds that are the same for a while and then apart, at the beginning, the middle
/// and the end: so nodes pass over many bits, and what is between them comes and goes.
fn far_apart() -> impl Strategy<Value = u128> {
    (0_u32..4, 0_u32..4, 0_u32..4, 0_u32..4).prop_map(|(a, b, c, d)| {
        let early = u128::from(a & 1) << 110 | u128::from(a >> 1) << 96;
        let middle = u128::from(b) << 79 | u128::from(c) << 46;
        0x2001_0db8 << 96 | early | middle | u128::from(d) << 7
    })
}

proptest! {
    #[test]
    fn routes_far_apart_are_the_lists(
        changes in prop::collection::vec((far_apart(), 0_u8..=128, 0_u16..4), 1..100),
        addresses in prop::collection::vec(far_apart(), 4),
    ) {
        let mut fib: Fib6 = table(200);
        let mut model = BTreeMap::new();
        for &(address, length, next_hop) in &changes {
            let prefix = address & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            if next_hop == 0 {
                let known = model.remove(&(length, prefix)).is_some() || length == 0;
                prop_assert_eq!(fib.remove(address.to_be_bytes(), length).is_ok(), known);
            } else {
                fib.insert(address.to_be_bytes(), length, next_hop).unwrap();
                model.insert((length, prefix), next_hop);
            }
        }
        fib.invariants();
        prop_assert!(fib.nodes() <= fib.routes().saturating_sub(1), "no node for one route");
        let edges: Vec<u128> = addresses.iter().flat_map(|&address| around(address)).collect();
        compare(&fib, &edges, u128::to_be_bytes, |address| longest(&model, address));
        for (address, length, _) in changes {
            let prefix = address & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            let known = model.remove(&(length, prefix)).is_some() || length == 0;
            prop_assert_eq!(fib.remove(address.to_be_bytes(), length).is_ok(), known);
        }
        prop_assert_eq!((fib.routes(), fib.nodes()), (0, 0), "nothing is left behind");
        fib.invariants();
    }
}

/// All orders of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let longer = shorter.iter().flat_map(|order| {
        (0..count).map(move |at| {
            let mut order = order.clone();
            order.insert(at, count - 1);
            order
        })
    });
    longer.collect()
}

/// A way with a route in the middle of it, one off it, one at its end and one to all of it, made and
/// unmade in every order.
#[test]
fn ways_are_made_and_broken_in_every_order() {
    let end = 0x2001_0db8_0102_0304_0506_0708_090a_0b0c_u128;
    let routes = [
        (128, end),
        (20, end),
        (50, end ^ 1 << 80),
        (64, end),
        (128, end ^ 1 << 60),
    ];
    let routes = routes.map(|(length, address)| (length, address & u128::MAX << (128 - length)));
    let mut fib: Fib6 = table(16);
    let orders = orders(routes.len());
    for (coming, going) in orders.iter().zip(orders.iter().rev()) {
        let mut model = BTreeMap::new();
        let check = |fib: &Fib6, model: &BTreeMap<_, _>| {
            let addresses: Vec<u128> = around(end).chain(around(end ^ 1 << 60)).collect();
            compare(fib, &addresses, u128::to_be_bytes, |address| {
                longest(model, address)
            });
        };
        for &at in coming {
            let (length, prefix) = routes[at];
            fib.insert(prefix.to_be_bytes(), length, at as u16 + 1)
                .unwrap();
            model.insert((length, prefix), at as u16 + 1);
            check(&fib, &model);
        }
        fib.invariants();
        for &at in going {
            let (length, prefix) = routes[at];
            fib.remove(prefix.to_be_bytes(), length).unwrap();
            model.remove(&(length, prefix));
            check(&fib, &model);
        }
        assert_eq!(fib.nodes(), 0);
    }
    fib.invariants();
}

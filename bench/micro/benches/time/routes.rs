use std::{hint::black_box, net::IpAddr};

use criterion::{BenchmarkId, Criterion, Throughput};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use voicelane_bench::flows::{self, IpVersion};
use voicelane_dataplane::{
    device::BURST,
    routing::fib::{Fib, Key, NO_ROUTE},
};

/// The Internet's, of each family.
const INTERNET: [usize; 2] = [1_000_000, 250_000];
/// Bursts of addresses to look up.
const BURSTS: usize = 1_000;

/// A route table, and addresses that it has routes for: of random routes, and random below their
/// prefixes.
struct Made<K> {
    fib: Fib<K>,
    bursts: Vec<[K; BURST]>,
}

impl<K: Key> Made<K> {
    fn new(routes: &[(K, u8)], below: impl Fn((K, u8), u128) -> K) -> Self {
        let count = u32::try_from(routes.len()).expect("not so many");
        let mut fib = Fib::create(count, crate::memory()).expect("memory");
        for (&(prefix, length), next_hop) in routes.iter().zip((1..=500).cycle()) {
            fib.insert(prefix, length, next_hop).expect("room");
        }
        let mut random = SmallRng::seed_from_u64(7);
        let mut address = || {
            let route = *routes.choose(&mut random).expect("there are routes");
            below(route, random.random())
        };
        let bursts = (0..BURSTS).map(|_| std::array::from_fn(|_| address()));
        Self {
            bursts: bursts.collect(),
            fib,
        }
    }
}

fn below4((prefix, length): (u32, u8), random: u128) -> u32 {
    let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
    let host = random & u128::from(host);
    prefix | u32::try_from(host).expect("masked to 32 bits")
}

fn below6((prefix, length): ([u8; 16], u8), random: u128) -> [u8; 16] {
    let host = u128::MAX.checked_shr(length.into()).unwrap_or(0);
    (u128::from_be_bytes(prefix) | random & host).to_be_bytes()
}

fn networks(ip: IpVersion) -> impl Iterator<Item = (IpAddr, u8)> {
    flows::networks(ip).map(move |network| (network, flows::prefix_length(ip)))
}

/// The next hops of a burst of addresses.
pub(crate) fn lookup(criterion: &mut Criterion) {
    let [routes4, routes6] = INTERNET;
    let few4 = || {
        let bits = |(to, length)| match to {
            IpAddr::V4(to) => Some((to.to_bits(), length)),
            IpAddr::V6(_) => None,
        };
        networks(IpVersion::V4).filter_map(bits).collect()
    };
    let few6 = || {
        let octets = |(to, length)| match to {
            IpAddr::V4(_) => None,
            IpAddr::V6(to) => Some((to.octets(), length)),
        };
        networks(IpVersion::V6).filter_map(octets).collect()
    };
    let internet4 = || {
        let routes = voicelane_bench::routes::ipv4(routes4, 1).into_iter();
        routes.map(|(to, length)| (to.to_bits(), length)).collect()
    };
    let internet6 = || {
        let routes = voicelane_bench::routes::ipv6(routes6, 1).into_iter();
        routes.map(|(to, length)| (to.octets(), length)).collect()
    };
    lookup_in(criterion, "route/ipv4", "512", few4, below4);
    lookup_in(criterion, "route/ipv4", "internet", internet4, below4);
    lookup_in(criterion, "route/ipv6", "512", few6, below6);
    lookup_in(criterion, "route/ipv6", "internet", internet6, below6);
}

fn lookup_in<K: Key>(
    criterion: &mut Criterion,
    group: &str,
    name: &str,
    routes: impl Fn() -> Vec<(K, u8)>,
    below: impl Fn((K, u8), u128) -> K + Copy,
) {
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(BURST as u64));
    let mut made = None;
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        let Made { fib, bursts } = made.get_or_insert_with(|| Made::new(&routes(), below));
        let mut bursts = bursts.iter().cycle();
        let mut next_hops = [NO_ROUTE; BURST];
        bencher.iter(|| {
            let burst = bursts.next().expect("there are bursts");
            fib.lookup(burst, &mut next_hops);
            assert!(!black_box(&next_hops).contains(&NO_ROUTE));
        });
    });
    group.finish();
}

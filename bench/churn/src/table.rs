//! The Internet's routes in the router's table: what it takes to hold, change and look up.

use std::hint::black_box;

use anyhow::ensure;
use hdrhistogram::Histogram;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use serde::Serialize;
use voicelane_bench::Machine;
use voicelane_dataplane::{
    device::{Allocator, BURST},
    routing::fib::{Fib, Key, NO_ROUTE},
};
use voicelane_dpdk::tsc;

use crate::{
    changes::nanoseconds,
    figures::{LONGEST_NS, Quantiles},
};

/// Routes of each family.
const IPV4: usize = 1_000_000;
const IPV6: usize = 250_000;
/// DPDK's memory for both tables, MiB.
pub(crate) const MEMORY_MIB: u64 = 640;
const SEED: u64 = 1;
/// Next hops that routes lead to in turns.
const NEXT_HOPS: u16 = 500;
/// Routes that go and come back, one at a time.
const CHANGES: usize = 200_000;
/// Bursts of addresses that are looked up.
const BURSTS: usize = 20_000;

/// Figures of both families.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    machine: Machine,
    tables: Vec<Table>,
}

#[derive(Debug, Serialize)]
struct Table {
    family: &'static str,
    routes: usize,
    /// Of DPDK's memory, for as many routes.
    bytes: u64,
    load_seconds: f64,
    /// One route removed, or added again.
    change: Quantiles,
    /// An address, of a burst of random ones that have routes.
    lookup_cycles: f64,
    lookup_ns: f64,
}

/// Measures both families, one after the other.
pub(crate) fn measure(memory: &'static dyn Allocator) -> anyhow::Result<Figures> {
    let ipv4: Vec<_> = voicelane_bench::routes::ipv4(IPV4, SEED)
        .into_iter()
        .map(|(to, length)| (to.to_bits(), length))
        .collect();
    let ipv6: Vec<_> = voicelane_bench::routes::ipv6(IPV6, SEED)
        .into_iter()
        .map(|(to, length)| (to.octets(), length))
        .collect();
    let below4 = |prefix: u32, host: u128| {
        let [.., a, b, c, d] = host.to_be_bytes();
        prefix | u32::from_be_bytes([a, b, c, d])
    };
    let below6 = |prefix, host: u128| (u128::from_be_bytes(prefix) | host).to_be_bytes();
    Ok(Figures {
        machine: Machine::read(),
        tables: vec![table(&ipv4, below4, memory)?, table(&ipv6, below6, memory)?],
    })
}

/// `below` sets the bits of a host in a prefix.
fn table<K: Key>(
    routes: &[(K, u8)],
    below: impl Fn(K, u128) -> K,
    memory: &'static dyn Allocator,
) -> anyhow::Result<Table> {
    let capacity = u32::try_from(routes.len())?;
    let mut fib = Fib::create(capacity, memory)?;
    let next_hops = || (1..=NEXT_HOPS).cycle();
    let begin = tsc();
    for (&(prefix, length), next_hop) in routes.iter().zip(next_hops()) {
        fib.insert(prefix, length, next_hop)?;
    }
    let load = nanoseconds(tsc() - begin);
    ensure!(fib.routes() == capacity, "routes are missing");

    let mut change = Histogram::new_with_max(LONGEST_NS, 3)?;
    let mut timed =
        |work: &mut dyn FnMut() -> Result<(), voicelane_dataplane::routing::fib::FibError>| {
            let begin = tsc();
            let done = work();
            change.saturating_record(nanoseconds(tsc() - begin));
            done
        };
    // The generator's order is random.
    for (&(prefix, length), next_hop) in routes.iter().zip(next_hops()).take(CHANGES) {
        timed(&mut || fib.remove(prefix, length))?;
        timed(&mut || fib.insert(prefix, length, next_hop))?;
    }
    ensure!(fib.routes() == capacity, "routes are missing");

    // Of routes in another order than theirs, hosts anywhere below.
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut addresses = Vec::with_capacity(BURSTS * BURST);
    for _ in 0..BURSTS * BURST {
        if let Some(&(prefix, length)) = routes.choose(&mut random) {
            let hosts = u32::from(K::BITS - length);
            let host = random.random::<u128>() & !u128::MAX.checked_shl(hosts).unwrap_or(0);
            addresses.push(below(prefix, host));
        }
    }
    let mut next_hops = [NO_ROUTE; BURST];
    let begin = tsc();
    for burst in addresses.chunks(BURST) {
        fib.lookup(burst, &mut next_hops);
        ensure!(
            !black_box(&next_hops).contains(&NO_ROUTE),
            "an address has lost its route"
        );
    }
    let ticks = tsc() - begin;
    #[allow(clippy::cast_precision_loss, reason = "counts of seconds")]
    let of_each = |whole: u64| whole as f64 / addresses.len() as f64;
    #[allow(clippy::cast_precision_loss, reason = "nanoseconds of seconds")]
    let load_seconds = load as f64 / 1e9;
    Ok(Table {
        family: K::FAMILY,
        routes: routes.len(),
        bytes: Fib::<K>::bytes(capacity),
        load_seconds,
        change: Quantiles::of(&change),
        lookup_cycles: of_each(ticks),
        lookup_ns: of_each(nanoseconds(ticks)),
    })
}

impl Figures {
    /// The page for people.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "The Internet's routes in the router's tables, each alone, without packets beside.\n{}.\n\n\
             | family | routes | MiB | loaded in | a change, µs: p50 | p99 | max | a lookup, cycles |\n\
             |---|---|---|---|---|---|---|---|\n",
            self.machine
        );
        for table in &self.tables {
            let change = &table.change;
            text += &format!(
                "| {} | {} | {} | {:.2} s | {:.2} | {:.2} | {:.0} | {:.0} |\n",
                table.family,
                table.routes,
                table.bytes >> 20,
                table.load_seconds,
                change.p50_us,
                change.p99_us,
                change.max_us,
                table.lookup_cycles
            );
        }
        text
    }
}

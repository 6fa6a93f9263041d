use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use rand::{SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};
use voicelane_bench::flows::IpVersion;
use voicelane_dataplane::{
    device::BURST,
    diffserv::Dscp,
    session::{FlowKey, FlowKey4, FlowKey6, Origin, Policer, SessionTable, Slot},
    units::{BitRate, MacAddress, Ticks},
};
use voicelane_micro::{Load, SIZES, clock, frame};

/// Flows that are put in and taken out between two looks at the clock.
const CHANGED: u32 = 1_000;

/// The key of flow `i`, as parse reads it.
fn key4(i: u32) -> FlowKey4 {
    let frame = frame(IpVersion::V4, Load::Hit, i, MacAddress([0; 6]));
    let (addresses, ports) = (frame[26..34].try_into(), frame[34..38].try_into());
    FlowKey4::from_wire(&addresses.expect("8"), &ports.expect("4"), 17)
}

fn key6(i: u32) -> FlowKey6 {
    let frame = frame(IpVersion::V6, Load::Hit, i, MacAddress([0; 6]));
    let (addresses, ports) = (frame[22..54].try_into(), frame[54..58].try_into());
    FlowKey6::from_wire(&addresses.expect("32"), &ports.expect("4"), 17)
}

fn policer() -> Policer {
    Policer {
        rate: BitRate::from_bps(100_000).expect("a rate"),
        burst_bytes: 1_000,
    }
}

fn install<K: FlowKey>(table: &mut SessionTable<K>, key: K) {
    let installed = table.install(key, Dscp::EF, policer(), Ticks(0));
    installed.expect("there is room");
}

/// A table with so many flows and room for a few more.
fn table<K: FlowKey>(flows: u32, key: fn(u32) -> K) -> SessionTable<K> {
    let capacity = (flows + CHANGED) as usize;
    let mut table = SessionTable::new(capacity, clock(), rand::random(), crate::memory());
    for i in 0..flows {
        install(&mut table, key(i));
    }
    table
}

/// Bursts of keys of so many flows from the first on, in no order.
fn bursts<K: FlowKey>(first: u32, flows: u32, key: fn(u32) -> K) -> Vec<[K; BURST]> {
    let mut keys: Vec<_> = (first..first + flows).map(key).collect();
    keys.shuffle(&mut SmallRng::seed_from_u64(7));
    keys.as_chunks().0.to_vec()
}

/// A burst's flows are found, or not.
pub(crate) fn lookup(criterion: &mut Criterion) {
    lookup_of(criterion, "lookup/ipv4", key4);
    lookup_of(criterion, "lookup/ipv6", key6);
}

fn lookup_of<K: FlowKey>(criterion: &mut Criterion, name: &str, key: fn(u32) -> K) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(BURST as u64));
    for flows in SIZES {
        for hit in [true, false] {
            let mut made = None;
            let id = BenchmarkId::new(if hit { "hit" } else { "miss" }, flows);
            group.bench_function(id, |bencher| {
                let (table, bursts) = made.get_or_insert_with(|| {
                    let first = if hit { 0 } else { flows };
                    (table(flows, key), bursts(first, flows, key))
                });
                let mut bursts = bursts.iter().cycle();
                let mut slots = [Slot::default(); BURST];
                let origins = [Origin::default(); BURST];
                bencher.iter(|| {
                    let burst = bursts.next().expect("there are bursts");
                    let found = table.find_burst(burst, u64::MAX, &origins, &mut slots);
                    black_box(&slots);
                    assert_eq!(found.here, if hit { u64::MAX } else { 0 });
                });
            });
        }
    }
    group.finish();
}

/// Flows come, and go again, beside those that stay: elements are changes.
pub(crate) fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("insert and delete");
    group.throughput(Throughput::Elements(2 * u64::from(CHANGED)));
    for flows in SIZES {
        let mut made = None;
        group.bench_function(flows.to_string(), |bencher| {
            let (table, keys) = made.get_or_insert_with(|| {
                let keys: Vec<_> = (flows..flows + CHANGED * 100).map(key4).collect();
                (table(flows, key4), keys)
            });
            // Others each time: their buckets are in no cache.
            let mut coming = keys.chunks(CHANGED as usize).cycle();
            bencher.iter(|| {
                let keys = coming.next().expect("there are keys");
                for &key in keys {
                    install(table, key);
                }
                for key in keys {
                    table.remove(key).expect("it is there");
                }
            });
        });
    }
    group.finish();
}

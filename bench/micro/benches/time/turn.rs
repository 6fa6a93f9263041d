use criterion::{Criterion, Throughput};
use voicelane_bench::flows::IpVersion;
use voicelane_dataplane::device::BURST;
use voicelane_micro::{Case, Rig};

/// A turn of the worker's loop: a burst all the way from receive to send, the ports in memory
/// included.
pub(crate) fn turn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn");
    group.throughput(Throughput::Elements(BURST as u64));
    // IPv6 differs in what is measured above, and in nothing behind it.
    for case in Case::all().filter(|case| case.ip == IpVersion::V4 || case.flows < 10_000) {
        let mut rig = None;
        group.bench_function(case.to_string(), |bencher| {
            let rig = rig.get_or_insert_with(|| Rig::new(case, crate::memory()).expect("a worker"));
            bencher.iter(|| rig.turns(1));
        });
    }
    group.finish();
}

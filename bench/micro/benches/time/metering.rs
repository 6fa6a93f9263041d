use std::hint::black_box;

use criterion::{Criterion, Throughput};
use voicelane_dataplane::{
    device::BURST,
    diffserv::{
        BucketProfile, Colour, ColourMode, Meter, MeterKind, MeterProfile, MeterSpec, TokenBucket,
    },
    units::{BitRate, Ticks},
};
use voicelane_micro::clock;

const PACKET_BYTES: u32 = 200;
/// Between two bursts, at 2 GHz: each flow's packets come twice as fast as its rate allows.
const STEP: Ticks = Ticks(16_000);

fn rate(bps: u64) -> BitRate {
    BitRate::from_bps(bps).expect("a rate")
}

/// One packet of each of 64 flows.
pub(crate) fn meters(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("meter");
    group.throughput(Throughput::Elements(BURST as u64));
    let profile = BucketProfile::new(rate(100_000_000), 1_000, clock()).expect("a profile");
    let mut buckets = [TokenBucket::full(&profile, Ticks(0)); BURST];
    let mut now = Ticks(0);
    group.bench_function("policer", |bencher| {
        bencher.iter(|| {
            now = now + STEP;
            for bucket in &mut buckets {
                bucket.refill(&profile, now);
                black_box(bucket.conforms(&profile, black_box(PACKET_BYTES)));
            }
        });
    });
    let kinds = [
        MeterKind::SrTcm { ebs_bytes: 2_000 },
        MeterKind::TrTcm {
            pir: rate(150_000_000),
            pbs_bytes: 2_000,
        },
        MeterKind::Rfc4115 {
            eir: rate(50_000_000),
            ebs_bytes: 2_000,
        },
    ];
    for kind in kinds {
        let spec = MeterSpec {
            kind,
            cir: rate(100_000_000),
            cbs_bytes: 1_000,
            mode: ColourMode::Aware,
        };
        let profile = MeterProfile::new(&spec, clock()).expect("a profile");
        let mut meters = [Meter::full(&profile, Ticks(0)); BURST];
        let mut now = Ticks(0);
        group.bench_function(kind.name(), |bencher| {
            bencher.iter(|| {
                now = now + STEP;
                for meter in &mut meters {
                    let came_with = black_box(Colour::Green);
                    black_box(meter.colour(&profile, now, PACKET_BYTES, came_with));
                }
            });
        });
    }
    group.finish();
}

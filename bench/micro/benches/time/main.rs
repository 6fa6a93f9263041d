//! What steps of the packet's way take: `cargo bench -p voicelane-micro`, or with a part of a name
//! behind `--`. Each benchmark makes what it needs when it begins.

#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "criterion's macros; a benchmark that cannot be set up has nothing to say"
)]
#![forbid(unsafe_code)]

mod metering;
mod routes;
mod sessions;
mod turn;

use std::{sync::OnceLock, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use voicelane_dataplane::device::Allocator;
use voicelane_dpdk::{Eal, EalConfig, Hugepages};

/// For the largest tables, one after the other.
const MEMORY_MIB: u64 = 700;

/// DPDK's environment, which is there once a process.
fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let config = EalConfig {
            hugepages: Hugepages::Auto,
            memory_mib: MEMORY_MIB,
            ..EalConfig::default()
        };
        Eal::init(&config).expect("DPDK's environment")
    })
}

/// Tables are where the router has them: in hugepages, where enough are free.
fn memory() -> &'static dyn Allocator {
    eal().memory()
}

fn setup() -> Criterion {
    println!("hugepages: {}", eal().hugepages());
    Criterion::default()
        .without_plots()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1_500))
}

criterion_group! {
    name = time;
    config = setup();
    targets = sessions::lookup, sessions::change, metering::meters, routes::lookup, turn::turn
}
criterion_main!(time);

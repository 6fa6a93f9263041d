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

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use voicelane_dpdk::Hugepages;

/// For the largest tables, one after the other.
const MEMORY_MIB: u64 = 700;

/// Tables are where the router has them: in hugepages, where enough are free.
fn setup() -> Criterion {
    let eal = voicelane_micro::start_eal(Hugepages::Auto, MEMORY_MIB).expect("DPDK's environment");
    println!("hugepages: {}", eal.hugepages());
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

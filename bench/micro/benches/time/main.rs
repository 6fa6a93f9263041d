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

fn short() -> Criterion {
    Criterion::default()
        .without_plots()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1_500))
}

criterion_group! {
    name = time;
    config = short();
    targets = sessions::lookup, sessions::change, metering::meters, routes::lookup, turn::turn
}
criterion_main!(time);

//! What the data plane, the control plane and the benchmarks share. Depends on neither DPDK nor
//! tokio.

#![forbid(unsafe_code)]

mod causes;
mod rate;

pub use causes::with_causes;
pub use rate::{BitRate, RateError};

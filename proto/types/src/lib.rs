//! What the data plane, the control plane and the benchmarks share. Depends on neither DPDK nor
//! tokio.

#![forbid(unsafe_code)]

mod causes;
pub mod codec;
mod rate;

pub use causes::with_causes;
pub use codec::Codec;
pub use rate::{BitRate, RateError};

//! The flows that throughput is measured with. `voicelane-throughput` installs them as sessions;
//! whoever feeds it makes captures of them.

#![forbid(unsafe_code)]

pub mod flows;

//! The packet's way through Voicelane.
#![forbid(unsafe_code)]
pub mod diffserv;
pub mod session;
pub mod units;

//! How well each flow's RTP arrives, told from its headers alone: what was lost, came twice, late or out
//! of order, and how much its arrival varies.
//!
//! A [`Measurements`] has one place for each entry of a session table: 64 bytes that each packet
//! touches ([`stream`]), and 256 that only irregular
//! packets touch, and each 64th ([`detail`]).

mod blocks;
mod clock;
mod detail;
mod kind;
mod measurements;
mod payload;
mod reading;
mod rtcp;
mod stream;

pub use blocks::{Checkpoint, Mark};
pub(crate) use clock::Moment;
pub(crate) use measurements::{Measurements, RTP_LENGTH};
pub use payload::{Payload, PayloadTypes};
pub use reading::FlowQuality;
pub use rtcp::ReceiverReport;

#[cfg(test)]
mod tests;

//! Senders and receivers on real sockets.

mod bulk;
mod calls;
mod packet;
pub mod socket;
pub mod thread;

pub use self::{
    bulk::{Bulk, BulkFigures, Sink},
    calls::{Calls, Direction, Flow, phase},
    packet::{FRAME_NANOS, MediaPacket, PAYLOAD_BYTES, RTP_BYTES},
};

//! Senders and receivers on real sockets.

mod bulk;
mod calls;
mod packet;
pub(crate) mod socket;
pub(crate) mod thread;

pub(crate) use self::calls::phase;
pub use self::{
    bulk::{Bulk, BulkFigures, Sink},
    calls::{Calls, Direction, Flow},
    packet::{FRAME_NANOS, MediaPacket, PAYLOAD_BYTES, RTP_BYTES},
};

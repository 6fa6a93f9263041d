//! What the packet's way runs on: DPDK's ports (the crate `voicelane-dpdk`), or a simulated device with a
//! virtual clock.

mod sim;

use arrayvec::ArrayVec;

pub use voicelane_machine::{Allocator, HEAP, NoMemory};

pub use sim::{SimBuffer, SimDevice, SimPool};

use crate::units::{PortIndex, TickRate, Ticks};

/// The most packets that one receive or transmit call moves.
pub const BURST: usize = 64;

/// How long a frame is that came with a service tag (IEEE 802.1ad) on a port of net_af_packet, without
/// the tag, which looks like any other: its addresses are left. No other frame is as short.
pub const SERVICE_TAGGED_BYTES: usize = 12;

/// A frame that somebody owns; dropping it gives the buffer back.
pub trait Buffer: Send {
    /// From the destination MAC on, without FCS.
    fn bytes(&self) -> &[u8];
    /// The same, to be changed.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Whether the frame lies in one piece.
    fn is_contiguous(&self) -> bool;
    /// The TCI of a VLAN tag that the device took out of the frame (a NIC's offload); `None` when it
    /// took none.
    fn stripped_vlan(&self) -> Option<u16>;
    /// Takes bytes off the front. When there are fewer, changes nothing and returns `false`.
    fn shrink_front(&mut self, bytes: u16) -> bool;
    /// Adds bytes, whatever stands there, at the front. Without room, changes nothing and returns `false`.
    fn grow_front(&mut self, bytes: u16) -> bool;
    /// Takes bytes off the end, so that so many are left; a frame that is not longer stays as it is.
    fn truncate(&mut self, bytes: u16);
    /// Asks the CPU to fetch the frame's headers.
    fn prefetch(&self);
    /// Asks the CPU to fetch what says where the frame is and how long, as another core has written
    /// it.
    fn prefetch_handle(&self);
    /// Drops some of them together.
    fn free_all(buffers: &mut ArrayVec<Self, BURST>)
    where
        Self: Sized,
    {
        buffers.clear();
    }
}

/// A worker's receive and transmit queues on all ports, and its clock.
pub trait Device {
    /// What it receives and sends.
    type Buffer: Buffer;

    /// Adds what has arrived on a port to the burst, as far as there is room. Does not wait.
    fn receive(&mut self, port: PortIndex, into: &mut ArrayVec<Self::Buffer, BURST>);
    /// Sends from the front of the burst; leaves there what the port has no room for.
    fn transmit(&mut self, port: PortIndex, from: &mut ArrayVec<Self::Buffer, BURST>);
    /// Lets a port's queues rest, so that its device can be made again, or takes them up again.
    fn set_open(&mut self, _port: PortIndex, _open: bool) {}
    /// The time, in ticks; does not go back.
    fn now(&self) -> Ticks;
    /// Ticks a second of [`now`](Self::now).
    fn tick_rate(&self) -> TickRate;
}

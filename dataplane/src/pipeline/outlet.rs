//! Where packets go from the stage `queue`.

use arrayvec::ArrayVec;

use crate::{
    device::BURST,
    diffserv::{Dscp, Phb},
    packet_mask::PacketMask,
    stats::Drops,
    units::{InterfaceIndex, PortIndex, Ticks},
};

/// What packets have in common that came together, are equally long and go to one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunKey {
    /// When their burst came in.
    pub(crate) since: Ticks,
    /// In a ring: which of the scheduling core's own ports.
    pub(crate) egress: PortIndex,
    pub(crate) phb: Phb,
    pub(crate) dscp: Dscp,
    /// How long each frame is, without FCS.
    pub(crate) frame_bytes: u16,
    /// How much of that is the tag that it leaves with.
    pub(crate) tag_bytes: u8,
    /// Where they came in, and are counted if their queue refuses them; `None` when they are the
    /// kernel's.
    pub(crate) ingress: Option<InterfaceIndex>,
}

/// A packet on its way to another core.
#[derive(Debug)]
pub(crate) struct Departing<B> {
    pub(crate) buffer: B,
    pub(crate) run: RunKey,
}

/// Which packets of a run are let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    /// A bit for each, the first one's lowest.
    pub(crate) mask: PacketMask,
    /// How many packets there were.
    pub(crate) packets: usize,
    /// How many of the first go past their queue.
    pub(crate) passing: usize,
    /// Whether its queue is on this core, which then counts it.
    pub(crate) is_here: bool,
}

/// Takes the packets that are to be sent.
pub(crate) trait Outlet<B> {
    /// Decides which of so many packets, at most a burst, that have a run in common are let in; counts the
    /// others. [`enqueue`](Self::enqueue) must follow.
    fn admit(&mut self, run: &RunKey, packets: usize, drops: &mut Drops) -> Admission;
    /// Takes the packets of a run that were let in, or fewer of them, in their order.
    fn enqueue(&mut self, run: &RunKey, admission: Admission, buffers: impl Iterator<Item = B>);
    /// Takes a whole burst if its queue is empty and no limit is reached; returns whether it did.
    fn pass(&mut self, run: &RunKey, buffers: &mut ArrayVec<B, BURST>) -> bool;
    /// How many packets are in a run's queue; `None` if another core has it.
    fn waiting(&self, run: &RunKey) -> Option<usize>;
    /// Whether whatever comes now is most likely let in.
    fn is_open(&self) -> bool;
    /// The burst is over.
    fn flush(&mut self);
}

//! Where packets go from the stage `queue`.

use arrayvec::ArrayVec;
use voicelane_dpdk::BURST;

use crate::{
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
    /// Where they came in, and are counted if their queue refuses them; nothing when they are the
    /// kernel's.
    pub(crate) ingress: Option<InterfaceIndex>,
}

/// A packet on its way to another core.
#[derive(Debug)]
pub(crate) struct Departing<B> {
    pub(crate) buffer: B,
    pub(crate) run: RunKey,
}

/// Takes the packets that are to be sent.
pub(crate) trait Outlet<B> {
    /// Takes those that are let in of so many packets, at most a burst, that have a run in common: `hand`
    /// hears which, a bit for each, the first one's lowest, and gives them, or fewer. The others are
    /// counted.
    fn offer<I: Iterator<Item = B>>(
        &mut self,
        run: &RunKey,
        packets: usize,
        drops: &mut Drops,
        hand: impl FnOnce(PacketMask, &mut Drops) -> I,
    );
    /// Takes a whole burst, if nothing is in its way; says so.
    fn pass(&mut self, run: &RunKey, buffers: &mut ArrayVec<B, BURST>) -> bool;
    /// Whether whatever comes now is most likely let in.
    fn is_open(&self) -> bool;
    /// The burst is over.
    fn flush(&mut self);
}

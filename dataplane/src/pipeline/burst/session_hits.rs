use crate::{
    device::BURST,
    packet_mask::PacketMask,
    session::{FlowId, Slot},
};

/// The session's flow of each packet that has one, in its place.
#[derive(Debug)]
pub(crate) struct SessionHits {
    pub(crate) slots: [Slot; BURST],
    /// Of the packets whose slot is in the table of IPv4's flows.
    pub(crate) ipv4: PacketMask,
    /// Of those whose slot is in that of IPv6's.
    pub(crate) ipv6: PacketMask,
    /// Packets with a session's five-tuple that came in elsewhere, and so have none; each one's slot is
    /// that session's, in its family's table.
    pub(crate) spoofed: PacketMask,
    /// Packets with a number of their flow's RTP stream that came for the first time, as far as the flow is
    /// measured.
    pub(crate) numbered: PacketMask,
}

impl SessionHits {
    pub(super) fn new() -> Self {
        Self {
            slots: [Slot::default(); BURST],
            ipv4: 0,
            ipv6: 0,
            spoofed: 0,
            numbered: 0,
        }
    }

    /// Those that have one.
    #[inline]
    pub(crate) fn all(&self) -> PacketMask {
        self.ipv4 | self.ipv6
    }

    /// A packet has the five-tuple of a flow that comes in elsewhere.
    pub(crate) fn put_spoofed(&mut self, place: usize, flow: FlowId) {
        let (FlowId::V4(slot) | FlowId::V6(slot)) = flow;
        if let Some(at) = self.slots.get_mut(place) {
            *at = slot;
            self.spoofed |= 1 << place;
        }
    }

    pub(crate) fn put(&mut self, place: usize, flow: FlowId) {
        let (family, slot) = match flow {
            FlowId::V4(slot) => (&mut self.ipv4, slot),
            FlowId::V6(slot) => (&mut self.ipv6, slot),
        };
        if let Some(at) = self.slots.get_mut(place) {
            *at = slot;
            *family |= 1 << place;
        }
    }
}

use crate::{
    device::BURST,
    packet_mask::PacketMask,
    stats::{DropReason, PuntReason},
};

/// What becomes of a packet that is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop(DropReason),
    Punt(PuntReason),
}

/// What becomes of each packet.
#[derive(Debug)]
pub(crate) struct Verdicts {
    /// Those that are forwarded, as far as it has been decided.
    pub(crate) forwarded: PacketMask,
    /// Those that `parse` has found to be for the kernel, and that get a code point nevertheless.
    pub(crate) heard: PacketMask,
    verdicts: [Verdict; BURST],
}

impl Verdicts {
    pub(super) fn new() -> Self {
        Self {
            forwarded: 0,
            heard: 0,
            verdicts: [Verdict::Drop(DropReason::Runt); BURST],
        }
    }

    /// Has a packet dropped or punted in place of forwarded.
    #[inline]
    pub(crate) fn end(&mut self, place: usize, verdict: Verdict) {
        if let Some(at) = self.verdicts.get_mut(place) {
            *at = verdict;
            self.forwarded &= !(1 << place);
        }
    }

    /// Those whose code point is decided.
    #[inline]
    pub(crate) fn judged(&self) -> PacketMask {
        self.forwarded | self.heard
    }

    /// What becomes of a packet that is not among the forwarded.
    #[inline]
    pub(crate) fn verdict(&self, place: usize) -> Verdict {
        self.verdicts[place]
    }
}

use crate::diffserv::{ClassSettings, FEW, Phb, SHARE_FACTOR, Service, shared_packets};

/// The room that a port's queues share, all but those of strict priority: a queue may hold no more
/// packets than [`SHARE_FACTOR`] times the room that is left (Choudhury and Hahne, "Dynamic queue length
/// thresholds for shared-memory packet switches", IEEE/ACM Transactions on Networking 6(2), 1998). A queue
/// that is alone may have four parts in five, which is the longest one's limit; N queues that are full have
/// four parts in 4 N + 1 each, and one is free for who comes next. Of [`FEW`] packets none is kept.
#[derive(Debug)]
pub(super) struct SharedRoom {
    packets: usize,
    waiting: usize,
}

impl SharedRoom {
    pub(super) fn new(classes: &[ClassSettings; Phb::COUNT]) -> Self {
        let sharing = classes
            .iter()
            .filter(|class| class.service != Service::Strict);
        let longest = sharing.map(|class| class.limit_packets).max();
        Self {
            packets: shared_packets(longest.unwrap_or(0)),
            waiting: 0,
        }
    }

    /// How many packets any queue may hold.
    #[inline]
    pub(super) fn limit(&self) -> usize {
        self.bound().max(FEW)
    }

    /// How many more a queue may take in that has so many: each takes from the room of those after it.
    #[inline]
    pub(super) fn room(&self, queued: usize) -> usize {
        let more = self
            .bound()
            .saturating_sub(queued)
            .div_ceil(SHARE_FACTOR + 1);
        more.max(FEW.saturating_sub(queued))
    }

    #[inline]
    fn bound(&self) -> usize {
        SHARE_FACTOR.saturating_mul(self.packets.saturating_sub(self.waiting))
    }

    /// Packets have joined a queue.
    #[inline]
    pub(super) fn take(&mut self, packets: usize) {
        self.waiting += packets;
    }

    /// Packets have left one.
    #[inline]
    pub(super) fn give(&mut self, packets: usize) {
        self.waiting -= packets;
    }

    /// Checks what must hold between calls, with so many waiting.
    pub(super) fn invariants(&self, waiting: usize) {
        assert_eq!(self.waiting, waiting, "packets in shared room");
        assert!(
            waiting <= self.packets + FEW * Phb::COUNT,
            "more packets than there is room for"
        );
    }
}

//! What the packet's way counts. A worker alone writes its counters, plain numbers; whoever wants to
//! see them asks for a [`Report`](super::Report).

use hdrhistogram::Histogram;

use super::reasons::{DropReason, PuntClass, PuntReason};

/// One port's counters: what its device gave and took, of all its interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Their bytes, frames without FCS.
    pub rx_bytes: u64,
    /// Packets that the device took.
    pub tx_packets: u64,
    /// Their bytes, frames without FCS.
    pub tx_bytes: u64,
    /// Packets that were to leave while the link was lost.
    pub link_lost_packets: u64,
}

/// What is dropped, by [`DropReason`].
pub type Drops = [u64; DropReason::COUNT];

/// One interface's counters: what came in on it. What is of no VLAN of its port is the port's own
/// interface's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Their bytes, frames without FCS, with the tag.
    pub rx_bytes: u64,
    /// Packets from the kernel twin of this interface, queued or dropped.
    pub twin_packets: u64,
    /// Those of them whose code point was taken away or changed: no session's, and not the router's own.
    pub twin_bleached_packets: u64,
    /// Packets received whose code point was taken away or changed, because neither a session nor a
    /// rule covers them and the interface's trust does not keep it.
    pub bleached_packets: u64,
    /// Packets received with the five-tuple of a session whose packets come in elsewhere.
    pub spoofed_packets: u64,
    /// Packets received that are fragments other than the first, and whose first one was of no session
    /// or has not come: without ports, so in no session.
    pub fragments: u64,
    /// Packets received here and dropped.
    pub drops: Drops,
    /// Packets received here and given to the kernel, by [`PuntReason`].
    pub punts: [u64; PuntReason::COUNT],
    /// Packets received here that the kernel was not given, as their share was used up or their queue
    /// full, by [`PuntClass`]; they are in `drops`, too.
    pub refused_punts: [u64; PuntClass::COUNT],
}

impl Default for InterfaceCounters {
    fn default() -> Self {
        Self {
            rx_packets: 0,
            rx_bytes: 0,
            twin_packets: 0,
            twin_bleached_packets: 0,
            bleached_packets: 0,
            spoofed_packets: 0,
            fragments: 0,
            drops: [0; DropReason::COUNT],
            punts: [0; PuntReason::COUNT],
            refused_punts: [0; PuntClass::COUNT],
        }
    }
}

/// One queue's counters.
#[derive(Clone, Debug)]
pub struct QueueCounters {
    /// Packets taken in.
    pub enqueued_packets: u64,
    /// Packets handed to the device.
    pub sent_packets: u64,
    /// Their bytes on the wire.
    pub sent_wire_bytes: u64,
    /// Packets that found the queue full, by drop precedence.
    pub full_packets: [u64; 3],
    /// Packets that random early detection dropped, by drop precedence.
    pub early_packets: [u64; 3],
    /// Packets that controlled delay dropped on their way out.
    pub delay_dropped_packets: u64,
    /// Packets that controlled delay marked in place of that (RFC 3168: congestion experienced).
    pub ecn_marked_packets: u64,
    /// Packets waiting.
    pub depth_packets: u64,
    /// How long packets waited, in nanoseconds, from their burst's arrival on.
    pub delay_ns: Histogram<u64>,
}

/// The longest delay that the histogram tells apart.
const LONGEST_DELAY_NS: u64 = 60_000_000_000;

impl Default for QueueCounters {
    fn default() -> Self {
        // Two significant digits: 1 % resolution in 30 kB. The bounds are constants that fit.
        #[allow(clippy::expect_used, reason = "constant arguments")]
        let delay_ns = Histogram::new_with_bounds(1, LONGEST_DELAY_NS, 2).expect("valid bounds");
        Self {
            enqueued_packets: 0,
            sent_packets: 0,
            sent_wire_bytes: 0,
            full_packets: [0; 3],
            early_packets: [0; 3],
            delay_dropped_packets: 0,
            ecn_marked_packets: 0,
            depth_packets: 0,
            delay_ns,
        }
    }
}

impl QueueCounters {
    /// Packets that were not let into the queue.
    #[must_use]
    pub fn refused_packets(&self) -> u64 {
        self.full_packets.iter().sum::<u64>() + self.early_packets.iter().sum::<u64>()
    }

    /// Packets that were for this queue and will not be sent.
    #[must_use]
    pub fn dropped_packets(&self) -> u64 {
        self.refused_packets() + self.delay_dropped_packets
    }

    /// Takes over the other's numbers, without allocating.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.enqueued_packets = other.enqueued_packets;
        self.sent_packets = other.sent_packets;
        self.sent_wire_bytes = other.sent_wire_bytes;
        self.full_packets = other.full_packets;
        self.early_packets = other.early_packets;
        self.delay_dropped_packets = other.delay_dropped_packets;
        self.ecn_marked_packets = other.ecn_marked_packets;
        self.depth_packets = other.depth_packets;
        if self.delay_ns.len() != other.delay_ns.len() {
            self.delay_ns.reset();
            // Both have the same bounds, so this cannot fail.
            let _ = self.delay_ns.add(&other.delay_ns);
        }
    }
}

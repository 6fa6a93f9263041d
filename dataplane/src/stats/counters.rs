//! What the packet's way counts. A worker alone writes its counters, plain numbers; the control side
//! asks for a [`Report`](super::Report).

use hdrhistogram::Histogram;

use super::{
    Table as _, counters,
    reasons::{DropPrecedence, DropReason, PuntClass, PuntReason},
};
use crate::diffserv::Phb;

counters! {
    /// One port's counters: what its device gave and took, of all its interfaces.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    PortCounters of "port" {
        /// Packets received, of all interfaces.
        rx_packets: [Packets],
        /// Bytes received, of all interfaces, frames without FCS.
        rx_bytes: [Bytes],
        /// Packets that the device took.
        tx_packets: [Packets],
        /// Bytes that the device took, frames without FCS.
        tx_bytes: [Bytes],
        /// Packets that were to leave while the link was down, dropped.
        link_lost_packets: [Packets],
    }
}

/// Dropped packets, by [`DropReason`].
pub type Drops = [u64; DropReason::COUNT];

counters! {
    /// One interface's counters: what came in on it. Frames of none of the port's VLANs count on the
    /// port's own interface.
    #[derive(Clone, Debug, PartialEq, Eq)]
    InterfaceCounters of "interface" {
        /// Packets received.
        rx_packets: [Packets],
        /// Bytes received, frames without FCS, with the tag.
        rx_bytes: [Bytes],
        /// Packets received here and queued as telephony: EF and VOICE-ADMIT.
        telephony_packets: [Packets],
        /// Bytes of those, frames without FCS and tag.
        telephony_bytes: [Bytes],
        /// Packets from the kernel twin, queued or dropped.
        twin_packets: [Packets],
        /// Packets from the kernel twin whose code point was changed: neither a session's nor the
        /// router's own.
        twin_bleached_packets: [Packets],
        /// Packets received whose code point was changed, because neither a session nor a rule covers
        /// them and the interface's trust does not keep it.
        bleached_packets: [Packets],
        /// Packets received with the five-tuple of a session whose packets come in elsewhere.
        spoofed_packets: [Packets],
        /// Fragments other than the first whose first one was of no session or has not come: without
        /// ports, so in no session.
        fragments: [Events],
        /// Packets received here and dropped.
        drops: [Events by DropReason],
        /// Packets received here and given to the kernel.
        punts: [Events by PuntReason],
        /// Packets received here and kept from the kernel, as its share of their class was used up or
        /// its queue full; in drops, too.
        refused_punts: [Events by PuntClass],
    }
}

counters! {
    /// One queue's counters.
    #[derive(Clone, Debug)]
    QueueCounters of "queue" {
        /// Packets taken in.
        enqueued_packets: [Packets],
        /// Packets handed to the device.
        sent_packets: [Packets],
        /// Bytes handed to the device, as on the wire.
        sent_bytes: [Bytes],
        /// Packets that found the queue full.
        full_packets: [Packets by DropPrecedence],
        /// Packets that random early detection dropped.
        early_packets: [Packets by DropPrecedence],
        /// Packets that controlled delay dropped on their way out.
        delay_dropped_packets: [Packets],
        /// Packets that controlled delay marked in place of that (RFC 3168: congestion experienced).
        ecn_marked_packets: [Packets],
        /// Packets waiting.
        depth_packets: gauge [Packets],
    }
    with {
        /// How long packets waited, in nanoseconds, from their burst's arrival on.
        delay_ns: Histogram<u64> = empty_delays(),
    }
}

impl InterfaceCounters {
    /// Packets of one length were received here and queued.
    #[inline]
    pub(crate) fn queued(&mut self, phb: Phb, packets: u32, frame_bytes: u16) {
        if matches!(phb, Phb::Telephony | Phb::AdmittedTelephony) {
            self.telephony_packets += u64::from(packets);
            self.telephony_bytes += u64::from(packets) * u64::from(frame_bytes);
        }
    }
}

/// A sum of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many packets there were.
    pub packets: u64,
    /// Their length together, bytes at the IP layer.
    pub bytes: u64,
}

impl Count {
    #[inline]
    pub(crate) fn add(&mut self, ip_bytes: u32) {
        self.packets += 1;
        self.bytes += u64::from(ip_bytes);
    }

    /// Adds another core's.
    pub(super) fn add_count(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// The longest delay that the histogram tells apart.
const LONGEST_DELAY_NS: u64 = 60_000_000_000;

/// Two significant digits: 1 % resolution in 30 kB.
fn empty_delays() -> Histogram<u64> {
    #[allow(clippy::expect_used, reason = "constant bounds that fit")]
    Histogram::new_with_bounds(1, LONGEST_DELAY_NS, 2).expect("valid bounds")
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
        self.copy_counts(other);
        if self.delay_ns.len() != other.delay_ns.len() {
            self.delay_ns.reset();
            // Both have the same bounds, so this cannot fail.
            let _ = self.delay_ns.add(&other.delay_ns);
        }
    }

    /// Adds another core's numbers.
    pub(super) fn add(&mut self, other: &Self) {
        self.add_counts(other);
        if !other.delay_ns.is_empty() {
            // Both have the same bounds, so this cannot fail.
            let _ = self.delay_ns.add(&other.delay_ns);
        }
    }
}

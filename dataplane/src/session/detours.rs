use std::sync::atomic::{AtomicU64, Ordering};

use super::{AnyKey, FlowKey};
use crate::{
    diffserv::Dscp,
    units::{TickRate, Ticks},
};

/// Places of the table; a power of two.
const PLACES: usize = 4096;
/// For how long a packet may be with the kernel: it searches for a neighbour three times, a second
/// each.
const LIFETIME_NS: u64 = 5_000_000_000;
/// Nanoseconds of a unit of an entry's time, as a shift: about a millisecond.
const UNIT_SHIFT: u32 = 20;
/// An entry's time has so many bits.
const TIME_MASK: u32 = 0x00ff_ffff;

/// Packets that the data plane has metered and marked, and that went to the kernel to be sent on, as
/// their neighbour was not known: each may come back with its code point, once.
///
/// Counts packets by five-tuple and code point, so whoever sends the same from an interface that only
/// the kernel has gets no more priority than was metered. One table for all workers, of fixed size: a
/// newer flow takes the place of another, whose packets then come back as the kernel's trust says.
#[derive(Debug)]
pub struct Detours {
    entries: Box<[AtomicU64]>,
    seed: [u64; 4],
    clock: TickRate,
}

/// A flow's packets that are with the kernel: tag, time of the last one, how many.
#[derive(Clone, Copy)]
struct Entry {
    tag: u32,
    left: u32,
    packets: u8,
}

impl Entry {
    #[allow(clippy::cast_possible_truncation, reason = "its fields, bit by bit")]
    fn unpack(entry: u64) -> Self {
        Self {
            tag: (entry >> 32) as u32,
            left: (entry >> 8) as u32 & TIME_MASK,
            packets: entry as u8,
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.tag) << 32 | u64::from(self.left) << 8 | u64::from(self.packets)
    }

    fn is(self, tag: u32, now: u32) -> bool {
        let age = now.wrapping_sub(self.left) & TIME_MASK;
        self.tag == tag && u64::from(age) <= LIFETIME_NS >> UNIT_SHIFT
    }
}

impl Detours {
    /// With none; for workers with this clock.
    #[must_use]
    pub fn new(clock: TickRate, seed: [u64; 4]) -> Self {
        Self {
            entries: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            seed,
            clock,
        }
    }

    /// A packet goes to the kernel with a code point.
    pub(crate) fn leave(&self, flow: &AnyKey, dscp: Dscp, now: Ticks) {
        let (at, tag, now) = self.place(flow, dscp, now);
        let change = |entry| {
            let entry = Entry::unpack(entry);
            let before = if entry.is(tag, now) { entry.packets } else { 0 };
            let packets = before.saturating_add(1);
            let left = now;
            Some(Entry { tag, left, packets }.pack())
        };
        // It always gives an entry.
        let _ = self.entries[at].fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    /// Whether a packet that the kernel sends is one that went there, with this code point.
    pub(crate) fn returns(&self, flow: &AnyKey, dscp: Dscp, now: Ticks) -> bool {
        let (at, tag, now) = self.place(flow, dscp, now);
        let change = |entry| {
            let entry = Entry::unpack(entry);
            let packets = entry.packets.checked_sub(1)?;
            let one_less = Entry { packets, ..entry };
            entry.is(tag, now).then(|| one_less.pack())
        };
        let change = self.entries[at].fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        change.is_ok()
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "parts of a hash and of a time"
    )]
    fn place(&self, flow: &AnyKey, dscp: Dscp, now: Ticks) -> (usize, u32, u32) {
        /// Odd, so that code points differ in every bit.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let hash = match flow {
            AnyKey::V4(key) => key.hash(&self.seed),
            AnyKey::V6(key) => key.hash(&self.seed),
        };
        let hash = hash ^ u64::from(dscp.number()).wrapping_mul(SPREAD);
        let units = self.clock.nanoseconds(now) >> UNIT_SHIFT;
        let time = units as u32 & TIME_MASK;
        (hash as usize % PLACES, (hash >> 32) as u32, time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::FlowKey4;

    fn flow(port: u8) -> AnyKey {
        let ports = [0, port, 0, port];
        AnyKey::V4(FlowKey4::from_wire(&[10, 1, 0, 5, 10, 2, 0, 7], &ports, 17))
    }

    #[test]
    fn as_many_come_back_as_went() {
        let detours = Detours::new(TickRate::from_hz(1_000_000_000), [1, 2, 3, 4]);
        let (ef, later) = (Dscp::EF, Ticks(3_000_000_000));
        assert!(!detours.returns(&flow(1), ef, Ticks(0)));
        for _ in 0..3 {
            detours.leave(&flow(1), ef, Ticks(0));
        }
        assert!(!detours.returns(&flow(2), ef, later), "another flow");
        assert!(
            !detours.returns(&flow(1), Dscp::CS6, later),
            "not so marked"
        );
        let returned = (0..9).filter(|_| detours.returns(&flow(1), ef, later));
        assert_eq!(returned.count(), 3);
        detours.leave(&flow(1), ef, Ticks(0));
        let too_late = Ticks(LIFETIME_NS + 10_000_000);
        assert!(!detours.returns(&flow(1), ef, too_late));
        // What never came back is not added to.
        detours.leave(&flow(1), ef, too_late);
        assert!(detours.returns(&flow(1), ef, too_late));
        assert!(!detours.returns(&flow(1), ef, too_late));
    }
}

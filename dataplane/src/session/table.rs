mod bucket;
mod slot;

use std::{collections::HashSet, mem};

use thiserror::Error;
use voicelane_machine::{Allocator, Slab, equal_bytes};

use bucket::{Bucket, WAYS, Ways, tag};
pub use slot::Slot;

use super::{
    Arrival, FlowCounters, FlowKey, Origin, Passed, Terms, WaitingFull,
    entry::{Flow, Refused},
    meters::Meters,
};
use crate::{
    device::BURST,
    diffserv::{BucketError, Dscp, MeterError},
    packet_mask::{PacketMask, for_each_packet, packets_in},
    units::{InterfaceIndex, TickRate, Ticks},
};

/// How many entries an insertion looks at for one that can move.
const SEARCH: usize = 256;

/// What of a burst has an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Packets that came in where their entry says.
    pub here: PacketMask,
    /// Those that came in elsewhere.
    pub elsewhere: PacketMask,
}

/// Every entry is taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the session table is full ({capacity} entries)")]
pub struct TableFull {
    /// How many entries there are.
    pub capacity: usize,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Entry<K> {
    key: K,
    flow: Flow,
}

/// The table of flows by exact five-tuple.
///
/// A key has two buckets of eight ways (cuckoo hashing with partial keys: Fan, Andersen, Kaminsky,
/// MemC3, NSDI 2013); the second is found from the first and the tag, so entries move between them
/// without being read. The hash is seeded at random for each table. Buckets are at most half full,
/// so that an insertion hardly ever has to move anything, and its search is bounded.
pub struct SessionTable<K: Copy> {
    seed: [u64; 4],
    clock: TickRate,
    buckets: Slab<Bucket>,
    entries: Slab<Entry<K>>,
    /// What was not let go on of each entry's flow, by slot.
    refused: Vec<Refused>,
    meters: Meters,
    free: Vec<u32>,
    capacity: usize,
}

impl<K: FlowKey> SessionTable<K> {
    /// An empty table for `capacity` flows. Takes [`Self::bytes`] from the allocator, or from the heap
    /// when it has not as much, and 48 bytes a flow from the heap for what misbehaves.
    #[must_use]
    pub fn new(
        capacity: usize,
        clock: TickRate,
        seed: [u64; 4],
        memory: &'static dyn Allocator,
    ) -> Self {
        let capacity = Self::possible(capacity);
        Self {
            seed,
            clock,
            buckets: Slab::filled(
                "buckets",
                Self::buckets(capacity),
                Bucket::default(),
                memory,
            ),
            entries: Slab::with_capacity("sessions", capacity, memory),
            refused: Vec::with_capacity(capacity),
            meters: Meters::new(capacity),
            free: Vec::new(),
            capacity,
        }
    }

    fn possible(capacity: usize) -> usize {
        capacity.clamp(1, 1 << 31)
    }

    fn buckets(capacity: usize) -> usize {
        (capacity * 2).div_ceil(WAYS).next_power_of_two().max(2)
    }

    /// What a table for `capacity` flows takes of the allocator's memory: an entry of 64 bytes a flow of IPv4,
    /// of 128 of IPv6, and 16 to 32 bytes of buckets.
    #[must_use]
    pub fn bytes(capacity: usize) -> usize {
        let capacity = Self::possible(capacity);
        capacity * size_of::<Entry<K>>() + Self::buckets(capacity) * size_of::<Bucket>()
    }

    /// How many flows it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn clock(&self) -> TickRate {
        self.clock
    }

    /// How many flows it can have.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The entry of the key's flow, whatever its origin.
    #[must_use]
    pub fn find(&self, key: &K) -> Option<Slot> {
        self.find_hashed(key, key.flow().hash(&self.seed))
    }

    /// The entries of a burst of keys without origin, each with the origin of its packet: of those whose
    /// bits are in `which`, says which ones are there, and writes each one's slot into its place; of
    /// others anything. Goes over the burst several
    /// times, so that each miss of the cache is under way while the others are started. Has no branch
    /// that depends on whether a key is there: packets with and without sessions come as they like,
    /// and no predictor could tell.
    #[inline]
    pub fn find_burst(
        &self,
        keys: &[K; BURST],
        which: PacketMask,
        origins: &[Origin; BURST],
        slots: &mut [Slot; BURST],
    ) -> Found {
        let mut hashes = [0; BURST];
        for_each_packet(which, |place| {
            let hash = keys[place].hash(&self.seed);
            hashes[place] = hash;
            self.buckets.prefetch(self.first(hash));
        });
        let mut ways = [0; BURST];
        for_each_packet(which, |place| {
            let bucket = &self.buckets[self.first(hashes[place])];
            let way = bucket.matches(tag(hashes[place])).first();
            ways[place] = way;
            slots[place] = Slot(bucket.slots[usize::from(way)]);
            self.entries.prefetch(slots[place].index());
        });
        let candidates = which & !equal_bytes(&ways, Ways::NONE);
        let (mut found, mut further) = (candidates, 0);
        for_each_packet(candidates, |place| {
            let entry = self.entries.get(slots[place].index());
            let key = keys[place].with_origin(origins[place]);
            if entry.is_none_or(|entry| entry.key != key) {
                found &= !(1 << place);
                further |= 1 << place;
            }
        });
        for place in packets_in(which & !candidates) {
            let first = self.first(hashes[place]);
            if self.buckets[first].displaced != 0 {
                further |= 1 << place;
            }
        }
        let mut elsewhere = 0;
        for place in packets_in(further) {
            if let Some((slot, here)) =
                self.find_further(&keys[place], hashes[place], origins[place])
            {
                slots[place] = slot;
                found |= PacketMask::from(here) << place;
                elsewhere |= PacketMask::from(!here) << place;
            }
        }
        Found {
            here: found,
            elsewhere,
        }
    }

    /// The key's entry, where the first candidate is not it, or not from this origin; and whether it is.
    #[cold]
    fn find_further(&self, key: &K, hash: u64, origin: Origin) -> Option<(Slot, bool)> {
        let slot = self.find_hashed(key, hash)?;
        Some((slot, self.comes_from(slot, origin)))
    }

    /// An entry's key, without origin.
    pub(crate) fn key(&self, slot: Slot) -> K {
        self.entries[slot.index()].key.flow()
    }

    /// Whether an entry's packets come from an origin.
    pub(crate) fn comes_from(&self, slot: Slot, origin: Origin) -> bool {
        self.entries[slot.index()].key.origin().covers(origin)
    }

    /// Counts a packet with the entry's five-tuple that came in elsewhere.
    pub(crate) fn spoofed(&mut self, slot: Slot, on: InterfaceIndex) {
        let refused = &mut self.refused[slot.index()];
        refused.spoofed_packets += 1;
        refused.spoofed_on = Some(on);
    }

    fn find_hashed(&self, key: &K, hash: u64) -> Option<Slot> {
        let (first, tag) = (self.first(hash), tag(hash));
        let bucket = &self.buckets[first];
        let found = self.find_in(bucket, tag, key);
        if found.is_some() || bucket.displaced == 0 {
            return found;
        }
        self.find_in(&self.buckets[self.other(first, tag)], tag, key)
    }

    fn find_in(&self, bucket: &Bucket, tag: u16, key: &K) -> Option<Slot> {
        for way in bucket.matches(tag) {
            let slot = bucket.slots[way];
            if let Some(entry) = self.entries.get(slot as usize)
                && entry.key.flow() == key.flow()
            {
                return Some(Slot(slot));
            }
        }
        None
    }

    /// Adds a flow with the key's origin, or gives the flow that is there that and new terms; says which
    /// entry it has and whether it is new.
    pub fn install(
        &mut self,
        key: K,
        dscp: Dscp,
        terms: impl Into<Terms>,
        now: Ticks,
    ) -> Result<(Slot, bool), InsertError> {
        let terms = terms.into();
        terms.check(self.clock)?;
        let hash = key.flow().hash(&self.seed);
        if let Some(slot) = self.find_hashed(&key, hash) {
            let policed = self.refused[slot.index()].policed;
            let entry = &mut self.entries[slot.index()];
            entry.key = key;
            let (clock, meters) = (self.clock, &mut self.meters);
            entry.flow.modify(dscp, &terms, clock, policed, meters);
            return Ok((slot, false));
        }
        let full = TableFull {
            capacity: self.capacity,
        };
        if self.len() >= self.capacity {
            return Err(full.into());
        }
        let tag = tag(hash);
        let (bucket, way) = self.make_room(self.first(hash), tag).ok_or(full)?;
        let entry = Entry {
            key,
            flow: Flow::new(dscp, &terms, self.clock, now, &mut self.meters),
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.entries[slot as usize] = entry;
            self.refused[slot as usize] = Refused::default();
            slot
        } else {
            let slot = u32::try_from(self.entries.len()).map_err(|_| full)?;
            if !self.entries.push(entry) {
                return Err(full.into());
            }
            self.refused.push(Refused::default());
            slot
        };
        self.buckets[bucket].tags[way] = tag;
        self.buckets[bucket].slots[way] = slot;
        let first = self.first(hash);
        self.buckets[first].displaced += u32::from(bucket != first);
        Ok((Slot(slot), true))
    }

    /// Removes a flow; says whether it was there, with what it had counted.
    pub fn remove(&mut self, key: &K) -> Option<FlowCounters> {
        let hash = key.flow().hash(&self.seed);
        let slot = self.find_hashed(key, hash)?;
        let tag = tag(hash);
        let first = self.first(hash);
        for index in [first, self.other(first, tag)] {
            let bucket = &mut self.buckets[index];
            let way = (0..WAYS).find(|&way| bucket.tags[way] == tag && bucket.slots[way] == slot.0);
            if let Some(way) = way {
                bucket.tags[way] = 0;
                self.buckets[first].displaced -= u32::from(index != first);
                let counters = self.counters(slot);
                self.entries[slot.index()].flow.release(&mut self.meters);
                self.free.push(slot.0);
                return Some(counters);
            }
        }
        None
    }

    /// Meters a packet of a flow: what it gets; `None` if it is to be dropped.
    #[inline(always)]
    pub fn meter(&mut self, slot: Slot, packet: &Arrival) -> Option<Passed> {
        let flow = &mut self.entries[slot.index()].flow;
        let passed = flow.meter(self.clock, packet, &mut self.meters);
        if passed.is_none() {
            self.refused[slot.index()].policed.add(packet.ip_bytes);
        }
        passed
    }

    /// Says where the flow's packet went that has been metered last. All of a flow's packets have one
    /// destination, so the next one goes there, too, unless a route changes.
    pub fn remember_next_hop(&mut self, slot: Slot, next_hop: u16) {
        if let Some(entry) = self.entries.get_mut(slot.index()) {
            entry.flow.remember_next_hop(next_hop);
        }
    }

    /// What an entry has counted.
    #[must_use]
    pub fn counters(&self, slot: Slot) -> FlowCounters {
        self.entries[slot.index()]
            .flow
            .counters(&self.refused[slot.index()], &self.meters)
    }

    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "masked to the number of buckets"
    )]
    fn first(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    /// The other one of an entry's two buckets: its own inverse.
    #[inline]
    fn other(&self, bucket: usize, tag: u16) -> usize {
        // An odd multiple of the tag, which is odd, so that other(b) is never b in a table of two buckets or more.
        (bucket ^ usize::from(tag).wrapping_mul(0x5bd1_e995)) & (self.buckets.len() - 1)
    }

    /// An empty place in one of a key's buckets. Where both are full, the nearest chain of moves
    /// that ends in an empty place is found first and then made from its end, so that a failure
    /// changes nothing.
    fn make_room(&mut self, first: usize, tag: u16) -> Option<(usize, usize)> {
        struct Step {
            bucket: usize,
            from: Option<(usize, usize)>, // step and way whose entry would move here
        }
        let mut steps = vec![
            Step {
                bucket: first,
                from: None,
            },
            Step {
                bucket: self.other(first, tag),
                from: None,
            },
        ];
        let mut next = 0;
        while next < steps.len() {
            let bucket = steps[next].bucket;
            if let Some(mut way) = self.buckets[bucket].tags.iter().position(|&tag| tag == 0) {
                let mut step = next;
                while let Some((before, before_way)) = steps[step].from {
                    let (to, from) = (steps[step].bucket, steps[before].bucket);
                    self.move_entry((from, before_way), (to, way));
                    (step, way) = (before, before_way);
                }
                return Some((steps[step].bucket, way));
            }
            for way in 0..WAYS {
                if steps.len() >= SEARCH {
                    break;
                }
                let other = self.other(bucket, self.buckets[bucket].tags[way]);
                // A bucket twice in one chain would move an entry that has already moved.
                if steps.iter().all(|step| step.bucket != other) {
                    steps.push(Step {
                        bucket: other,
                        from: Some((next, way)),
                    });
                }
            }
            next += 1;
        }
        None
    }

    /// Moves an entry from one of its buckets to an empty place in the other.
    fn move_entry(&mut self, (from, from_way): (usize, usize), (to, to_way): (usize, usize)) {
        let tag = mem::take(&mut self.buckets[from].tags[from_way]);
        let slot = self.buckets[from].slots[from_way];
        self.buckets[to].tags[to_way] = tag;
        self.buckets[to].slots[to_way] = slot;
        let first = self.first(self.entries[slot as usize].key.flow().hash(&self.seed));
        if first == from {
            self.buckets[first].displaced += 1;
        } else {
            self.buckets[first].displaced -= 1;
        }
    }

    /// Checks what must hold between calls; walks the whole table.
    pub fn invariants(&self) {
        let mut seen = vec![false; self.entries.len()];
        let mut displaced = vec![0; self.buckets.len()];
        for (index, bucket) in self.buckets.iter().enumerate() {
            assert_eq!(bucket.slots[WAYS], 0, "nobody's slot in use");
            for (&stored, &slot) in bucket.tags.iter().zip(&bucket.slots) {
                if stored == 0 {
                    continue;
                }
                let slot = slot as usize;
                assert!(
                    !mem::replace(&mut seen[slot], true),
                    "an entry in two places"
                );
                let hash = self.entries[slot].key.flow().hash(&self.seed);
                assert_eq!(stored, tag(hash), "a wrong tag");
                let first = self.first(hash);
                assert!(
                    index == first || index == self.other(first, stored),
                    "a wrong bucket"
                );
                displaced[first] += u32::from(index != first);
            }
        }
        assert_eq!(
            seen.iter().filter(|&&seen| seen).count(),
            self.len(),
            "an entry is lost"
        );
        assert!(
            self.buckets
                .iter()
                .map(|bucket| bucket.displaced)
                .eq(displaced),
            "displaced"
        );
        assert!(
            self.free.iter().all(|&slot| !seen[slot as usize]),
            "a free entry in use"
        );
        let metered = (self.entries.iter().zip(&seen))
            .filter_map(|(entry, &seen)| entry.flow.meter_place().filter(|_| seen));
        let places: HashSet<u32> = metered.clone().collect();
        assert_eq!(places.len(), metered.count(), "two flows with one meter");
        assert_eq!(places.len(), self.meters.len(), "a meter is lost");
    }
}

/// Why a flow could not be added.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InsertError {
    /// No entry is free.
    #[error(transparent)]
    Full(#[from] TableFull),
    /// No further flow may wait for its source.
    #[error(transparent)]
    Waiting(#[from] WaitingFull),
    /// The terms cannot be metered.
    #[error(transparent)]
    Terms(#[from] BucketError),
    /// No meter can have these terms.
    #[error(transparent)]
    Meter(#[from] MeterError),
}

#[cfg(test)]
mod tests;

//! Prefixes that the worker does not have as they should be, for lack of room.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Included, Unbounded},
};

use ipnet::IpNet;

/// The most that are offered again at once, so that other changes are not held up.
const OFFERS: usize = 512;

/// A set of prefixes, which are offered again, in turn, when there may be room.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    prefixes: BTreeSet<IpNet>,
    /// Whether there may be room.
    room: bool,
    /// How many offers there were since there may be.
    offers: usize,
    /// The last one that was offered.
    last: Option<IpNet>,
}

impl Lacking {
    pub(super) fn len(&self) -> usize {
        self.prefixes.len()
    }

    pub(super) fn contains(&self, prefix: IpNet) -> bool {
        self.prefixes.contains(&prefix)
    }

    /// Whether it was not there before.
    pub(super) fn insert(&mut self, prefix: IpNet) -> bool {
        self.prefixes.insert(prefix)
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, prefix: IpNet) -> bool {
        self.prefixes.remove(&prefix)
    }

    /// The first one inside a prefix, behind all that are inside of `after`.
    pub(super) fn first_within(&self, prefix: IpNet, after: Option<IpNet>) -> Option<IpNet> {
        let host = |prefix: IpNet| IpNet::from(prefix.broadcast());
        // Prefixes are ordered by address, then length.
        let from = after.map_or(prefix, host);
        let mut inside = (self.prefixes).range((Excluded(from), Included(host(prefix))));
        inside.next().copied()
    }

    /// There may be room: each is worth an offer.
    pub(super) fn room(&mut self) {
        (self.room, self.offers) = (true, 0);
    }

    pub(super) fn no_room(&mut self) {
        self.room = false;
    }

    pub(super) fn has_offers(&self) -> bool {
        self.room && self.offers < self.prefixes.len()
    }

    /// The next ones to offer.
    pub(super) fn next(&mut self) -> Vec<IpNet> {
        if !self.has_offers() {
            return Vec::new();
        }
        let count = (self.prefixes.len() - self.offers).min(OFFERS);
        let behind = self.last.map_or(Unbounded, Excluded);
        let behind = self.prefixes.range((behind, Unbounded));
        let next: Vec<_> = behind.chain(&self.prefixes).take(count).copied().collect();
        self.offers += count;
        self.last = next.last().copied();
        next
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.prefixes.iter().copied()
    }
}

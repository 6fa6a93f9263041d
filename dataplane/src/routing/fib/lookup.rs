use std::hint::select_unpredictable;

use super::{Fib, Key, entry::Entry};
use crate::device::BURST;

impl<K: Key> Fib<K> {
    /// Next hops of a burst of addresses, each in the place of its address. Looks up as many as both
    /// slices hold.
    #[inline]
    pub fn lookup(&self, addresses: &[K], next_hops: &mut [u16]) {
        for (addresses, next_hops) in addresses.chunks(BURST).zip(next_hops.chunks_mut(BURST)) {
            self.lookup_burst(addresses, next_hops);
        }
    }

    /// All addresses go down a level before any goes down the next: so memory is waited for once a
    /// level, not once an address. As long as most have something below, each is taken down without
    /// asking whether it must. (The root with what is right below it as one level is fewer
    /// instructions, but each is then waited for: half as fast again with few IPv6 routes.)
    #[inline]
    fn lookup_burst(&self, addresses: &[K], next_hops: &mut [u16]) {
        let mut entries = [Entry(0); BURST];
        let all: &[u64] = self.nodes.entries();
        let Some(root) = self.nodes.root() else {
            return;
        };
        let mut below = 0;
        for (address, entry) in addresses.iter().zip(&mut entries) {
            *entry = Entry(root[usize::from(address.first())]).or(self.default);
            below += usize::from(entry.has_below());
        }
        while below * 2 > addresses.len() {
            below = 0;
            for (address, entry) in addresses.iter().zip(&mut entries) {
                *entry = self.go_down(all, *entry, address);
                below += usize::from(entry.has_below());
            }
        }
        if below > 0 {
            self.lookup_rest(addresses, &mut entries);
        }
        for (next_hop, entry) in next_hops.iter_mut().zip(&entries) {
            *next_hop = entry.hop();
        }
    }

    /// Goes on where there is something below.
    #[inline(never)]
    fn lookup_rest(&self, addresses: &[K], entries: &mut [Entry; BURST]) {
        let all: &[u64] = self.nodes.entries();
        let mut below = [0_u8; BURST];
        let mut count = 0;
        for (place, entry) in (0_u8..).zip(&*entries) {
            if let Some(below) = below.get_mut(count) {
                *below = place;
            }
            count += usize::from(entry.has_below());
        }
        while count > 0 {
            let mut left = 0;
            for read in 0..count {
                let place = below.get(read).copied().unwrap_or(0);
                let index = usize::from(place);
                let (Some(address), Some(entry)) = (addresses.get(index), entries.get_mut(index))
                else {
                    break;
                };
                *entry = self.go_down(all, *entry, address);
                if let Some(below) = below.get_mut(left) {
                    *below = place;
                }
                left += usize::from(entry.has_below());
            }
            count = left;
        }
    }

    /// What is below an entry for an address, which may be nothing, with the next hop that is known
    /// then.
    #[inline]
    fn go_down(&self, all: &[u64], mut entry: Entry, address: &K) -> Entry {
        if entry.compares() {
            entry = self.compare(entry, address);
        }
        let index = entry.first() + usize::from(address.byte(entry.above()));
        let below = Entry(all.get(index).copied().unwrap_or(0));
        below.or(entry.hop())
    }

    /// An entry that asks for no comparison any more: with nothing below where the address is another,
    /// or a leaf's.
    #[inline]
    fn compare(&self, entry: Entry, address: &K) -> Entry {
        let address = address.bits();
        if entry.is_leaf() {
            let leaf = self.leaves.at(entry.first());
            let covers = leaf.route.covers(address);
            let hop = select_unpredictable(covers, leaf.next_hop, entry.hop());
            Entry(u64::from(hop))
        } else {
            select_unpredictable(self.nodes.is_on_way(entry, address), entry, entry.ended())
        }
    }
}

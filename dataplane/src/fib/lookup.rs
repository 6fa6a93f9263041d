use voicelane_dpdk::BURST;

use super::{Fib, Key, nodes::Entry};

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
    /// asking whether it must.
    #[inline]
    fn lookup_burst(&self, addresses: &[K], next_hops: &mut [u16]) {
        let mut entries = [Entry(0); BURST];
        let root = self.nodes.root();
        let mut below = 0;
        for ((address, next_hop), entry) in addresses.iter().zip(&mut *next_hops).zip(&mut entries)
        {
            *entry = Entry(root.get(address.step(0)).copied().unwrap_or(0));
            *next_hop = entry.hop_or(self.default);
            below += usize::from(entry.has_child());
        }
        let mut level = 1;
        while below * 2 > addresses.len() {
            below = 0;
            for ((&address, next_hop), entry) in
                addresses.iter().zip(&mut *next_hops).zip(&mut entries)
            {
                *entry = self.go_down(*entry, address, level, next_hop);
                below += usize::from(entry.has_child());
            }
            level += 1;
        }
        if below > 0 {
            self.lookup_rest(level, addresses, next_hops, &mut entries);
        }
    }

    /// Goes on where there is something below, from a level on.
    #[inline(never)]
    fn lookup_rest(
        &self,
        mut level: u32,
        addresses: &[K],
        next_hops: &mut [u16],
        entries: &mut [Entry; BURST],
    ) {
        let mut below = [0_u8; BURST];
        let mut count = 0;
        for (place, entry) in (0_u8..).zip(&*entries) {
            if let Some(below) = below.get_mut(count) {
                *below = place;
            }
            count += usize::from(entry.has_child());
        }
        while count > 0 {
            let mut left = 0;
            for read in 0..count {
                let place = below.get(read).copied().unwrap_or(0);
                let index = usize::from(place);
                let (Some(&address), Some(next_hop), Some(entry)) = (
                    addresses.get(index),
                    next_hops.get_mut(index),
                    entries.get_mut(index),
                ) else {
                    break;
                };
                *entry = self.go_down(*entry, address, level, next_hop);
                if let Some(below) = below.get_mut(left) {
                    *below = place;
                }
                left += usize::from(entry.has_child());
            }
            count = left;
            level += 1;
        }
    }

    /// What is below an entry for an address, which may be nothing.
    #[inline]
    fn go_down(&self, entry: Entry, address: K, level: u32, next_hop: &mut u16) -> Entry {
        match entry.below() {
            Err(node) => {
                let entry = self.nodes.entry(node, address.step(level));
                *next_hop = entry.hop_or(*next_hop);
                entry
            }
            Ok(number) => {
                let leaf = self.leaves.leaf(number);
                if leaf.route.covers(address.bits()) {
                    *next_hop = leaf.next_hop;
                }
                Entry(0)
            }
        }
    }
}

//! A hash map that grows without ever being copied as a whole.

use std::hash::{BuildHasher as _, Hash, RandomState};

use hashbrown::HashTable;

/// How many small maps there are. At four million entries the growth of one copies a thousand.
const SHARDS: usize = 4_096;
/// The bits of a hash that choose one; a small map looks at the lowest and the highest.
const SHIFT: u32 = 32;
/// What a small map does not give back when it empties, entries.
const KEPT: usize = 8;

/// A hash map in many small ones.
#[derive(Debug)]
pub(super) struct Shards<K, V> {
    shards: Box<[HashTable<(K, V)>]>,
    hasher: RandomState,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl<K: Eq + Hash, V> Shards<K, V> {
    /// The keys, in no order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.shards.iter().flatten().map(|(key, _)| key)
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        let found = self.shards[index(hash)].find(hash, |(other, _)| other == key);
        found.map(|(_, value)| value)
    }

    /// Puts a value in place of whatever the key has.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let Self { shards, hasher } = self;
        let hash = hasher.hash_one(&key);
        let shard = &mut shards[index(hash)];
        match shard.find_mut(hash, |(other, _)| *other == key) {
            Some((_, old)) => *old = value,
            None => {
                shard.insert_unique(hash, (key, value), |(key, _)| hasher.hash_one(key));
            }
        }
    }

    /// Takes a key out if its value is such.
    pub(super) fn remove_if(&mut self, key: &K, is_such: impl Fn(&V) -> bool) {
        let Self { shards, hasher } = self;
        let hash = hasher.hash_one(key);
        let shard = &mut shards[index(hash)];
        let Ok(held) = shard.find_entry(hash, |(other, value)| other == key && is_such(value))
        else {
            return;
        };
        held.remove();
        // Half full then, so that the next few do not make it grow at once.
        if shard.capacity() > KEPT.max(shard.len() * 4) {
            shard.shrink_to(shard.len() * 2, |(key, _)| hasher.hash_one(key));
        }
    }
}

fn index(hash: u64) -> usize {
    usize::try_from(hash >> SHIFT).unwrap_or(usize::MAX) % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_map_that_gives_back_what_it_has_not() {
        let mut shards = Shards::default();
        for round in 0..2_u32 {
            for key in 0..100_000_u32 {
                shards.insert(key, key + round);
            }
        }
        assert_eq!(shards.keys().count(), 100_000);
        assert_eq!(shards.get(&7), Some(&8));
        shards.remove_if(&7, |value| *value == 7);
        assert_eq!(shards.get(&7), Some(&8));
        for key in 0..100_000 {
            shards.remove_if(&key, |_| true);
        }
        assert_eq!(shards.get(&7), None);
        let room: usize = shards.shards.iter().map(HashTable::capacity).sum();
        assert!(room <= SHARDS * KEPT, "{room}");
    }
}

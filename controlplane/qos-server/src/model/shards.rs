//! A hash map that grows without ever being copied as a whole.

use std::hash::{BuildHasher as _, Hash, RandomState};

use hashbrown::HashTable;

use super::work;

/// How many small maps there are. At four million entries the growth of one copies a thousand.
const SHARDS: usize = 4_096;
/// The bits of a hash that choose one; a small map looks at the lowest and the highest.
const SHIFT: u32 = 32;
/// What a small map does not give back when it empties, entries.
const KEPT: usize = 8;

/// A hash map in many small ones.
#[derive(Debug)]
pub(crate) struct Shards<K, V> {
    shards: Box<[HashTable<(K, V)>]>,
    hasher: RandomState,
    len: usize,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            hasher: RandomState::new(),
            len: 0,
        }
    }
}

impl<K: Eq + Hash, V> Shards<K, V> {
    /// How many keys.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A key's value.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        work::step();
        let hash = self.hasher.hash_one(key);
        let found = self.shards[index(hash)].find(hash, |(other, _)| other == key);
        found.map(|(_, value)| value)
    }

    /// A key's value, to change it.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        work::step();
        let hash = self.hasher.hash_one(key);
        let found = self.shards[index(hash)].find_mut(hash, |(other, _)| other == key);
        found.map(|(_, value)| value)
    }

    /// Adds a key that is not there.
    pub(crate) fn add(&mut self, key: K, value: V) {
        work::step();
        let Self {
            shards,
            hasher,
            len,
        } = self;
        *len += 1;
        let hash = hasher.hash_one(&key);
        shards[index(hash)].insert_unique(hash, (key, value), |(key, _)| hasher.hash_one(key));
    }

    /// Takes a key out.
    pub(crate) fn take(&mut self, key: &K) -> Option<V> {
        work::step();
        let Self {
            shards,
            hasher,
            len,
        } = self;
        let hash = hasher.hash_one(key);
        let shard = &mut shards[index(hash)];
        let ((_, value), _) = shard
            .find_entry(hash, |(other, _)| other == key)
            .ok()?
            .remove();
        *len -= 1;
        give_back(shard, hasher);
        Some(value)
    }
}

/// Shrinks a small map that is mostly empty.
fn give_back<K: Hash, V>(shard: &mut HashTable<(K, V)>, hasher: &RandomState) {
    // Half full then, so that the next few do not make it grow at once.
    if shard.capacity() > KEPT.max(shard.len() * 4) {
        shard.shrink_to(shard.len() * 2, |(key, _)| hasher.hash_one(key));
    }
}

impl<K: Eq + Hash, V: Clone + Eq> Shards<K, V> {
    /// The keys, in no order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.shards.iter().flatten().map(|(key, _)| key)
    }

    /// Gives a key a value, unless it has another: then tells that.
    pub(super) fn insert(&mut self, key: K, value: &V) -> Result<(), V> {
        work::step();
        let Self {
            shards,
            hasher,
            len,
        } = self;
        let hash = hasher.hash_one(&key);
        let shard = &mut shards[index(hash)];
        match shard.find(hash, |(other, _)| *other == key) {
            Some((_, there)) if there == value => Ok(()),
            Some((_, there)) => Err(there.clone()),
            None => {
                *len += 1;
                let entry = (key, value.clone());
                shard.insert_unique(hash, entry, |(key, _)| hasher.hash_one(key));
                Ok(())
            }
        }
    }

    /// Takes a key out if it has this value.
    pub(super) fn remove(&mut self, key: &K, value: &V) {
        work::step();
        let Self {
            shards,
            hasher,
            len,
        } = self;
        let hash = hasher.hash_one(key);
        let shard = &mut shards[index(hash)];
        let Ok(held) = shard.find_entry(hash, |entry| entry.0 == *key && entry.1 == *value) else {
            return;
        };
        held.remove();
        *len -= 1;
        give_back(shard, hasher);
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
        for _ in 0..2 {
            for key in 0..100_000_u32 {
                assert_eq!(shards.insert(key, &(key + 1)), Ok(()));
            }
        }
        assert_eq!(shards.keys().count(), 100_000);
        assert_eq!(shards.insert(7, &9), Err(8));
        shards.remove(&7, &9);
        assert_eq!(shards.keys().count(), 100_000);
        for key in 0..100_000 {
            shards.remove(&key, &(key + 1));
        }
        assert_eq!(shards.keys().count(), 0);
        let room: usize = shards.shards.iter().map(HashTable::capacity).sum();
        assert!(room <= SHARDS * KEPT, "{room}");
    }
}

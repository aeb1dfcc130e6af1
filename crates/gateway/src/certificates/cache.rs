//! A cache in two generations that is bounded in bytes.

use std::{collections::HashMap, hash::Hash, mem};

/// What is used moves to the young generation; when that is full it becomes the old one, and the old one is
/// dropped. What is in use stays, for one hash look-up.
#[derive(Debug)]
pub(super) struct GenerationCache<K, V> {
    generation_bytes: usize,
    young: Generation<K, V>,
    old: Generation<K, V>,
}

#[derive(Debug)]
struct Generation<K, V> {
    entries: HashMap<K, (V, usize)>,
    bytes: usize,
}

impl<K, V> Default for Generation<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), bytes: 0 }
    }
}

impl<K: Hash + Eq, V: Clone> GenerationCache<K, V> {
    /// Holds so many bytes at least, and twice as many at most.
    pub(super) fn new(generation_bytes: usize) -> Self {
        Self { generation_bytes, young: Generation::default(), old: Generation::default() }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some((found, _)) = self.young.entries.get(key) {
            return Some(found.clone());
        }
        let (key, (found, bytes)) = self.old.entries.remove_entry(key)?;
        self.old.bytes -= bytes;
        self.insert(key, found.clone(), bytes);
        Some(found)
    }

    /// Keeps a value that takes so many bytes, unless that is more than a generation has.
    pub(super) fn insert(&mut self, key: K, value: V, bytes: usize) {
        if bytes > self.generation_bytes {
            return;
        }
        if let Some((_, replaced)) = self.young.entries.remove(&key) {
            self.young.bytes -= replaced;
        }
        if self.young.bytes + bytes > self.generation_bytes {
            self.old = mem::take(&mut self.young);
        }
        self.young.bytes += bytes;
        self.young.entries.insert(key, (value, bytes));
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.young.bytes + self.old.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_keeps_what_is_used() {
        let mut cache = GenerationCache::new(40);
        cache.insert(0, 0, 10);
        for number in 1..1000 {
            cache.insert(number, number, 10);
            assert_eq!(cache.get(&0), Some(0), "the entry in use stays");
            assert!(cache.bytes() <= 80, "{} bytes", cache.bytes());
        }
        assert_eq!(cache.get(&1), None, "the entry out of use goes");
    }

    #[test]
    fn a_generation_is_full_to_the_byte() {
        let mut cache = GenerationCache::new(40);
        cache.insert(1, 1, 40);
        assert_eq!((cache.get(&1), cache.bytes()), (Some(1), 40));
        cache.insert(2, 2, 41);
        assert_eq!((cache.get(&2), cache.bytes()), (None, 40), "larger than a generation");
        cache.insert(1, 3, 1);
        assert_eq!((cache.get(&1), cache.bytes()), (Some(3), 1), "replaced");
    }
}

//! A bounded cache in two generations.

use std::{collections::HashMap, hash::Hash, mem};

/// What is used moves to the young generation; when that is full it becomes the old one, and the old one is
/// dropped. It holds at most twice the size of a generation, and what is in use stays, for one hash look-up.
#[derive(Debug)]
pub(super) struct GenerationCache<K, V> {
    generation: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq + Clone, V: Clone> GenerationCache<K, V> {
    /// Holds `generation` entries at least, and twice as many at most.
    pub(super) fn new(generation: usize) -> Self {
        Self { generation, young: HashMap::new(), old: HashMap::new() }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(found) = self.young.get(key) {
            return Some(found.clone());
        }
        let (key, found) = self.old.remove_entry(key)?;
        self.insert(key, found.clone());
        Some(found)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_keeps_what_is_used() {
        let mut cache = GenerationCache::new(4);
        cache.insert(0, 0);
        for number in 1..1000 {
            cache.insert(number, number);
            assert_eq!(cache.get(&0), Some(0), "the entry in use stays");
            assert!(cache.len() <= 8, "{} entries", cache.len());
        }
        assert_eq!(cache.get(&1), None, "the entry out of use goes");
    }
}

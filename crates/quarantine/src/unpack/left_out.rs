//! The list of what an archive has and the operator does not get.

use bot_bottle_core::printable::printable;
use serde::Serialize;

/// Entries that are named; more are only counted.
const MAX_NAMED: usize = 20;

/// What was left out of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The first twenty.
    pub first: Vec<LeftOutEntry>,
    /// How many there are. A folder that is left out counts once.
    pub count: u64,
}

/// An entry that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOutEntry {
    /// The path below the item, made printable; `.` is the item.
    pub path: String,
    /// Why, as the end of a sentence that the path begins: `is a device`.
    pub why: &'static str,
}

impl LeftOut {
    pub(super) fn add(&mut self, path: &[u8], why: &'static str) {
        self.count += 1;
        if self.first.len() < MAX_NAMED {
            let path = if path.is_empty() { b"." } else { path };
            self.first.push(LeftOutEntry { path: printable(&String::from_utf8_lossy(path)), why });
        }
    }
}

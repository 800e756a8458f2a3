//! What a run remembers of objects, in sixteen bytes each.

use std::collections::{HashMap, HashSet};

use object_store::path::Path;

use crate::repository::manifest::PackRecord;

fn short(parts: &[&[u8]]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(short)
}

/// Objects that have been told of, so that none is counted twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(HashSet<u128>);

impl Seen {
    /// False: it had been already.
    pub fn add(&mut self, object: &str) -> bool {
        self.0.insert(short(&[object.as_bytes()]))
    }

    /// Adds all of `others` but those that it has; how many those were that it had not.
    pub fn add_all(&mut self, others: Self) -> u64 {
        let before = self.0.len();
        self.0.extend(others.0);
        (self.0.len() - before) as u64
    }
}

/// Packs that were read and are what was written, so that each is read once, however many backups
/// need it. For each whether its chunks were opened too.
#[derive(Debug, Default)]
pub(super) struct WholePacks(HashMap<u128, bool>);

impl WholePacks {
    pub fn add(&mut self, key: &Path, pack: &PackRecord, is_opened: bool) {
        *self.0.entry(of(key, pack)).or_default() |= is_opened;
    }

    /// With `opened`: its chunks as well.
    pub fn has(&self, key: &Path, pack: &PackRecord, opened: bool) -> bool {
        let found = self.0.get(&of(key, pack));
        found.is_some_and(|is_opened| *is_opened || !opened)
    }
}

/// Where it lies and what it should be: another list may say something else of it.
fn of(key: &Path, pack: &PackRecord) -> u128 {
    short(&[&pack.hash, key.as_ref().as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_counts_once() {
        let (mut one, mut other) = (Seen::default(), Seen::default());
        assert!(one.add("a") && one.add("b") && !one.add("a"));
        assert!(other.add("b") && other.add("c"));
        assert_eq!(one.add_all(other.clone()), 1);
        assert_eq!(one.add_all(other), 0);
    }
}

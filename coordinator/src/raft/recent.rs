//! The newest entries of the log, in memory: what is sent to others and applied was appended a
//! moment ago.

use std::{collections::VecDeque, ops::RangeInclusive};

use super::Entry;

const ENTRIES_MAX: usize = 1024;
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Entries without a hole between them, each with the bytes that it has in the log.
#[derive(Default)]
pub struct Recent {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Recent {
    pub fn first(&self) -> Option<u64> {
        self.entries.front().map(|(entry, _)| entry.log_id.index)
    }

    pub fn last(&self) -> Option<&Entry> {
        self.entries.back().map(|(entry, _)| entry)
    }

    pub fn push(&mut self, entry: Entry, bytes: usize) {
        let next = self.last().map(|last| last.log_id.index + 1);
        // After a snapshot from elsewhere the log goes on further ahead.
        if next.is_some_and(|next| next != entry.log_id.index) {
            *self = Self::default();
        }
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
    }

    /// Forgets those from `index` on.
    pub fn truncate(&mut self, index: u64) {
        while self.last().is_some_and(|last| last.log_id.index >= index) {
            let gone = self.entries.pop_back();
            self.bytes -= gone.map_or(0, |(_, bytes)| bytes);
        }
    }

    /// Forgets those up to and including `index`.
    pub fn purge(&mut self, index: u64) {
        while self.first().is_some_and(|first| first <= index) {
            self.pop_front();
        }
    }

    /// Forgets the oldest when there are too many: those below `unsynced` only, for the log itself
    /// has no others.
    pub fn shrink(&mut self, unsynced: Option<u64>) {
        let has_too_many = |all: &Self| all.entries.len() > ENTRIES_MAX || all.bytes > BYTES_MAX;
        let may_go = |first| unsynced.is_none_or(|unsynced| first < unsynced);
        while has_too_many(self) && self.first().is_some_and(may_go) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        let gone = self.entries.pop_front();
        self.bytes -= gone.map_or(0, |(_, bytes)| bytes);
    }

    /// Those of `range` that are here, in order, up to and including the one with which `bytes_max` is
    /// reached.
    pub fn range(&self, range: RangeInclusive<u64>, bytes_max: usize) -> Vec<Entry> {
        let Some(first) = self.first() else {
            return Vec::new();
        };
        let skipped = usize::try_from(range.start().saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        self.entries
            .iter()
            .skip(skipped)
            .take_while(|(entry, entry_bytes)| {
                let is_wanted = bytes < bytes_max && entry.log_id.index <= *range.end();
                bytes = bytes.saturating_add(*entry_bytes);
                is_wanted
            })
            .map(|(entry, _)| entry.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, EntryPayload, LogId};

    use super::*;

    fn entry(index: u64) -> Entry {
        Entry {
            log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
            payload: EntryPayload::Blank,
        }
    }

    fn recent(range: RangeInclusive<u64>, bytes: usize) -> Recent {
        let mut recent = Recent::default();
        range.for_each(|index| recent.push(entry(index), bytes));
        recent
    }

    fn indexes(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.log_id.index).collect()
    }

    #[test]
    fn a_range_is_cut_at_both_ends_and_at_its_bytes() {
        let recent = recent(10..=19, 100);
        assert_eq!(indexes(&recent.range(0..=11, usize::MAX)), [10, 11]);
        assert_eq!(indexes(&recent.range(17..=90, usize::MAX)), [17, 18, 19]);
        assert_eq!(indexes(&recent.range(12..=19, 1)), [12]);
        assert_eq!(indexes(&recent.range(12..=19, 200)), [12, 13]);
        assert!(recent.range(20..=30, usize::MAX).is_empty());
        assert!(Recent::default().range(0..=9, usize::MAX).is_empty());
    }

    #[test]
    fn what_is_truncated_purged_or_far_behind_is_gone() {
        let mut recent = recent(10..=19, 100);
        recent.truncate(18);
        recent.purge(11);
        assert_eq!(recent.first(), Some(12));
        assert_eq!(
            indexes(&recent.range(0..=99, usize::MAX)),
            [12, 13, 14, 15, 16, 17]
        );
        recent.push(entry(40), 100);
        assert_eq!(indexes(&recent.range(0..=99, usize::MAX)), [40]);
        recent.purge(40);
        assert_eq!((recent.first(), recent.bytes), (None, 0));
    }

    #[test]
    fn i9_memory_is_bounded_but_what_is_not_on_disk_stays() {
        let mut many = recent(0..=4999, 10);
        many.shrink(Some(2000));
        assert_eq!(many.first(), Some(2000));
        many.shrink(None);
        assert_eq!(many.entries.len(), ENTRIES_MAX);
        let mut large = recent(0..=999, BYTES_MAX / 10);
        large.shrink(None);
        assert_eq!(large.entries.len(), 10);
    }
}

//! Numbered records and a few marks, on disk when a call returns.
//!
//! What always holds: a record that was acknowledged survives a power loss; records have no hole
//! between the purged mark and the last; every value carries its number, its length and a
//! checksum. A failed write or sync ends the process: after one, a second could lie. The store is
//! bounded by the log that Raft keeps; state and snapshots live elsewhere.

use std::ops::RangeInclusive;

use seawall_common::{Error, Result};

use crate::platform::{Change, Medium, Order, Tree, die};

/// Longest value, frame included.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
const FRAME_BYTES: usize = 16;
/// Longest payload of a record or mark.
pub const PAYLOAD_BYTES_MAX: usize = VALUE_BYTES_MAX - FRAME_BYTES;
/// Bytes of one batch handed to the medium.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
const DELETE_BATCH_RECORDS: usize = 1024;

/// Single values beside the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Vote = 1,
    Committed = 2,
    Purged = 3,
}

pub struct DurableLog {
    medium: Box<dyn Medium>,
}

/// A record's number and payload.
pub type Record = (u64, Vec<u8>);

/// A change of the log.
#[derive(Debug)]
pub enum Write {
    /// In the order given.
    Append(Vec<Record>),
    /// The records from this one on go, last first, so that no crash leaves a hole.
    Truncate {
        from: u64,
    },
    /// The purged mark is noted and synced, and then the records up to and including this one go.
    Purge {
        upto: u64,
        mark: Vec<u8>,
    },
    Mark(Mark, Vec<u8>),
}

impl DurableLog {
    /// Takes up the log that lies on `medium`, finishes a purge that was cut off, and refuses a
    /// log with a hole. `purged` reads the index out of the purged mark's payload.
    pub fn open(
        medium: Box<dyn Medium>,
        purged: impl Fn(&[u8]) -> Result<Option<u64>>,
    ) -> Result<Self> {
        let log = Self { medium };
        let purged = match log.mark(Mark::Purged)? {
            Some(payload) => purged(&payload)?,
            None => None,
        };
        if let Some(purged) = purged {
            log.delete_forwards(purged)?;
        }
        log.check_for_holes(purged.map_or(0, |index| index + 1))?;
        Ok(log)
    }

    /// Does all of it, in this order; on disk when this returns.
    pub fn write(&self, writes: &[Write]) -> Result<()> {
        for write in writes {
            match write {
                Write::Append(records) => self.append(records)?,
                Write::Truncate { from } => self.delete(*from..=u64::MAX, Order::Backwards)?,
                Write::Purge { upto, mark } => {
                    self.put_mark(Mark::Purged, mark)?;
                    self.commit();
                    self.delete_forwards(*upto)?;
                }
                Write::Mark(mark, payload) => self.put_mark(*mark, payload)?,
            }
        }
        self.commit();
        Ok(())
    }

    fn append(&self, records: &[Record]) -> Result<()> {
        if let Some((index, payload)) = records
            .iter()
            .find(|(_, payload)| payload.len() > PAYLOAD_BYTES_MAX)
        {
            return Err(Error::exhausted(format!(
                "log entry {index} has {} bytes, more than {PAYLOAD_BYTES_MAX}",
                payload.len()
            )));
        }
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        for (index, payload) in records {
            batch.push(Change::Put(*index, frame(*index, payload)));
            batch_bytes += payload.len();
            if batch_bytes >= BATCH_BYTES_MAX {
                self.apply(Tree::Records, std::mem::take(&mut batch));
                batch_bytes = 0;
            }
        }
        self.apply(Tree::Records, batch);
        Ok(())
    }

    fn put_mark(&self, mark: Mark, payload: &[u8]) -> Result<()> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Error::exhausted(format!(
                "mark {mark:?} has {} bytes, more than {PAYLOAD_BYTES_MAX}",
                payload.len()
            )));
        }
        let put = Change::Put(mark as u64, frame(mark as u64, payload));
        self.apply(Tree::Marks, vec![put]);
        Ok(())
    }

    pub fn mark(&self, mark: Mark) -> Result<Option<Vec<u8>>> {
        self.medium
            .get(Tree::Marks, mark as u64)?
            .map(|value| unframe(mark as u64, &value))
            .transpose()
    }

    /// The records of `range` that are there, in order. Stops after the record with which
    /// `bytes_max` is reached, so that it answers at least one when there is one.
    pub fn read(&self, range: RangeInclusive<u64>, bytes_max: usize) -> Result<Vec<Record>> {
        let mut found = Vec::new();
        let mut bytes = 0;
        self.medium.scan(range, &mut |index, value| {
            let payload = unframe(index, value)?;
            bytes += payload.len();
            found.push((index, payload));
            Ok(bytes < bytes_max)
        })?;
        Ok(found)
    }

    pub fn last(&self) -> Result<Option<Record>> {
        let keys = self.medium.keys(0..=u64::MAX, Order::Backwards, 1)?;
        let Some(index) = keys.first() else {
            return Ok(None);
        };
        let last = self.read(*index..=*index, 0)?.pop();
        Ok(last)
    }

    /// First to last, so that no crash leaves a hole. Not synced by itself: the mark was.
    fn delete_forwards(&self, upto: u64) -> Result<()> {
        self.delete(0..=upto, Order::Forwards)
    }

    fn delete(&self, range: RangeInclusive<u64>, order: Order) -> Result<()> {
        loop {
            let keys = self
                .medium
                .keys(range.clone(), order, DELETE_BATCH_RECORDS)?;
            let is_last = keys.len() < DELETE_BATCH_RECORDS;
            self.apply(
                Tree::Records,
                keys.into_iter().map(Change::Delete).collect(),
            );
            if is_last {
                return Ok(());
            }
        }
    }

    fn check_for_holes(&self, first: u64) -> Result<()> {
        let mut expected = first;
        self.medium.scan(0..=u64::MAX, &mut |index, value| {
            if index != expected {
                return Err(Error::corrupt(format!(
                    "the log has a hole: entry {expected} is missing before entry {index}"
                ))
                .hint("Restore this member by removing it and adding it anew under a new id."));
            }
            unframe(index, value)?;
            expected += 1;
            Ok(true)
        })
    }

    fn apply(&self, tree: Tree, batch: Vec<Change>) {
        if let Err(e) = self.medium.apply(tree, batch) {
            die("cannot write the log", &e);
        }
    }

    fn commit(&self) {
        if let Err(e) = self.medium.sync() {
            die("cannot sync the log to disk", &e);
        }
    }
}

/// Number (8 bytes), length of the payload (4), CRC-32C of the two and the payload (4), payload.
fn frame(index: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut value = Vec::with_capacity(FRAME_BYTES + payload.len());
    value.extend_from_slice(&index.to_be_bytes());
    value.extend_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&value), payload);
    value.extend_from_slice(&checksum.to_be_bytes());
    value.extend_from_slice(payload);
    value
}

fn unframe(index: u64, value: &[u8]) -> Result<Vec<u8>> {
    let damaged = || Error::corrupt(format!("log value {index} is damaged"));
    let (head, payload) = value.split_at_checked(FRAME_BYTES).ok_or_else(damaged)?;
    let expected = frame(index, payload);
    if expected[..FRAME_BYTES] != *head {
        return Err(damaged());
    }
    Ok(payload.to_vec())
}

#[cfg(test)]
#[path = "durable_log_tests.rs"]
mod tests;

//! The one place that knows sled: numbered records and a few marks, on disk when a call returns.
//!
//! What always holds: a record that was acknowledged survives a power loss (sled's own flush does
//! not promise that, so every commit ends with an fsync on a handle of our own); records have no
//! hole between the purged mark and the last; every value carries its number, its length and a
//! checksum. A failed flush or fsync ends the process: after one, a second could lie. The store is
//! bounded by the log that Raft keeps; state and snapshots live elsewhere.

use std::{
    fs::File,
    ops::RangeInclusive,
    path::Path,
    time::{Duration, Instant},
};

use seawall_common::{Error, Result};

use super::die;

/// Longest value, frame included.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
const FRAME_BYTES: usize = 16;
/// Longest payload of a record or mark.
pub const PAYLOAD_BYTES_MAX: usize = VALUE_BYTES_MAX - FRAME_BYTES;
/// Bytes of one batch handed to sled.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
const DELETE_BATCH_RECORDS: usize = 1024;
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// A page of more than a quarter of this goes into a file of its own, which sled never syncs. A page
/// holds some 17 values at most.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;
const UNLOCK_LIMIT: Duration = Duration::from_secs(5);
const UNLOCK_POLL: Duration = Duration::from_millis(20);

/// Single values beside the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Vote = 1,
    Committed = 2,
    Purged = 3,
}

pub struct DurableLog {
    db: sled::Db,
    records: sled::Tree,
    marks: sled::Tree,
    /// Our own handle: its fsync reports errors that sled's background thread only logs.
    file: File,
}

/// A record's number and payload.
pub type Record = (u64, Vec<u8>);

impl DurableLog {
    /// Opens or creates the log in `directory`, finishes a purge that was cut off, and refuses a
    /// log with a hole. `purged` reads the index out of the purged mark's payload.
    pub fn open(directory: &Path, purged: impl Fn(&[u8]) -> Result<Option<u64>>) -> Result<Self> {
        let failed = |what: &str, e: &dyn std::fmt::Display| {
            Error::internal(format!(
                "cannot {what} the log in {}: {e}",
                directory.display()
            ))
        };
        std::fs::create_dir_all(directory).map_err(|e| Error::io("create", directory, &e))?;
        let db = open_sled(directory).map_err(|e| failed("open", &e))?;
        let records = db.open_tree("records").map_err(|e| failed("open", &e))?;
        let marks = db.open_tree("marks").map_err(|e| failed("open", &e))?;
        let path = directory.join("db");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| Error::io("open", &path, &e))?;
        let log = Self {
            db,
            records,
            marks,
            file,
        };
        log.commit();
        log.check_no_blobs(directory)?;
        for path in [Some(directory), directory.parent()].into_iter().flatten() {
            File::open(path)
                .and_then(|dir| dir.sync_all())
                .map_err(|e| Error::io("sync", path, &e))?;
        }
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

    /// What lies in files beside sled's own was never synced: it may be less than was acknowledged.
    fn check_no_blobs(&self, directory: &Path) -> Result<()> {
        let blobs = directory.join("blobs");
        match std::fs::read_dir(&blobs).map(Iterator::count) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::corrupt(format!(
                "{} is not empty: a page of the log was too large for it",
                blobs.display()
            ))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io("read", &blobs, &e)),
        }
    }

    /// Writes records in the order given; on disk when this returns.
    pub fn append(&self, records: &[Record]) -> Result<()> {
        if let Some((index, payload)) = records
            .iter()
            .find(|(_, payload)| payload.len() > PAYLOAD_BYTES_MAX)
        {
            return Err(Error::exhausted(format!(
                "log entry {index} has {} bytes, more than {PAYLOAD_BYTES_MAX}",
                payload.len()
            )));
        }
        let mut batch = sled::Batch::default();
        let mut batch_bytes = 0;
        for (index, payload) in records {
            batch.insert(&index.to_be_bytes(), frame(*index, payload));
            batch_bytes += payload.len();
            if batch_bytes >= BATCH_BYTES_MAX {
                self.apply(&self.records, std::mem::take(&mut batch));
                batch_bytes = 0;
            }
        }
        self.apply(&self.records, batch);
        self.commit();
        Ok(())
    }

    /// Deletes the records from `index` on, last first, so that no crash leaves a hole.
    pub fn truncate_from(&self, index: u64) -> Result<()> {
        loop {
            let mut batch = sled::Batch::default();
            let mut deleted = 0;
            for key in self.records.range(index.to_be_bytes()..).keys().rev() {
                batch.remove(key.map_err(read_failed)?);
                deleted += 1;
                if deleted == DELETE_BATCH_RECORDS {
                    break;
                }
            }
            self.apply(&self.records, batch);
            if deleted < DELETE_BATCH_RECORDS {
                self.commit();
                return Ok(());
            }
        }
    }

    /// Notes the purged mark and then deletes the records up to and including `index`.
    pub fn purge_to(&self, index: u64, mark: &[u8]) -> Result<()> {
        self.put_mark(Mark::Purged, mark, true)?;
        self.delete_forwards(index)
    }

    /// `durable`: on disk when this returns. Otherwise it follows with the next commit.
    pub fn put_mark(&self, mark: Mark, payload: &[u8], durable: bool) -> Result<()> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Error::exhausted(format!(
                "mark {mark:?} has {} bytes, more than {PAYLOAD_BYTES_MAX}",
                payload.len()
            )));
        }
        let mut batch = sled::Batch::default();
        batch.insert(&[mark as u8], frame(mark as u64, payload));
        self.apply(&self.marks, batch);
        if durable {
            self.commit();
        }
        Ok(())
    }

    pub fn mark(&self, mark: Mark) -> Result<Option<Vec<u8>>> {
        self.marks
            .get([mark as u8])
            .map_err(read_failed)?
            .map(|value| unframe(mark as u64, &value))
            .transpose()
    }

    /// The records of `range` that are there, in order. Stops after the record with which
    /// `bytes_max` is reached, so that it answers at least one when there is one.
    pub fn read(&self, range: RangeInclusive<u64>, bytes_max: usize) -> Result<Vec<Record>> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let keys = range.start().to_be_bytes()..=range.end().to_be_bytes();
        for item in self.records.range(keys) {
            let (key, value) = item.map_err(read_failed)?;
            let index = index_of(&key)?;
            let payload = unframe(index, &value)?;
            bytes += payload.len();
            found.push((index, payload));
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(found)
    }

    pub fn last(&self) -> Result<Option<Record>> {
        let Some((key, value)) = self.records.last().map_err(read_failed)? else {
            return Ok(None);
        };
        let index = index_of(&key)?;
        Ok(Some((index, unframe(index, &value)?)))
    }

    pub fn size_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }

    fn delete_forwards(&self, upto: u64) -> Result<()> {
        loop {
            let mut batch = sled::Batch::default();
            let mut deleted = 0;
            for key in self.records.range(..=upto.to_be_bytes()).keys() {
                batch.remove(key.map_err(read_failed)?);
                deleted += 1;
                if deleted == DELETE_BATCH_RECORDS {
                    break;
                }
            }
            self.apply(&self.records, batch);
            if deleted < DELETE_BATCH_RECORDS {
                return Ok(());
            }
        }
    }

    fn check_for_holes(&self, first: u64) -> Result<()> {
        for (expected, item) in (first..).zip(&self.records) {
            let (key, value) = item.map_err(read_failed)?;
            let index = index_of(&key)?;
            if index != expected {
                return Err(Error::corrupt(format!(
                    "the log has a hole: entry {expected} is missing before entry {index}"
                ))
                .hint("Restore this member by removing it and adding it anew under a new id."));
            }
            unframe(index, &value)?;
        }
        Ok(())
    }

    fn apply(&self, tree: &sled::Tree, batch: sled::Batch) {
        if let Err(e) = tree.apply_batch(batch) {
            die("cannot write the log", &e);
        }
    }

    fn commit(&self) {
        if let Err(e) = self.db.flush() {
            die("cannot flush the log", &e);
        }
        if let Err(e) = self.file.sync_all() {
            die("cannot sync the log to disk", &e);
        }
    }
}

/// One that was dropped a moment ago may still be locked: sled's threads let go of it on their own.
fn open_sled(directory: &Path) -> sled::Result<sled::Db> {
    let config = sled::Config::new()
        .path(directory)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(CACHE_BYTES);
    let begin = Instant::now();
    loop {
        match config.open() {
            Err(e) if is_locked(&e) && begin.elapsed() < UNLOCK_LIMIT => {
                std::thread::sleep(UNLOCK_POLL)
            }
            other => return other,
        }
    }
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

fn read_failed(error: sled::Error) -> Error {
    Error::corrupt(format!("cannot read the log: {error}"))
}

fn index_of(key: &[u8]) -> Result<u64> {
    let bytes = <[u8; 8]>::try_from(key)
        .map_err(|_| Error::corrupt(format!("a log key has {} bytes, not 8", key.len())))?;
    Ok(u64::from_be_bytes(bytes))
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

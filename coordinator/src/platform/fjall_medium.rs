//! The one place that knows fjall. A batch is whole or not there since its journal has a checksum
//! over each; a failed write or sync poisons the database, and all that comes after it fails.

use std::{ops::RangeInclusive, path::Path};

use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use seawall_common::{Error, Result};

use super::medium::{Change, Medium, Order, Tree};

/// What was read last. What is sent to others and applied lies in memory anyway.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// What is kept sorted in memory until it goes into a table.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
/// The least that fjall allows. Journals are longer than that together only while tables are written.
const JOURNALS_BYTES: u64 = 64 * 1024 * 1024;
/// What every database has, and is written last when one is made.
const MARKER: &str = "version";
const REPLACE: &str = "Restore this member by removing it and adding it anew under a new id.";

pub struct FjallMedium {
    database: Database,
    values: Keyspace,
}

impl FjallMedium {
    pub fn open(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|e| Error::io("create", directory, &e))?;
        refuse_what_is_no_log(directory)?;
        let failed = |e: fjall::Error| open_failed(directory, &e);
        let database = Database::builder(directory)
            .cache_size(CACHE_BYTES)
            .journal_compression(CompressionType::None)
            .manual_journal_persist(true)
            .max_journaling_size(JOURNALS_BYTES)
            .worker_threads(1)
            .open()
            .map_err(failed)?;
        let values = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let values = database.keyspace("log", values).map_err(failed)?;
        let medium = Self { database, values };
        medium.sync()?;
        for path in [Some(directory), directory.parent()].into_iter().flatten() {
            std::fs::File::open(path)
                .and_then(|dir| dir.sync_all())
                .map_err(|e| Error::io("sync", path, &e))?;
        }
        Ok(medium)
    }

    fn records(&self, range: RangeInclusive<u64>) -> fjall::Iter {
        let (first, last) = (*range.start(), *range.end());
        self.values
            .range(key(Tree::Records, first)..=key(Tree::Records, last))
    }
}

/// A member whose log is gone must not come back with an empty one: it would not know what it has
/// acknowledged.
fn refuse_what_is_no_log(directory: &Path) -> Result<()> {
    let has_marker = directory.join(MARKER).exists();
    let mut inside = std::fs::read_dir(directory).map_err(|e| Error::io("read", directory, &e))?;
    match has_marker || inside.next().is_none() {
        true => Ok(()),
        false => Err(Error::corrupt(format!(
            "{} is not empty, and not a log of this version",
            directory.display()
        ))
        .hint(REPLACE)),
    }
}

fn open_failed(directory: &Path, error: &fjall::Error) -> Error {
    let directory = directory.display();
    match error {
        fjall::Error::Locked => Error::conflict(format!(
            "cannot open the log in {directory}: another process has it open"
        )),
        fjall::Error::Io(e) => Error::internal(format!("cannot open the log in {directory}: {e}")),
        e => Error::corrupt(format!("cannot read the log in {directory}: {e}")).hint(REPLACE),
    }
}

impl Medium for FjallMedium {
    fn apply(&self, tree: Tree, changes: Vec<Change>) -> Result<()> {
        let mut batch = self.database.batch();
        for change in changes {
            match change {
                Change::Put(number, value) => batch.insert(&self.values, key(tree, number), value),
                Change::Delete(number) => batch.remove(&self.values, key(tree, number)),
            }
        }
        batch.commit().map_err(write_failed)
    }

    fn sync(&self) -> Result<()> {
        self.database
            .persist(PersistMode::SyncData)
            .map_err(write_failed)
    }

    fn get(&self, tree: Tree, number: u64) -> Result<Option<Vec<u8>>> {
        let value = self.values.get(key(tree, number)).map_err(read_failed)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn keys(&self, range: RangeInclusive<u64>, order: Order, max: usize) -> Result<Vec<u64>> {
        let records = self.records(range);
        let number = |record: fjall::Guard| number_of(&record.key().map_err(read_failed)?);
        match order {
            Order::Forwards => records.take(max).map(number).collect(),
            Order::Backwards => records.rev().take(max).map(number).collect(),
        }
    }

    fn scan(
        &self,
        range: RangeInclusive<u64>,
        show: &mut dyn FnMut(u64, &[u8]) -> Result<bool>,
    ) -> Result<()> {
        for record in self.records(range) {
            let (key, value) = record.into_inner().map_err(read_failed)?;
            if !show(number_of(&key)?, &value)? {
                break;
            }
        }
        Ok(())
    }
}

fn write_failed(error: fjall::Error) -> Error {
    Error::internal(said(&error))
}

fn read_failed(error: fjall::Error) -> Error {
    Error::corrupt(format!("cannot read the log: {}", said(&error)))
}

/// In the words of the system, where it was that.
fn said(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(e) => e.to_string(),
        fjall::Error::Poisoned => "an earlier write has failed".to_owned(),
        e => e.to_string(),
    }
}

/// Big-endian, so that the order of bytes is that of numbers.
fn key(tree: Tree, number: u64) -> [u8; 9] {
    let mut key = [0; 9];
    key[0] = match tree {
        Tree::Records => b'r',
        Tree::Marks => b'm',
    };
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

fn number_of(key: &[u8]) -> Result<u64> {
    let number = key.get(1..).and_then(|bytes| bytes.try_into().ok());
    let number = number
        .ok_or_else(|| Error::corrupt(format!("a log key has {} bytes, not 9", key.len())))?;
    Ok(u64::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, os::unix::fs::FileExt as _};

    use super::*;

    fn put(medium: &FjallMedium, number: u64, byte: u8) {
        let put = Change::Put(number, vec![byte; 1000]);
        medium.apply(Tree::Records, vec![put]).unwrap();
        medium.sync().unwrap();
    }

    fn all(medium: &FjallMedium) -> Vec<u64> {
        medium.keys(0..=u64::MAX, Order::Forwards, 100).unwrap()
    }

    fn journal(directory: &Path) -> std::path::PathBuf {
        let files = std::fs::read_dir(directory).unwrap();
        let mut paths = files.map(|file| file.unwrap().path());
        let is_journal = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "jnl");
        paths.find(is_journal).unwrap()
    }

    /// Where in the journal the record of this byte stands.
    fn position(journal: &Path, byte: u8) -> u64 {
        let bytes = std::fs::read(journal).unwrap();
        let found = bytes
            .windows(1000)
            .position(|window| *window == [byte; 1000]);
        found.unwrap() as u64
    }

    /// Ten records, the medium closed, and its journal.
    fn closed(directory: &Path) -> std::path::PathBuf {
        let medium = FjallMedium::open(directory).unwrap();
        (0..10).for_each(|number| put(&medium, number, number as u8 + 1));
        drop(medium);
        journal(directory)
    }

    #[test]
    fn i9_a_batch_of_which_the_end_is_missing_is_not_there_and_all_before_it_are() {
        for zeros in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let journal = closed(directory.path());
            let cut = position(&journal, 10) + 500;
            let file = OpenOptions::new().write(true).open(&journal).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(cut).unwrap();
            if zeros {
                file.set_len(length).unwrap();
            }
            let medium = FjallMedium::open(directory.path()).unwrap();
            assert_eq!(all(&medium), Vec::from_iter(0..9));
            put(&medium, 9, 77);
            drop(medium);
            let medium = FjallMedium::open(directory.path()).unwrap();
            assert_eq!(medium.get(Tree::Records, 9).unwrap(), Some(vec![77; 1000]));
        }
    }

    #[test]
    fn i9_damage_in_the_middle_is_refused_with_a_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let journal = closed(directory.path());
        let at = position(&journal, 4) + 500;
        let file = OpenOptions::new().write(true).open(&journal).unwrap();
        file.write_all_at(b"x", at).unwrap();
        let refused = FjallMedium::open(directory.path())
            .err()
            .unwrap()
            .to_string();
        assert!(refused.contains("cannot read the log in"), "{refused}");
        assert!(refused.contains("under a new id"), "{refused}");
    }

    #[test]
    fn records_and_marks_of_one_number_are_two_values() {
        let directory = tempfile::tempdir().unwrap();
        let medium = FjallMedium::open(directory.path()).unwrap();
        put(&medium, 1, 1);
        let mark = Change::Put(1, vec![2]);
        medium.apply(Tree::Marks, vec![mark]).unwrap();
        assert_eq!(medium.get(Tree::Marks, 1).unwrap(), Some(vec![2]));
        assert_eq!(medium.get(Tree::Records, 1).unwrap(), Some(vec![1; 1000]));
        assert_eq!(all(&medium), [1]);
        assert_eq!(medium.keys(0..=u64::MAX, Order::Backwards, 9).unwrap(), [1]);
    }
}

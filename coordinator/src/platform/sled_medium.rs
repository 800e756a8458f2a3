//! The one place that knows sled. Its own flush does not promise that a commit survives a power
//! loss, so every sync ends with an fdatasync on a handle of our own, whose error is not lost either:
//! it brings to disk the data and all of the file's metadata that is needed to read it, its length
//! above all, and leaves out times.

use std::{
    fs::File,
    ops::RangeInclusive,
    path::Path,
    time::{Duration, Instant},
};

use seawall_common::{Error, Result};

use super::medium::{Change, Medium, Order, Tree};

const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// A page of more than a quarter of this goes into a file of its own, which sled never syncs. A page
/// holds some 17 values at most.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;
const UNLOCK_LIMIT: Duration = Duration::from_secs(5);
const UNLOCK_POLL: Duration = Duration::from_millis(20);

pub struct SledMedium {
    db: sled::Db,
    records: sled::Tree,
    marks: sled::Tree,
    /// Our own handle: its fsync reports errors that sled's background thread only logs.
    file: File,
}

impl SledMedium {
    pub fn open(directory: &Path) -> Result<Self> {
        let failed = |e: sled::Error| {
            Error::internal(format!(
                "cannot open the log in {}: {e}",
                directory.display()
            ))
        };
        std::fs::create_dir_all(directory).map_err(|e| Error::io("create", directory, &e))?;
        let db = open_sled(directory).map_err(failed)?;
        let records = db.open_tree("records").map_err(failed)?;
        let marks = db.open_tree("marks").map_err(failed)?;
        let path = directory.join("db");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| Error::io("open", &path, &e))?;
        let medium = Self {
            db,
            records,
            marks,
            file,
        };
        medium.sync()?;
        check_no_blobs(directory)?;
        for path in [Some(directory), directory.parent()].into_iter().flatten() {
            File::open(path)
                .and_then(|dir| dir.sync_all())
                .map_err(|e| Error::io("sync", path, &e))?;
        }
        Ok(medium)
    }

    fn tree(&self, tree: Tree) -> &sled::Tree {
        match tree {
            Tree::Records => &self.records,
            Tree::Marks => &self.marks,
        }
    }
}

impl Medium for SledMedium {
    fn apply(&self, tree: Tree, changes: Vec<Change>) -> Result<()> {
        let mut batch = sled::Batch::default();
        for change in changes {
            match change {
                Change::Put(key, value) => batch.insert(bytes_of(tree, key), value),
                Change::Delete(key) => batch.remove(bytes_of(tree, key)),
            }
        }
        self.tree(tree)
            .apply_batch(batch)
            .map_err(|e| Error::internal(format!("sled: {e}")))
    }

    fn sync(&self) -> Result<()> {
        self.db
            .flush()
            .map_err(|e| Error::internal(format!("sled: {e}")))?;
        self.file
            .sync_data()
            .map_err(|e| Error::internal(e.to_string()))
    }

    fn get(&self, tree: Tree, key: u64) -> Result<Option<Vec<u8>>> {
        let value = self.tree(tree).get(bytes_of(tree, key));
        Ok(value.map_err(read_failed)?.map(|value| value.to_vec()))
    }

    fn keys(&self, range: RangeInclusive<u64>, order: Order, max: usize) -> Result<Vec<u64>> {
        let keys = self.records.range(within(range)).keys();
        let number = |key: sled::Result<sled::IVec>| number_of(&key.map_err(read_failed)?);
        match order {
            Order::Forwards => keys.take(max).map(number).collect(),
            Order::Backwards => keys.rev().take(max).map(number).collect(),
        }
    }

    fn scan(
        &self,
        range: RangeInclusive<u64>,
        show: &mut dyn FnMut(u64, &[u8]) -> Result<bool>,
    ) -> Result<()> {
        for item in self.records.range(within(range)) {
            let (key, value) = item.map_err(read_failed)?;
            if !show(number_of(&key)?, &value)? {
                break;
            }
        }
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

/// What lies in files beside sled's own was never synced: it may be less than was acknowledged.
fn check_no_blobs(directory: &Path) -> Result<()> {
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

/// Big-endian, so that the order of bytes is that of numbers; marks are single bytes.
fn bytes_of(tree: Tree, key: u64) -> sled::IVec {
    let bytes = key.to_be_bytes();
    match tree {
        Tree::Records => bytes[..].into(),
        Tree::Marks => bytes[7..].into(),
    }
}

fn within(range: RangeInclusive<u64>) -> RangeInclusive<[u8; 8]> {
    range.start().to_be_bytes()..=range.end().to_be_bytes()
}

fn number_of(key: &[u8]) -> Result<u64> {
    let bytes = <[u8; 8]>::try_from(key)
        .map_err(|_| Error::corrupt(format!("a log key has {} bytes, not 8", key.len())))?;
    Ok(u64::from_be_bytes(bytes))
}

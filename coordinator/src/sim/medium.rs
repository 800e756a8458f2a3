//! The log's medium in a simulation, in fjall's place: two maps in memory, and a file to which every
//! batch is appended. What was not synced goes with a crash; half a batch is dropped at opening.

use std::{
    collections::BTreeMap,
    io::{Seek as _, SeekFrom, Write as _},
    ops::RangeInclusive,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use seawall_common::{Error, Result};
use serde::{Deserialize, Serialize};
use turmoil::fs::shim::std::fs::{File, OpenOptions};

use super::{Bug, files, is_planted};
use crate::platform::{Change, Medium, Order, Tree};

/// Length and checksum before each batch, 4 bytes each.
const HEAD_BYTES: usize = 8;

pub struct SimMedium {
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    length: u64,
    trees: BTreeMap<Tree, BTreeMap<u64, Vec<u8>>>,
}

#[derive(Serialize, Deserialize)]
struct Batch {
    tree: Tree,
    changes: Vec<Change>,
}

impl SimMedium {
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("journal");
        let failed = |e: &std::io::Error| Error::io("open", &path, e);
        files::create_directory(directory).map_err(|e| failed(&e))?;
        let bytes = match files::exists(&path) {
            true => files::read(&path).map_err(|e| failed(&e))?,
            false => Vec::new(),
        };
        let mut trees = BTreeMap::new();
        let mut whole = 0;
        while let Some(batch) = batch_at(&bytes[whole..]) {
            whole += HEAD_BYTES + batch.len();
            let batch = serde_json::from_slice(batch)
                .map_err(|e| Error::corrupt(format!("a batch of the journal: {e}")))?;
            take(&mut trees, batch);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .open(&path)
            .map_err(|e| failed(&e))?;
        file.set_len(whole as u64)
            .and_then(|()| file.sync_all())
            .and_then(|()| files::sync_directory(directory))
            .map_err(|e| failed(&e))?;
        Ok(Self {
            inner: Mutex::new(Inner {
                file,
                length: whole as u64,
                trees,
            }),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn batch_at(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let length = u32::from_be_bytes(head[..4].try_into().ok()?) as usize;
    let batch = rest.get(..length)?;
    (crc32c::crc32c(batch).to_be_bytes() == head[4..]).then_some(batch)
}

fn take(trees: &mut BTreeMap<Tree, BTreeMap<u64, Vec<u8>>>, batch: Batch) {
    let tree = trees.entry(batch.tree).or_default();
    for change in batch.changes {
        match change {
            Change::Put(key, value) => tree.insert(key, value),
            Change::Delete(key) => tree.remove(&key),
        };
    }
}

impl Medium for SimMedium {
    fn apply(&self, tree: Tree, changes: Vec<Change>) -> Result<()> {
        let batch = Batch { tree, changes };
        let bytes = serde_json::to_vec(&batch)
            .map_err(|e| Error::internal(format!("cannot write a batch: {e}")))?;
        let mut framed = u32::try_from(bytes.len())
            .map_err(|_| Error::exhausted("a batch is too large"))?
            .to_be_bytes()
            .to_vec();
        framed.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        framed.extend_from_slice(&bytes);
        let inner = &mut *self.inner();
        let written = inner
            .file
            .seek(SeekFrom::Start(inner.length))
            .and_then(|_| inner.file.write_all(&framed));
        written.map_err(|e| Error::internal(format!("the journal: {e}")))?;
        inner.length += framed.len() as u64;
        take(&mut inner.trees, batch);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        if is_planted(Bug::NoFsync) {
            return Ok(());
        }
        let synced = self.inner().file.sync_all();
        synced.map_err(|e| Error::internal(format!("the journal: {e}")))
    }

    fn get(&self, tree: Tree, key: u64) -> Result<Option<Vec<u8>>> {
        let inner = self.inner();
        Ok(inner
            .trees
            .get(&tree)
            .and_then(|tree| tree.get(&key))
            .cloned())
    }

    fn keys(&self, range: RangeInclusive<u64>, order: Order, max: usize) -> Result<Vec<u64>> {
        let inner = self.inner();
        let Some(records) = inner.trees.get(&Tree::Records) else {
            return Ok(Vec::new());
        };
        let keys = records.range(range).map(|(key, _)| *key);
        Ok(match order {
            Order::Forwards => keys.take(max).collect(),
            Order::Backwards => keys.rev().take(max).collect(),
        })
    }

    fn scan(
        &self,
        range: RangeInclusive<u64>,
        show: &mut dyn FnMut(u64, &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let inner = self.inner();
        for (key, value) in inner
            .trees
            .get(&Tree::Records)
            .into_iter()
            .flat_map(|tree| tree.range(range.clone()))
        {
            if !show(*key, value)? {
                break;
            }
        }
        Ok(())
    }
}

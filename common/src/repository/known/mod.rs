//! What a writer knows of chunks that storage holds already, so that it does not send them again.
//!
//! For each backup that may be referred to there is one index file in the agent's state directory:
//! sorted records of fixed size, looked up where they lie, so that memory does not grow with the
//! database. A file is bound to its repository, shard, backup and manifest and carries a hash over
//! all of it; one that is damaged or foreign is thrown away and made anew. What a record says is
//! still checked against its pack, and every pack against a listing, before it is believed.

mod file;
mod make;
mod sort;
#[cfg(test)]
mod tests;
mod usable;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use uuid::Uuid;

pub(super) use file::{IndexFile, IndexIdentity, write};
pub(super) use make::make_missing;
pub(super) use sort::Sorter;
pub(super) use usable::Listing;

use super::{
    check::fits_in_pack, chunk::ChunkId, header::Repository, manifest::PackRecord,
    pack::StoredChunk,
};
use crate::{
    error::{Error, Result},
    ids::{BackupName, ShardId},
};

/// Indexes that are looked at for each chunk.
const INDEXES_MAX: usize = 8;

/// A backup of the shard whose packs may be referred to: the coordinator has named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub name: BackupName,
    /// Of a complete backup, hexadecimal; `None`: an attempt that was given up.
    pub manifest_hash: Option<String>,
}

/// Where the index of a backup lies.
pub(super) fn index_path(directory: &Path, name: &BackupName) -> PathBuf {
    directory.join(name.as_str())
}

/// The indexes of one backup under way.
#[derive(Debug, Default)]
pub(super) struct KnownChunks {
    /// Those of complete backups first: what they hold is nobody's news.
    indexes: Vec<UsedIndex>,
    /// Packs of attempts that complete backups hold.
    held: HashSet<Uuid>,
}

#[derive(Debug)]
pub(super) struct UsedIndex {
    pub file: IndexFile,
    pub is_attempt: bool,
    /// For each pack its size, or 0 when it must not be referred to.
    pub usable_bytes: Vec<u32>,
}

/// A chunk that is in storage: in which index it stands, and what that says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FoundChunk {
    pub index: usize,
    /// Its pack is numbered as in the index.
    pub stored: StoredChunk,
}

impl KnownChunks {
    /// Opens what there is for `references`, in their order, and finds out what of it may be used.
    pub async fn open(
        repository: &Repository,
        shard: &ShardId,
        directory: &Path,
        references: &[Reference],
        damaged: &HashSet<Uuid>,
    ) -> Result<Self> {
        let (directory, references) = (directory.to_owned(), references.to_vec());
        let (repository_id, of_shard) = (repository.uuid(), shard.clone());
        let open = move || open_indexes(&directory, repository_id, &of_shard, &references);
        let mut known = tokio::task::spawn_blocking(open)
            .await
            .map_err(|e| Error::internal(format!("the thread that opens indexes died: {e}")))??;
        known.indexes = usable::find_usable(repository, shard, known.indexes, damaged).await?;
        Ok(known)
    }

    /// Where a chunk of `plain_bytes` lies, if that may be referred to.
    pub fn find(&self, id: &ChunkId, plain_bytes: usize) -> Result<Option<FoundChunk>> {
        for (number, index) in self.indexes.iter().enumerate() {
            let Some(stored) = index.file.find(id)? else {
                continue;
            };
            let usable = index.usable_bytes.get(stored.pack as usize);
            let pack_bytes = usable.copied().unwrap_or(0);
            if pack_bytes > 0 && fits_in_pack(&stored, plain_bytes, pack_bytes) {
                return Ok(Some(FoundChunk {
                    index: number,
                    stored,
                }));
            }
        }
        Ok(None)
    }

    /// The pack of a chunk that was found, and whether no complete backup is known to hold it.
    pub fn pack(&self, found: &FoundChunk) -> Result<(PackRecord, bool)> {
        let index = self
            .indexes
            .get(found.index)
            .ok_or_else(|| Error::internal("a chunk was found in no index"))?;
        let pack = index.file.pack(found.stored.pack)?;
        let is_news = index.is_attempt && !self.held.contains(&pack.id);
        Ok((pack, is_news))
    }
}

fn open_indexes(
    directory: &Path,
    repository: Uuid,
    shard: &ShardId,
    references: &[Reference],
) -> Result<KnownChunks> {
    let mut indexes: Vec<UsedIndex> = Vec::new();
    for reference in references {
        if indexes.len() == INDEXES_MAX {
            break;
        }
        let identity = IndexIdentity::of(repository, shard, reference);
        if let Some(file) = IndexFile::open_or_discard(directory, &identity)? {
            indexes.push(UsedIndex {
                usable_bytes: Vec::new(),
                is_attempt: reference.manifest_hash.is_none(),
                file,
            });
        }
    }
    indexes.sort_by_key(|index| index.is_attempt);
    let attempts: HashSet<&BackupName> = references
        .iter()
        .filter(|reference| reference.manifest_hash.is_none())
        .map(|reference| &reference.name)
        .collect();
    let mut held = HashSet::new();
    for index in indexes.iter().filter(|index| !index.is_attempt) {
        index.file.for_each_pack(|_, pack| {
            if attempts.contains(&pack.origin.backup) {
                held.insert(pack.id);
            }
        })?;
    }
    Ok(KnownChunks { indexes, held })
}

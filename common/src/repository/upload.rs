//! From directories of files to packs, parts and a manifest.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::{header::Repository, manifest::ManifestHeader, progress::Progress};
use crate::{
    error::{Error, Result},
    ids::{Alias, BackupName, ShardId},
    position::Position,
};

/// A directory to be backed up under a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRoot {
    pub name: String,
    pub path: PathBuf,
    /// Paths relative to the root that are left out with all below them; a `*` at the end stands
    /// for any rest of the name.
    pub exclude: Vec<String>,
}

/// What is to be backed up, and what is known about it.
#[derive(Clone, Debug)]
pub struct BackupSource {
    pub shard: ShardId,
    pub name: BackupName,
    pub alias: Alias,
    pub engine: String,
    pub details: Vec<(String, String)>,
    pub epoch: u64,
    pub position: Position,
    pub started_unix_ms: u64,
    /// The fencing token of the hold under which this backup is written.
    pub token: u64,
    pub operation: String,
    pub roots: Vec<SourceRoot>,
}

/// A manifest of which everything is in the repository but itself.
#[derive(Clone, Debug)]
pub struct PreparedManifest {
    header: ManifestHeader,
    hash: String,
}

impl PreparedManifest {
    /// BLAKE3 of the manifest object, hexadecimal: to be announced before it is put.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    pub fn header(&self) -> &ManifestHeader {
        &self.header
    }

    /// Puts the manifest, which completes the backup. The same one already there is success.
    pub async fn put(&self, _repository: &Repository) -> Result<()> {
        Err(Error::internal("putting a manifest is not built yet"))
    }
}

/// Copies everything but the manifest itself into the repository.
pub async fn upload(
    _repository: &Repository,
    _source: &BackupSource,
    _concurrency: usize,
    _progress: &Progress,
    _cancel: &CancellationToken,
) -> Result<PreparedManifest> {
    Err(Error::internal("backing up is not built yet"))
}

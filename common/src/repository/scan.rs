//! What backups a shard has, by what lies in the repository.

use super::{header::Repository, manifest::ManifestHeader};
use crate::{
    error::{Error, Result},
    ids::{BackupName, ShardId},
};

/// A backup as the repository shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBackup {
    pub name: BackupName,
    pub state: StoredState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredState {
    Complete {
        header: Box<ManifestHeader>,
        manifest_hash: String,
    },
    /// Something of it is there, its manifest is not.
    Incomplete,
    Removed {
        reason: String,
    },
    /// Its manifest is there and cannot be believed.
    Broken {
        reason: String,
    },
}

impl Repository {
    /// The shards that the repository holds anything of.
    pub async fn shards(&self) -> Result<Vec<ShardId>> {
        Err(Error::internal("listing is not built yet"))
    }

    /// The backups of a shard, by name.
    pub async fn scan(&self, _shard: &ShardId) -> Result<Vec<StoredBackup>> {
        Err(Error::internal("listing is not built yet"))
    }
}

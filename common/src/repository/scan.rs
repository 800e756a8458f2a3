//! What backups a shard has, by what lies in the repository: both keys count, the manifest and the
//! `removed` mark (I2).

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};

use super::{
    header::Repository,
    layout,
    manifest::{MANIFEST_BYTES_MAX, ManifestHeader, decode_header},
    remove::read_reason,
};
use crate::{
    error::{ErrorKind, Result},
    ids::{BackupName, ShardId},
};

/// Backups that are looked at at once.
const LOOKS_AT_ONCE: usize = 16;

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
        /// BLAKE3 of the manifest object, hexadecimal.
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
    /// The shards that the repository holds anything of, in order.
    pub async fn shards(&self) -> Result<Vec<ShardId>> {
        let mut shards = Vec::new();
        let root = layout::keyspaces();
        for keyspace in self.store().folder(&root).await?.folders {
            let folder = self
                .store()
                .folder(&root.clone().join(keyspace.as_str()))
                .await?;
            for shard in folder.folders {
                match ShardId::new(&keyspace, &shard) {
                    Ok(id) => shards.push(id),
                    Err(error) => tracing::warn!(%error, "not a shard's folder in the repository"),
                }
            }
        }
        self.check_there().await?;
        shards.sort();
        Ok(shards)
    }

    /// The backups of a shard, by name. A store that fails is an error, never "no backup".
    pub async fn scan(&self, shard: &ShardId) -> Result<Vec<StoredBackup>> {
        let mut names = BTreeSet::new();
        for prefix in [layout::backups(shard), layout::packs(shard)] {
            for folder in self.store().folder(&prefix).await?.folders {
                match folder.parse::<BackupName>() {
                    Ok(name) => {
                        names.insert(name);
                    }
                    Err(error) => tracing::warn!(%error, "not a backup's folder in the repository"),
                }
            }
        }
        let states: Vec<_> = futures::stream::iter(names)
            .map(|name| async move {
                let state = self.look(shard, &name).await?;
                Ok::<_, crate::Error>(state.map(|state| StoredBackup { name, state }))
            })
            .buffered(LOOKS_AT_ONCE)
            .try_collect()
            .await?;
        self.check_there().await?;
        Ok(states.into_iter().flatten().collect())
    }

    /// `None`: only directories without an object are left of it.
    async fn look(&self, shard: &ShardId, name: &BackupName) -> Result<Option<StoredState>> {
        let objects = self
            .store()
            .folder(&layout::backup(shard, name))
            .await?
            .objects;
        let has = |object: &str| objects.iter().any(|o| o == object);
        if has("removed") {
            let reason = read_reason(self, shard, name).await?;
            return Ok(Some(StoredState::Removed { reason }));
        }
        if has("manifest") {
            return self.look_at_manifest(shard, name).await.map(Some);
        }
        let begun = self.store().has_any(&layout::backup(shard, name)).await?
            || self
                .store()
                .has_any(&layout::backup_packs(shard, name))
                .await?;
        Ok(begun.then_some(StoredState::Incomplete))
    }

    async fn look_at_manifest(&self, shard: &ShardId, name: &BackupName) -> Result<StoredState> {
        let key = layout::manifest(shard, name);
        let object = match self.store().get(&key, MANIFEST_BYTES_MAX).await {
            Ok(object) => object,
            Err(e) if e.kind() == ErrorKind::Corrupt => {
                return Ok(StoredState::Broken {
                    reason: e.message().to_owned(),
                });
            }
            // Swept since it was listed.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(StoredState::Incomplete),
            Err(e) => return Err(e),
        };
        Ok(match decode_header(&object, self.uuid(), shard, name) {
            Ok((_, header, _)) => StoredState::Complete {
                header: Box::new(header),
                manifest_hash: blake3::hash(&object).to_hex().to_string(),
            },
            Err(why) => StoredState::Broken {
                reason: format!("object {key} {why}"),
            },
        })
    }
}

//! Giving a backup up (phase one: the `removed` mark), and removing what it left (phase two).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    header::{FORMAT_VERSION, Repository},
    layout,
    scan::StoredState,
};
use crate::{
    clock,
    error::{Error, ErrorKind, Result},
    ids::{BackupName, ShardId},
};

const MARK_BYTES_MAX: u64 = 64 << 10;
const REASON_CHARS_MAX: usize = 1000;

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    version: u32,
    name: BackupName,
    reason: String,
    removed_unix_ms: u64,
}

/// What a sweep deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub objects: u64,
    pub bytes: u64,
}

impl Repository {
    /// Puts the `removed` mark: from then on the backup does not exist (I2). May be repeated; the
    /// first reason stays.
    pub async fn abandon(&self, shard: &ShardId, name: &BackupName, reason: &str) -> Result<()> {
        let mark = Mark {
            version: FORMAT_VERSION,
            name: name.clone(),
            reason: reason.chars().take(REASON_CHARS_MAX).collect(),
            removed_unix_ms: clock::now_unix_ms(),
        };
        let bytes = serde_json::to_vec(&mark)
            .map_err(|e| Error::internal(format!("cannot write a mark: {e}")))?;
        self.store()
            .put_if_absent(&layout::removed(shard, name), Bytes::from(bytes))
            .await
            .map(drop)
    }

    /// Deletes the objects of a removed backup; the mark itself stays, so that the name is never
    /// used again. Refuses one without mark, and one whose packs another backup may need (I5).
    pub async fn sweep(&self, shard: &ShardId, name: &BackupName) -> Result<Swept> {
        let mark = layout::removed(shard, name);
        if !self.store().exists(&mark).await? {
            return Err(Error::refused(format!(
                "backup {name} of {shard} is not marked as removed: nothing of it is deleted"
            )));
        }
        self.check_unreferenced(shard, name).await?;

        // The manifest first: what is half swept must not look like a backup that lost its packs.
        let manifest = layout::manifest(shard, name);
        let mut swept = Swept::default();
        let mut keys = Vec::new();
        for prefix in [
            layout::backup(shard, name),
            layout::backup_packs(shard, name),
        ] {
            self.store().check_no_links(&prefix).await?;
            for object in self.store().list(&prefix).await? {
                if object.key == mark {
                    continue;
                }
                swept.objects += 1;
                swept.bytes += object.bytes;
                if object.key != manifest {
                    keys.push(object.key);
                }
            }
        }
        self.store().delete(vec![manifest]).await?;
        self.store().delete(keys).await?;
        self.store()
            .clear_leftovers(&layout::parts(shard, name))
            .await?;
        self.store()
            .clear_leftovers(&layout::backup_packs(shard, name))
            .await?;
        Ok(swept)
    }

    async fn check_unreferenced(&self, shard: &ShardId, name: &BackupName) -> Result<()> {
        for backup in self.scan(shard).await? {
            match backup.state {
                StoredState::Complete { header, .. } if header.refers_to.contains(name) => {
                    return Err(Error::refused(format!(
                        "backup {} of {shard} needs packs of {name}: nothing of it is deleted",
                        backup.name
                    )));
                }
                StoredState::Broken { reason } => {
                    return Err(Error::refused(format!(
                        "backup {} of {shard} cannot be read, so nobody knows what it needs: {reason}",
                        backup.name
                    ))
                    .hint("Remove the broken backup first."));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Why a backup was removed, as its mark says.
pub(super) async fn read_reason(
    repository: &Repository,
    shard: &ShardId,
    name: &BackupName,
) -> Result<String> {
    let key = layout::removed(shard, name);
    match repository.store().get(&key, MARK_BYTES_MAX).await {
        // A damaged mark is a mark.
        Ok(bytes) => Ok(serde_json::from_slice::<Mark>(&bytes)
            .map_or_else(|_| "its mark cannot be read".to_owned(), |mark| mark.reason)),
        Err(e) if e.kind() == ErrorKind::Corrupt => Ok(e.message().to_owned()),
        Err(e) => Err(e),
    }
}

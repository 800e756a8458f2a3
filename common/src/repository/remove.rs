//! Giving a backup up: the `removed` mark, phase one of a deletion. Phase two is a collection.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    header::{FORMAT_VERSION, Repository},
    layout,
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

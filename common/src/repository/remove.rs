//! Giving a backup up, and removing what it left.

use super::header::Repository;
use crate::{
    error::{Error, Result},
    ids::{BackupName, ShardId},
};

/// What a sweep deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub objects: u64,
    pub bytes: u64,
}

impl Repository {
    /// Puts the `removed` mark: from then on the backup does not exist (I2). May be repeated.
    pub async fn abandon(&self, _shard: &ShardId, _name: &BackupName, _reason: &str) -> Result<()> {
        Err(Error::internal("removing is not built yet"))
    }

    /// Deletes the objects of a removed backup; the mark itself stays. Refuses one without mark.
    pub async fn sweep(&self, _shard: &ShardId, _name: &BackupName) -> Result<Swept> {
        Err(Error::internal("removing is not built yet"))
    }
}

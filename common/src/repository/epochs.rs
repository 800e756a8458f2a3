//! The coordinator's record of a reign: who was primary of a shard, and since when.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{header::Repository, layout};
use crate::{
    error::{Error, Result},
    ids::{Alias, ShardId},
    position::Position,
};

/// One reign over a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    pub number: u64,
    pub alias: Alias,
    pub server_id: u32,
    /// Where this reign's history began.
    pub start_position: Position,
    pub began_unix_ms: u64,
    /// Number of the reign before; 0: this is the first.
    pub before: u64,
}

impl Repository {
    /// Writes a reign's record. The same record already there is success, another a conflict (I4).
    pub async fn put_epoch(&self, shard: &ShardId, record: &EpochRecord) -> Result<()> {
        let bytes = serde_json::to_vec(record)
            .map_err(|e| Error::internal(format!("cannot write an epoch record: {e}")))?;
        self.store()
            .put_create(&layout::epoch(shard, record.number), Bytes::from(bytes))
            .await
    }

    /// The highest reign on record; 0: none.
    pub async fn newest_epoch(&self, shard: &ShardId) -> Result<u64> {
        let names = self.store().folder(&layout::epochs(shard)).await?.objects;
        self.check_there().await?;
        let numbers = names.iter().filter_map(|name| name.parse::<u64>().ok());
        Ok(numbers.max().unwrap_or(0))
    }
}

//! The coordinator's record of a reign: who was primary of a shard, and since when.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{header::Repository, layout};
use crate::{
    error::{Error, Result},
    ids::{Alias, ShardId},
    position::Position,
};

const RECORD_BYTES_MAX: u64 = 64 << 10;

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

    /// The reigns on record, by number.
    pub async fn epoch_records(&self, shard: &ShardId) -> Result<Vec<EpochRecord>> {
        let names = self.store().folder(&layout::epochs(shard)).await?.objects;
        self.check_there().await?;
        let mut records = Vec::new();
        for number in names.iter().filter_map(|name| layout::number(name, 20)) {
            let key = layout::epoch(shard, number);
            let bytes = self.store().get(&key, RECORD_BYTES_MAX).await?;
            let record: EpochRecord = serde_json::from_slice(&bytes)
                .map_err(|e| Error::corrupt(format!("object {key} cannot be understood: {e}")))?;
            if record.number != number {
                return Err(Error::corrupt(format!(
                    "object {key} says that it is number {}",
                    record.number
                )));
            }
            records.push(record);
        }
        records.sort_by_key(|record| record.number);
        Ok(records)
    }

    /// The highest reign on record; 0: none.
    pub async fn newest_epoch(&self, shard: &ShardId) -> Result<u64> {
        let names = self.store().folder(&layout::epochs(shard)).await?.objects;
        self.check_there().await?;
        let numbers = names.iter().filter_map(|name| name.parse::<u64>().ok());
        Ok(numbers.max().unwrap_or(0))
    }
}

//! The Raft library's log storage, over [`DurableLog`]. The conformance suite of the library runs
//! on it (in `raft/conformance.rs`); another store would take the place of [`DurableLog`] here.

use std::{
    fmt::Debug,
    ops::{Bound, RangeBounds, RangeInclusive},
    path::PathBuf,
    sync::Arc,
};

use openraft::{
    LogState, OptionalSend, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};
use seawall_common::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Entry, LogId, StorageError, Types, Vote,
    durable_log::{DurableLog, Mark, Record},
};
use crate::platform::{blocking, die, open_medium};

/// Bytes of entries that go to a follower in one message.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone)]
pub struct LogStore {
    log: Arc<DurableLog>,
}

impl LogStore {
    pub async fn open(directory: PathBuf) -> Result<Self> {
        let log = blocking(move || {
            DurableLog::open(open_medium(&directory)?, |payload| {
                Ok(decode::<Option<LogId>>(payload)?.map(|id| id.index))
            })
        })
        .await?;
        Ok(Self { log: Arc::new(log) })
    }

    pub fn size_bytes(&self) -> u64 {
        self.log.size_bytes()
    }

    pub fn purged(&self) -> Result<Option<LogId>> {
        self.mark(Mark::Purged)
    }

    fn mark<T: DeserializeOwned>(&self, mark: Mark) -> Result<Option<T>> {
        self.log
            .mark(mark)?
            .map_or(Ok(None), |payload| decode(&payload))
    }

    async fn entries(
        &self,
        range: Option<RangeInclusive<u64>>,
        bytes_max: usize,
    ) -> Result<Vec<Entry>> {
        let Some(range) = range else {
            return Ok(Vec::new());
        };
        let log = self.log.clone();
        blocking(move || {
            let records = log.read(range, bytes_max)?;
            records.iter().map(|(_, payload)| decode(payload)).collect()
        })
        .await
    }
}

fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T> {
    serde_json::from_slice(payload)
        .map_err(|e| Error::corrupt(format!("cannot read a log value: {e}")))
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::internal(format!("cannot write a log value: {e}")))
}

fn inclusive(range: &impl RangeBounds<u64>) -> Option<RangeInclusive<u64>> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => *end,
        Bound::Excluded(after) => after.checked_sub(1)?,
        Bound::Unbounded => u64::MAX,
    };
    (start <= end).then_some(start..=end)
}

fn read_error(error: Error) -> StorageError {
    StorageIOError::read_logs(&error).into()
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.entries(inclusive(&range), usize::MAX)
            .await
            .map_err(read_error)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.entries(inclusive(&(start..end)), MESSAGE_BYTES_MAX)
            .await
            .map_err(read_error)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let store = self.clone();
        let (purged, last) = blocking(move || {
            let last: Option<Entry> = match store.log.last()? {
                Some((_, payload)) => Some(decode(&payload)?),
                None => None,
            };
            Ok((store.purged()?, last.map(|entry| entry.log_id)))
        })
        .await
        .map_err(read_error)?;
        Ok(LogState {
            last_purged_log_id: purged,
            last_log_id: last.or(purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let (log, payload) = (self.log.clone(), encode(vote));
        blocking(move || log.put_mark(Mark::Vote, &payload?, true))
            .await
            .map_err(|e| StorageIOError::write_vote(&e).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.mark(Mark::Vote)
            .map_err(|e| StorageIOError::read_vote(&e).into())
    }

    /// Not synced by itself: it follows with the next commit. Too old a value after a crash only
    /// means that the leader says it again.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let (log, payload) = (self.log.clone(), encode(&committed));
        blocking(move || log.put_mark(Mark::Committed, &payload?, false))
            .await
            .map_err(|e| StorageIOError::write(&e).into())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self
            .mark::<Option<LogId>>(Mark::Committed)
            .map_err(read_error)?
            .flatten())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records: Result<Vec<Record>> = entries
            .into_iter()
            .map(|entry| Ok((entry.log_id.index, encode(&entry)?)))
            .collect();
        let log = self.log.clone();
        if let Err(e) = blocking(move || log.append(&records?)).await {
            die("cannot append to the log", &e);
        }
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let log = self.log.clone();
        blocking(move || log.truncate_from(log_id.index))
            .await
            .map_err(|e| StorageIOError::write_logs(&e).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let (log, mark) = (self.log.clone(), encode(&Some(log_id)));
        blocking(move || log.purge_to(log_id.index, &mark?))
            .await
            .map_err(|e| StorageIOError::write_logs(&e).into())
    }
}

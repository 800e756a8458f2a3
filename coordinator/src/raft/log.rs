//! The Raft library's log storage, over [`DurableLog`]. The conformance suite of the library runs
//! on it (in `raft/conformance.rs`); another store would take the place of [`DurableLog`] here.
//!
//! A leader sends an entry to the others while it writes it itself: the library is told that its own
//! append is done when it has only begun. What that would break is held back until the entry is on
//! this disk (`docs/decisions/0017`): the others' answers and the news of what is committed
//! (`replication.rs`), and applying (`machine.rs`).

use std::{
    fmt::Debug,
    ops::{Bound, RangeBounds, RangeInclusive},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use openraft::{
    LogState, OptionalSend, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};
use seawall_common::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::{
    Entry, LogId, StorageError, Types, Vote,
    durable_log::{DurableLog, Mark, Record, Write},
    log_writer::{LogWriter, OnDisk},
    recent::Recent,
};
use crate::platform::{Missing, blocking, die, open_medium};

/// Bytes of entries that go to a follower in one message.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone)]
pub struct LogStore {
    member: u64,
    log: Arc<DurableLog>,
    writer: LogWriter,
    memory: Arc<Mutex<Memory>>,
    covered: Option<Covered>,
}

/// How many entries the newest snapshot covers: the index of the last and one more.
type Covered = watch::Receiver<u64>;

/// What was asked to be written, on disk or not yet.
#[derive(Default)]
struct Memory {
    recent: Recent,
    vote: Option<Vote>,
    /// Follows with the next append.
    committed: Option<LogId>,
}

impl LogStore {
    pub async fn open(member: u64, directory: PathBuf, if_missing: Missing) -> Result<Self> {
        let log = blocking(move || {
            DurableLog::open(open_medium(&directory, if_missing)?, |payload| {
                Ok(decode::<Option<LogId>>(payload)?.map(|id| id.index))
            })
        })
        .await?;
        let log = Arc::new(log);
        let writer = LogWriter::start(log.clone())?;
        let store = Self {
            member,
            log,
            writer,
            memory: Arc::default(),
            covered: None,
        };
        store.memory().vote = store.vote()?;
        Ok(store)
    }

    /// With this it purges nothing before a snapshot stands in its place: the library begins both at
    /// once when it takes a snapshot from another member.
    pub fn purged_when_covered(self, covered: Covered) -> Self {
        let covered = Some(covered);
        Self { covered, ..self }
    }

    pub fn on_disk(&self) -> &OnDisk {
        self.writer.on_disk()
    }

    pub fn purged(&self) -> Result<Option<LogId>> {
        self.mark(Mark::Purged)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark<T: DeserializeOwned>(&self, mark: Mark) -> Result<Option<T>> {
        self.log
            .mark(mark)?
            .map_or(Ok(None), |payload| decode(&payload))
    }

    /// A leader that starts again does not lead again in its term: its log may have lost what others
    /// have of that term, and it would give their numbers to other entries.
    fn vote(&self) -> Result<Option<Vote>> {
        let vote: Option<Vote> = self.mark(Mark::Vote)?;
        let is_own = |vote: &Vote| vote.leader_id().voted_for() == Some(self.member);
        Ok(vote.map(|vote| match is_own(&vote) {
            true => Vote::new(vote.leader_id().term, self.member),
            false => vote,
        }))
    }

    async fn entries(
        &self,
        range: Option<RangeInclusive<u64>>,
        bytes_max: usize,
    ) -> Result<Vec<Entry>> {
        let Some(range) = range else {
            return Ok(Vec::new());
        };
        let (recent, first_recent) = {
            let memory = self.memory();
            let first = memory.recent.first().unwrap_or(u64::MAX);
            // Where bytes are counted, what comes after older ones is asked for next.
            let recent = match *range.start() >= first || bytes_max == usize::MAX {
                true => memory.recent.range(range.clone(), bytes_max),
                false => Vec::new(),
            };
            (recent, first)
        };
        if *range.start() >= first_recent {
            return Ok(recent);
        }
        let log = self.log.clone();
        let older = *range.start()..=(*range.end()).min(first_recent - 1);
        let mut entries: Vec<Entry> = blocking(move || {
            let records = log.read(older, bytes_max)?;
            records.iter().map(|(_, payload)| decode(payload)).collect()
        })
        .await?;
        entries.extend(recent);
        Ok(entries)
    }

    /// Whether this member leads and makes these entries, or has them from a leader.
    fn are_own(&self, entries: &[Entry]) -> bool {
        let Some(vote) = self.memory().vote else {
            return false;
        };
        let term = vote.leader_id().term;
        vote.is_committed()
            && vote.leader_id().voted_for() == Some(self.member)
            && entries
                .iter()
                .all(|entry| entry.log_id.leader_id.term == term)
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
            if let Some(last) = store.memory().recent.last() {
                return Ok((store.purged()?, Some(last.log_id)));
            }
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
        self.memory().vote = Some(*vote);
        self.write(encode(vote).map(|payload| vec![Write::Mark(Mark::Vote, payload)]))
            .await
            .map_err(|e| StorageIOError::write_vote(&e).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.vote()
            .map_err(|e| StorageIOError::read_vote(&e).into())
    }

    /// Not written by itself: it follows with the next append. Too old a value after a crash only
    /// means that the leader says it again.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.memory().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        if let Some(committed) = self.memory().committed {
            return Ok(Some(committed));
        }
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
        let entries: Vec<Entry> = entries.into_iter().collect();
        let are_own = self.are_own(&entries);
        if let Err(e) = self.append_in_order(entries, are_own).await {
            die("cannot append to the log", &e);
        }
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let from = log_id.index;
        self.memory().recent.truncate(from);
        self.write(Ok(vec![Write::Truncate { from }]))
            .await
            .map_err(|e| StorageIOError::write_logs(&e).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let upto = log_id.index;
        if let Some(mut covered) = self.covered.clone() {
            let covers = covered.wait_for(|covered| upto < *covered);
            covers.await.map_err(|_| {
                StorageIOError::write_logs(&Error::internal("no snapshots are made any more"))
            })?;
        }
        self.write(encode(&Some(log_id)).map(|mark| vec![Write::Purge { upto, mark }]))
            .await
            .map_err(|e| StorageIOError::write_logs(&e))?;
        self.memory().recent.purge(upto);
        Ok(())
    }
}

impl LogStore {
    async fn write(&self, writes: Result<Vec<Write>>) -> Result<()> {
        self.writer.write(writes?).await
    }

    /// Entries of our own can be read when this returns, and are on their way to the disk; others
    /// are there.
    async fn append_in_order(&self, entries: Vec<Entry>, are_own: bool) -> Result<()> {
        let records: Result<Vec<Record>> = entries
            .iter()
            .map(|entry| Ok((entry.log_id.index, encode(entry)?)))
            .collect();
        let records = records?;
        let mut writes = Vec::new();
        {
            let mut memory = self.memory();
            for (entry, (_, payload)) in entries.into_iter().zip(&records) {
                memory.recent.push(entry, payload.len());
            }
            if let Some(committed) = memory.committed.take() {
                writes.push(Write::Mark(Mark::Committed, encode(&Some(committed))?));
            }
        }
        writes.push(Write::Append(records));
        let written = self.writer.enqueue(writes).await?;
        let first_unsynced = self.on_disk().first_unsynced();
        self.memory().recent.shrink(first_unsynced);
        if !are_own {
            let ended = |_| Error::internal("the log was not written");
            written.await.map_err(ended)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;

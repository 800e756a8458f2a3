//! The replicated state around [`State`]: applies committed entries, and makes and takes snapshots.
//!
//! The state lives in memory; after a restart it is built again from the newest snapshot and the
//! log. Nothing here decides anything: [`State::apply`] does.

use std::{
    io::Cursor,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError,
    storage::RaftStateMachine,
};
use seawall_common::{Error, Result};
use tokio::sync::watch;

use super::{
    Entry, LogId, SnapshotMeta, StorageError, StoredMembership, Types,
    log_writer::OnDisk,
    snapshot::{Snapshots, StoredSnapshot},
};
use crate::{
    platform::blocking,
    state::{Response, State},
};

#[derive(Clone, Default)]
struct Applied {
    state: State,
    last: Option<LogId>,
    membership: StoredMembership,
}

#[derive(Clone)]
pub struct Machine {
    applied: Arc<RwLock<Applied>>,
    snapshots: Arc<Snapshots>,
    on_disk: OnDisk,
    /// How many entries have been applied: the index of the last and one more.
    progress: Arc<watch::Sender<u64>>,
}

impl Machine {
    pub async fn open(directory: PathBuf, on_disk: OnDisk) -> Result<Self> {
        let (snapshots, newest) = blocking(move || {
            let snapshots = Snapshots::open(directory)?;
            let newest = snapshots.newest()?;
            Ok((snapshots, newest))
        })
        .await?;
        let machine = Self {
            applied: Arc::default(),
            snapshots: Arc::new(snapshots),
            on_disk,
            progress: Arc::new(watch::Sender::new(0)),
        };
        if let Some(StoredSnapshot { meta, state }) = newest {
            machine.replace(&meta, &state)?;
            #[cfg(feature = "sim")]
            if crate::sim::is_planted(crate::sim::Bug::ForgottenBound) {
                machine.exclusive().state.timestamps.forget_bound();
            }
        }
        Ok(machine)
    }

    /// Looks at the state as this member has applied it.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared().state)
    }

    pub fn last_applied(&self) -> Option<LogId> {
        self.shared().last
    }

    /// How many entries the newest snapshot covers.
    pub fn covered(&self) -> watch::Receiver<u64> {
        self.snapshots.covered()
    }

    /// Changes whenever entries have been applied.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    // A poisoned lock means that `apply` has panicked; the state it left is the one before the
    // panicking command or a torn one, and Raft's core has stopped: nothing is acknowledged any more.
    fn shared(&self) -> RwLockReadGuard<'_, Applied> {
        self.applied.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, Applied> {
        self.applied.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, meta: &SnapshotMeta, state: &[u8]) -> Result<()> {
        let state = serde_json::from_slice(state)
            .map_err(|e| Error::corrupt(format!("cannot read the state in a snapshot: {e}")))?;
        *self.exclusive() = Applied {
            state,
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        self.tell();
        Ok(())
    }

    /// Answers the entries themselves when somebody looks, or copies all of it: that is not waited
    /// for on the thread of the consensus.
    fn apply_at_once(&self, entries: Vec<Entry>) -> Result<Vec<Vec<Response>>, Vec<Entry>> {
        match self.applied.try_write() {
            Ok(mut applied) => Ok(applied.apply_all(entries)),
            Err(_) => Err(entries),
        }
    }

    async fn apply_elsewhere(
        &self,
        entries: Vec<Entry>,
    ) -> Result<Vec<Vec<Response>>, StorageError> {
        let machine = self.clone();
        blocking(move || Ok(machine.exclusive().apply_all(entries)))
            .await
            .map_err(|e| StorageIOError::write_state_machine(&e).into())
    }

    fn tell(&self) {
        let progress = self.last_applied().map_or(0, |id| id.index + 1);
        self.progress.send_replace(progress);
    }
}

impl Applied {
    fn apply_all(&mut self, entries: Vec<Entry>) -> Vec<Vec<Response>> {
        let applied = entries.into_iter().map(|entry| self.apply(entry));
        applied.collect()
    }

    fn apply(&mut self, entry: Entry) -> Vec<Response> {
        self.last = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Normal(commands) => {
                #[cfg(feature = "sim")]
                if crate::sim::is_planted(crate::sim::Bug::AppliedTwice)
                    && rand::random_range(0..20) == 0
                {
                    commands.iter().for_each(|command| {
                        self.state.apply(command);
                    });
                }
                commands
                    .iter()
                    .map(|command| self.state.apply(command))
                    .collect()
            }
            EntryPayload::Membership(membership) => {
                let ids = membership.nodes().map(|(id, _)| *id).collect();
                self.state.members.observe(ids);
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Vec::new()
            }
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let applied = self.shared();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Response>>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        if let Some(last) = entries.last() {
            let on_disk = self.on_disk.reaches(last.log_id.index).await;
            on_disk.map_err(|e| StorageIOError::apply(last.log_id, &e))?;
        }
        let responses = match self.apply_at_once(entries) {
            Ok(responses) => responses,
            Err(entries) => self.apply_elsewhere(entries).await?,
        };
        self.tell();
        Ok(responses)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let (machine, meta) = (self.clone(), meta.clone());
        let signature = meta.signature();
        blocking(move || {
            let state = snapshot.into_inner();
            machine.snapshots.put(&meta, &state)?;
            machine.replace(&meta, &state)
        })
        .await
        .map_err(|e| StorageIOError::write_snapshot(Some(signature), &e).into())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let snapshots = self.snapshots.clone();
        let newest = blocking(move || snapshots.newest())
            .await
            .map_err(|e| StorageIOError::read_snapshot(None, &e))?;
        Ok(newest.map(|StoredSnapshot { meta, state }| Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(state)),
        }))
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let machine = self.clone();
        let snapshot_id = uuid::Uuid::new_v4().to_string();
        blocking(move || {
            let applied = machine.shared().clone();
            let meta = SnapshotMeta {
                last_log_id: applied.last,
                last_membership: applied.membership,
                snapshot_id,
            };
            let state = applied.state.encoded()?;
            machine.snapshots.put(&meta, &state)?;
            Ok(Snapshot {
                meta,
                snapshot: Box::new(Cursor::new(state)),
            })
        })
        .await
        .map_err(|e| StorageIOError::write_snapshot(None, &e).into())
    }
}

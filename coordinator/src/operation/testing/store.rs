//! A store that notes what was done in it, and fails as a test wants it to.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use seawall_common::{
    Error, Result,
    ids::{BackupName, ShardId},
    repository::{
        BatchLimits, Collected, CollectionRequest, EpochRecord, GroupBackup, GroupBackups,
        KeyFiles, LeftOf, ManifestHeader, RemovedKeys, StoredBackup, StoredState,
    },
};

use super::{MemoryGroup, Stage};
use crate::{
    group::Group,
    operation::store::Store,
    state::{catalogue, locks::Side, testing::shard},
};

pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Notes what was done, and whether the backup's hold still stood at that moment.
pub struct FakeStore {
    group: Arc<MemoryGroup>,
    pub done: Mutex<Vec<String>>,
    pub backups: Mutex<Vec<StoredBackup>>,
    pub failures: Mutex<u32>,
    /// What the next batches of collections come to; then nothing is left.
    pub batches: Mutex<VecDeque<Result<Collected>>>,
    pub requests: Mutex<Vec<CollectionRequest>>,
    pub hang_collecting: Mutex<bool>,
    pub owner: Mutex<Option<Error>>,
    /// The packs that each backup needs.
    pub packs: Mutex<BTreeMap<BackupName, BTreeSet<String>>>,
    /// Reading them never ends.
    pub hang_packs: Mutex<bool>,
    /// How often they cannot be read.
    pub packs_failures: Mutex<u32>,
    /// Key files of a recipient that can be deleted, one in a batch, and that have to stay.
    pub keys: Mutex<(usize, u64)>,
    /// Deleting them never ends.
    pub hang_keys: Mutex<bool>,
    /// How often it was asked whose it is.
    pub owner_checks: Mutex<usize>,
    /// When it was asked so often another group takes it over.
    pub lost_after_checks: Mutex<Option<usize>>,
    /// The group's backups, by name.
    pub group_states: Mutex<BTreeMap<String, (GroupBackup, Vec<u8>)>>,
    /// Names of those of which there are only keys.
    pub unfinished: Mutex<BTreeSet<String>>,
    /// How many of the group's backups were begun.
    pub group_states_begun: Mutex<usize>,
    /// Putting one does not end for as long as this is set.
    pub hang_group_states: Mutex<bool>,
    /// Listing and removing them never ends.
    pub hang_tidying: Mutex<bool>,
    /// How often they cannot be listed.
    pub tidying_failures: Mutex<u32>,
    /// After so many were removed no more can be.
    pub removals_before_failure: Mutex<Option<u32>>,
    /// The shards that were read, one after the other.
    pub scans: Mutex<Vec<ShardId>>,
    /// Reading one does not end for as long as this is set.
    pub hang_scans: Mutex<bool>,
}

impl FakeStore {
    pub fn new(group: Arc<MemoryGroup>) -> Self {
        Self {
            group,
            done: Mutex::default(),
            backups: Mutex::default(),
            failures: Mutex::default(),
            batches: Mutex::default(),
            requests: Mutex::default(),
            hang_collecting: Mutex::default(),
            owner: Mutex::default(),
            packs: Mutex::default(),
            hang_packs: Mutex::default(),
            packs_failures: Mutex::default(),
            keys: Mutex::default(),
            hang_keys: Mutex::default(),
            owner_checks: Mutex::default(),
            lost_after_checks: Mutex::default(),
            group_states: Mutex::default(),
            unfinished: Mutex::default(),
            group_states_begun: Mutex::default(),
            hang_group_states: Mutex::default(),
            hang_tidying: Mutex::default(),
            tidying_failures: Mutex::default(),
            removals_before_failure: Mutex::default(),
            scans: Mutex::default(),
            hang_scans: Mutex::default(),
        }
    }

    fn note(&self, what: String) -> Result<()> {
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(Error::unavailable("the store is away"));
        }
        self.done.lock().unwrap().push(what);
        Ok(())
    }

    async fn tidying(&self) {
        let hangs = *self.hang_tidying.lock().unwrap();
        if hangs {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Store for FakeStore {
    fn id(&self) -> &'static str {
        "repository"
    }

    fn request_timeout(&self) -> Duration {
        REQUEST_TIMEOUT
    }

    async fn check_owner(&self, _group_id: &str) -> Result<()> {
        let mut checks = self.owner_checks.lock().unwrap();
        *checks += 1;
        if self
            .lost_after_checks
            .lock()
            .unwrap()
            .is_some_and(|after| *checks > after)
        {
            return Err(Error::refused("the repository belongs to another group"));
        }
        self.owner.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    async fn put_group_state(&self, backup: GroupBackup, state: Vec<u8>) -> Result<GroupBackup> {
        *self.group_states_begun.lock().unwrap() += 1;
        let hangs = || *self.hang_group_states.lock().unwrap();
        while hangs() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.note(format!("state of {}", backup.group_id))?;
        let mut states = self.group_states.lock().unwrap();
        states.insert(backup.name.clone(), (backup.clone(), state));
        Ok(backup)
    }

    async fn group_backups(&self) -> Result<GroupBackups> {
        self.tidying().await;
        let mut failures = self.tidying_failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(Error::unavailable("the store is away"));
        }
        Ok(GroupBackups {
            complete: self.group_states.lock().unwrap().keys().cloned().collect(),
            unfinished: self.unfinished.lock().unwrap().iter().cloned().collect(),
        })
    }

    async fn group_backup(&self, name: &str) -> Result<GroupBackup> {
        let states = self.group_states.lock().unwrap();
        let found = states.get(name).map(|(backup, _)| backup.clone());
        found.ok_or_else(|| Error::not_found(format!("no {name}")))
    }

    async fn remove_group_backup(&self, name: &str) -> Result<()> {
        self.tidying().await;
        if let Some(left) = self.removals_before_failure.lock().unwrap().as_mut() {
            if *left == 0 {
                return Err(Error::unavailable("the store is away"));
            }
            *left -= 1;
        }
        self.group_states.lock().unwrap().remove(name);
        self.unfinished.lock().unwrap().remove(name);
        Ok(())
    }

    async fn put_epoch(&self, _shard: &ShardId, record: &EpochRecord) -> Result<()> {
        self.note(format!("epoch {} of {}", record.number, record.alias))
    }

    async fn newest_epoch(&self, _shard: &ShardId) -> Result<u64> {
        Ok(0)
    }

    async fn scan(&self, of: &ShardId) -> Result<Vec<StoredBackup>> {
        self.scans.lock().unwrap().push(of.clone());
        let hangs = || *self.hang_scans.lock().unwrap();
        while hangs() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // All that it has is of the one shard.
        Ok(match *of == shard() {
            true => self.backups.lock().unwrap().clone(),
            false => Vec::new(),
        })
    }

    async fn shards_of_recipient(&self, _recipient: &str) -> Result<Vec<ShardId>> {
        let (deletable, kept) = *self.keys.lock().unwrap();
        Ok(match (deletable, kept) {
            (0, 0) => Vec::new(),
            _ => vec![shard()],
        })
    }

    async fn remove_recipient(
        &self,
        shard: &ShardId,
        recipient: &str,
        batch: usize,
    ) -> Result<RemovedKeys> {
        let group: &dyn Group = &*self.group;
        let held = group.look(|state| {
            let holds = state.locks.holds();
            holds.filter(|hold| hold.side == Side::Delete).count()
        });
        self.note(format!("remove {recipient} of {shard}: {held} held"))?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let hang = *self.hang_keys.lock().unwrap();
        if hang {
            std::future::pending::<()>().await;
        }
        let mut keys = self.keys.lock().unwrap();
        let deleted = batch.min(1).min(keys.0);
        keys.0 -= deleted;
        Ok(RemovedKeys {
            deleted: deleted as u64,
            kept: keys.1,
            left: keys.0 as u64,
        })
    }

    async fn plan_recipient_removal(
        &self,
        _shard: &ShardId,
        _recipient: &str,
    ) -> Result<BTreeMap<BackupName, KeyFiles>> {
        let (going, staying) = *self.keys.lock().unwrap();
        let files = KeyFiles {
            going: going as u64,
            staying,
        };
        let name = "2026-11-25.210749.zone1-101".parse()?;
        Ok(BTreeMap::from([(name, files)]))
    }

    async fn packs_of(
        &self,
        _shard: &ShardId,
        name: &BackupName,
        _manifest_hash: &str,
    ) -> Result<BTreeSet<String>> {
        let hang = *self.hang_packs.lock().unwrap();
        if hang {
            std::future::pending::<()>().await;
        }
        let mut failures = self.packs_failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(Error::unavailable("the store is away"));
        }
        let packs = self.packs.lock().unwrap().get(name).cloned();
        Ok(packs.unwrap_or_default())
    }

    async fn abandon(&self, _shard: &ShardId, _name: &BackupName, _reason: &str) -> Result<()> {
        let group: &dyn Group = &*self.group;
        let holds = group.look(|state| state.locks.holds().count());
        self.note(format!("removed while {holds} held"))
    }

    async fn plan_collection(
        &self,
        _shard: &ShardId,
        _request: &CollectionRequest,
    ) -> Result<BTreeMap<BackupName, LeftOf>> {
        Ok(BTreeMap::new())
    }

    async fn collect(
        &self,
        _shard: &ShardId,
        request: &CollectionRequest,
        _limits: BatchLimits,
    ) -> Result<Collected> {
        self.requests.lock().unwrap().push(request.clone());
        let group: &dyn Group = &*self.group;
        let holds = group.look(|state| state.locks.holds().count());
        let hang = *self.hang_collecting.lock().unwrap();
        if hang {
            std::future::pending::<()>().await;
        }
        self.note(format!("swept while {holds} held"))?;
        let next = self.batches.lock().unwrap().pop_front();
        next.unwrap_or_else(|| Ok(Collected::default()))
    }
}

/// Has the store show what the catalogue says is complete.
pub fn keep_in_store(stage: &Stage) {
    let shard = shard();
    let stored = stage.look(|state| {
        let entries = state.catalogue.complete_ones(&shard);
        entries
            .map(|entry| StoredBackup {
                name: entry.name.clone(),
                state: StoredState::Complete {
                    header: Box::new(header(entry)),
                    manifest_hash: entry.facts.manifest_hash.clone(),
                },
            })
            .collect()
    });
    *stage.store.backups.lock().unwrap() = stored;
}

fn header(entry: &catalogue::Entry) -> ManifestHeader {
    ManifestHeader {
        version: 1,
        name: entry.name.clone(),
        shard: entry.shard.clone(),
        alias: entry.alias.parse().unwrap(),
        engine: entry.facts.engine.clone(),
        epoch: entry.facts.epoch,
        position: entry.facts.position.clone(),
        started_unix_ms: 0,
        ended_unix_ms: 0,
        logical_bytes: 0,
        stored_bytes: 0,
        files: 0,
        encrypted: false,
        chunk_bytes: 1 << 20,
        lists: Vec::new(),
        pack_lists: Vec::new(),
        refers_to: Vec::new(),
        damaged_pages: 0,
        writer_key: entry.facts.writer_key.clone(),
    }
}

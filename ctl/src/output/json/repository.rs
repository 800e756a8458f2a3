//! What lies in a repository, read from it and from nobody else.

use seawall_common::{
    ids::ShardId,
    repository::{
        Finding, InspectedBackup, Inspection, Objects, Owner, Repository, StoredBackup, StoredState,
    },
};
use serde::Serialize;

use super::known;
use crate::output::human::time;

#[derive(Debug, Serialize)]
pub struct StoredRepository {
    repository_url: String,
    repository_id: String,
    owner: Option<RepositoryOwner>,
    backups: Vec<Stored>,
}

#[derive(Debug, Serialize)]
struct RepositoryOwner {
    number: u64,
    group_id: String,
    claimed_at: Option<String>,
}

/// A backup as its manifest's clear header describes it; `null` where it has none.
#[derive(Debug, Serialize)]
struct Stored {
    name: String,
    keyspace: String,
    shard: String,
    state: &'static str,
    alias: Option<String>,
    engine: Option<String>,
    epoch: Option<u64>,
    position: Option<String>,
    started_at: Option<String>,
    ended_at: Option<String>,
    logical_bytes: Option<u64>,
    stored_bytes: Option<u64>,
    files: Option<u64>,
    encrypted: Option<bool>,
    damaged_pages: Option<u64>,
    refers_to: Option<Vec<String>>,
    manifest_hash: Option<String>,
    writer_key: Option<String>,
    /// Null: no writers are pinned.
    writer_is_trusted: Option<bool>,
    note: Option<String>,
}

impl StoredRepository {
    pub fn new<'a>(
        repository: &Repository,
        owner: Option<&Owner>,
        backups: impl Iterator<Item = (&'a ShardId, &'a StoredBackup)>,
    ) -> Self {
        Self {
            repository_url: repository.url().to_owned(),
            repository_id: repository.id().to_owned(),
            owner: owner.map(|owner| RepositoryOwner {
                number: owner.number,
                group_id: owner.group_id.clone(),
                claimed_at: time(owner.claimed_unix_ms),
            }),
            backups: backups
                .map(|(shard, backup)| stored(repository, shard, backup))
                .collect(),
        }
    }
}

/// The state in a word, and why it is so.
pub fn stored_state(state: &StoredState) -> (&'static str, Option<&str>) {
    match state {
        StoredState::Complete { .. } => ("complete", None),
        StoredState::Incomplete => ("incomplete", None),
        StoredState::Removed { reason } => ("removed", Some(reason)),
        StoredState::Broken { reason } => ("broken", Some(reason)),
    }
}

fn stored(repository: &Repository, shard: &ShardId, backup: &StoredBackup) -> Stored {
    let (header, manifest_hash) = match &backup.state {
        StoredState::Complete {
            header,
            manifest_hash,
        } => (Some(&**header), Some(manifest_hash.clone())),
        _ => (None, None),
    };
    let (state, note) = stored_state(&backup.state);
    Stored {
        name: backup.name.to_string(),
        keyspace: shard.keyspace().to_owned(),
        shard: shard.shard().to_owned(),
        state,
        alias: header.map(|h| h.alias.to_string()),
        engine: header.map(|h| h.engine.clone()),
        epoch: header.map(|h| h.epoch),
        position: header.and_then(|h| known(&h.position.to_string())),
        started_at: header.and_then(|h| time(h.started_unix_ms)),
        ended_at: header.and_then(|h| time(h.ended_unix_ms)),
        logical_bytes: header.map(|h| h.logical_bytes),
        stored_bytes: header.map(|h| h.stored_bytes),
        files: header.map(|h| h.files),
        encrypted: header.map(|h| h.encrypted),
        damaged_pages: header.map(|h| h.damaged_pages),
        refers_to: header.map(|h| h.refers_to.iter().map(ToString::to_string).collect()),
        manifest_hash,
        writer_key: header.and_then(|h| known(&h.writer_key)),
        writer_is_trusted: header
            .filter(|_| repository.pins_writers())
            .map(|h| repository.check_writer(h).is_ok()),
        note: note.map(str::to_owned),
    }
}

/// What `repository check` found.
#[derive(Debug, Serialize)]
pub struct CheckedRepository {
    repository_url: String,
    repository_id: String,
    pub clean: bool,
    pub backups: Vec<CheckedBackup>,
    pub damaged_objects: u64,
    pub damage: Vec<DamagedObject>,
    pub unneeded: ObjectsOfASort,
    pub unfinished: ObjectsOfASort,
    pub unknown: ObjectsOfASort,
    pub catalogue: Option<Vec<CatalogueDifference>>,
    pub notes: Vec<String>,
    pub not_checked: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct CheckedBackup {
    pub name: String,
    pub keyspace: String,
    pub shard: String,
    pub state: &'static str,
    pub packs: Option<u64>,
    pub packs_read: Option<u64>,
    pub bytes_read: Option<u64>,
    pub chunks_checked: Option<u64>,
    pub damaged_objects: Option<u64>,
    pub lost_files: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
pub struct DamagedObject {
    pub object: String,
    pub what: String,
}

#[derive(Debug, Serialize)]
pub struct ObjectsOfASort {
    pub objects: u64,
    pub bytes: u64,
    pub named: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct CatalogueDifference {
    pub keyspace: String,
    pub shard: String,
    pub name: String,
    pub what: String,
    pub damage: bool,
}

impl CheckedRepository {
    pub fn new(
        repository: &Repository,
        found: &Inspection,
        catalogue: Option<Vec<CatalogueDifference>>,
    ) -> Self {
        let mut checked = Self {
            repository_url: repository.url().to_owned(),
            repository_id: repository.id().to_owned(),
            clean: true,
            backups: found.backups.iter().map(checked_backup).collect(),
            damaged_objects: found.damaged,
            damage: found.damage.iter().map(damaged_object).collect(),
            unneeded: (&found.unneeded).into(),
            unfinished: (&found.unfinished).into(),
            unknown: (&found.unknown).into(),
            catalogue,
            notes: found.notes.clone(),
            not_checked: found.unchecked.clone(),
        };
        if !repository.pins_writers() && !found.backups.is_empty() {
            let who = "who wrote the backups: no writers are pinned (--repository-trusted-writers)";
            checked.not_checked.push(who.to_owned());
        }
        checked.clean = found.is_clean() && checked.first_damage().is_none();
        checked
    }

    /// The damaged objects' keys.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.damage.iter().map(|d| d.object.as_str()).collect();
        names.join("\n")
    }

    /// What to say of it in one line.
    pub fn first_damage(&self) -> Option<String> {
        let first = self
            .damage
            .first()
            .map(|damage| format!("object {} {}", damage.object, damage.what));
        let lost = self.catalogue.iter().flatten().find(|d| d.damage);
        let lost = lost.map(|d| {
            format!(
                "backup {} of {}/{}: {}",
                d.name, d.keyspace, d.shard, d.what
            )
        });
        match (first, self.damaged_objects) {
            (Some(first), 0 | 1) => Some(first),
            (Some(first), n) => Some(format!("{first}, and {} more", n - 1)),
            (None, _) => lost,
        }
    }
}

fn checked_backup(backup: &InspectedBackup) -> CheckedBackup {
    let report = backup.report.as_ref();
    CheckedBackup {
        name: backup.name.to_string(),
        keyspace: backup.shard.keyspace().to_owned(),
        shard: backup.shard.shard().to_owned(),
        state: stored_state(&backup.state).0,
        packs: report.map(|r| r.packs),
        packs_read: report.map(|r| r.packs_read),
        bytes_read: report.map(|r| r.bytes_read),
        chunks_checked: report.map(|r| r.chunks),
        damaged_objects: report.map(|r| r.damaged_objects),
        lost_files: report.map(|r| r.lost_files.clone()),
    }
}

fn damaged_object(finding: &Finding) -> DamagedObject {
    DamagedObject {
        object: finding.object.clone(),
        what: finding.what.clone(),
    }
}

impl From<&Objects> for ObjectsOfASort {
    fn from(objects: &Objects) -> Self {
        Self {
            objects: objects.count,
            bytes: objects.bytes,
            named: objects.named.clone(),
        }
    }
}

/// What `repository restore` has done, or would do.
#[derive(Debug, Serialize)]
pub struct RestoredBackup {
    pub name: String,
    pub keyspace: String,
    pub shard: String,
    pub dry_run: bool,
    pub engine: String,
    pub engine_version: Option<String>,
    pub epoch: u64,
    pub position: Option<String>,
    pub logical_bytes: u64,
    pub files: u64,
    /// Pages that were damaged in the database when it was copied.
    pub damaged_pages: u64,
    /// Of the data: here already, from a restore that was cut off; `None`: nothing was written.
    pub resumed_bytes: Option<u64>,
    /// Of the data: taken from the repository.
    pub missing_bytes: Option<u64>,
    pub manifest_hash: String,
    pub writer_key: Option<String>,
    /// It is pinned. Never false with pins: such a backup is not restored.
    pub writer_is_trusted: bool,
    pub roots: Vec<RestoredRoot>,
    pub not_checked: Vec<String>,
    pub next_steps: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct RestoredRoot {
    pub name: String,
    pub path: String,
}

//! What lies in a repository, read from it and from nobody else.

use seawall_common::{
    ids::ShardId,
    repository::{Owner, Repository, StoredBackup, StoredState},
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
    refers_to: Option<Vec<String>>,
    manifest_hash: Option<String>,
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
            backups: backups.map(stored).collect(),
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

fn stored((shard, backup): (&ShardId, &StoredBackup)) -> Stored {
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
        refers_to: header.map(|h| h.refers_to.iter().map(ToString::to_string).collect()),
        manifest_hash,
        note: note.map(str::to_owned),
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
    pub manifest_hash: String,
    pub roots: Vec<RestoredRoot>,
    pub not_checked: Vec<String>,
    pub next_steps: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct RestoredRoot {
    pub name: String,
    pub path: String,
}

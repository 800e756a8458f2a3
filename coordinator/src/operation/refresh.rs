//! Brings the catalogue up to what the repository shows: after a crash, and for a group that was
//! given a repository with an older one's backups.

use std::collections::BTreeSet;

use seawall_common::{
    Error, Result,
    ids::{BackupName, ShardId},
    repository::{StoredBackup, StoredState},
};
use serde::Serialize;

use super::Coordination;
use crate::state::{
    Command,
    catalogue::{self, Facts, Found, Known},
};

/// JSON of the backups that one command carries: well below what a command may have.
const BATCH_BYTES: usize = 32 * 1024;
/// JSON of one backup: what is longer than this would not fit into any command.
const FOUND_BYTES_MAX: usize = 60 * 1024;
const NOTE_CHARS_MAX: usize = 500;
pub async fn refresh(context: &Coordination, shard: &ShardId) -> Result<()> {
    let complete_before: BTreeSet<BackupName> = context
        .group
        .read(|state| {
            let complete = state.catalogue.complete_ones(shard);
            complete.map(|entry| entry.name.clone()).collect()
        })
        .await?;
    let stored = context.store.scan(shard).await?;
    let present: BTreeSet<&BackupName> = stored
        .iter()
        .filter(|backup| !matches!(backup.state, StoredState::Incomplete))
        .map(|backup| &backup.name)
        .collect();
    let missing: Vec<BackupName> = complete_before
        .into_iter()
        .filter(|name| !present.contains(name))
        .collect();
    let found: Vec<Found> = stored.iter().map(found).collect::<Result<_>>()?;
    let news: Vec<Found> = context.group.look(|state| {
        let is_news = |found: &Found| catalogue::is_news(state, shard, found);
        found.into_iter().filter(is_news).collect()
    });
    for name in &missing {
        tracing::error!(%shard, backup = %name, "the manifest of a complete backup is no longer in the repository");
    }
    for batch in batches(missing)? {
        import(context, shard, Vec::new(), batch).await?;
    }
    for batch in batches(news)? {
        import(context, shard, batch, Vec::new()).await?;
    }
    Ok(())
}

async fn import(
    context: &Coordination,
    shard: &ShardId,
    found: Vec<Found>,
    missing: Vec<BackupName>,
) -> Result<()> {
    let import = catalogue::Command::Import {
        shard: shard.clone(),
        found,
        missing,
    };
    context.group.propose(Command::Catalogue(import)).await?;
    Ok(())
}

/// Cuts into pieces of at most [`BATCH_BYTES`], except for what is longer by itself.
fn batches<T: Serialize>(all: Vec<T>) -> Result<Vec<Vec<T>>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for one in all {
        let more = encoded_bytes(&one)? + 1;
        if bytes + more > BATCH_BYTES && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += more;
        batch.push(one);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    Ok(batches)
}

fn encoded_bytes<T: Serialize>(what: &T) -> Result<usize> {
    let json = serde_json::to_vec(what);
    let json = json.map_err(|e| Error::internal(format!("cannot write a backup's entry: {e}")))?;
    Ok(json.len())
}

fn found(stored: &StoredBackup) -> Result<Found> {
    let mut found = as_found(stored);
    if let Some((at, _)) = found.note.char_indices().nth(NOTE_CHARS_MAX) {
        found.note.truncate(at);
    }
    if encoded_bytes(&found)? > FOUND_BYTES_MAX {
        // Not left out: a shard must not look as if it had no backup.
        found = Found {
            name: found.name,
            alias: String::new(),
            known: Known::Broken,
            facts: Facts::default(),
            note: "its manifest's header is too long for the catalogue".to_owned(),
        };
    }
    Ok(found)
}

fn as_found(stored: &StoredBackup) -> Found {
    let mut found = Found {
        name: stored.name.clone(),
        alias: String::new(),
        known: Known::Incomplete,
        facts: Facts::default(),
        note: String::new(),
    };
    match &stored.state {
        StoredState::Complete {
            header,
            manifest_hash,
        } => {
            found.known = Known::Complete;
            found.alias = header.alias.to_string();
            found.facts = Facts {
                engine: header.engine.clone(),
                engine_version: String::new(),
                epoch: header.epoch,
                position: header.position.clone(),
                started_unix_ms: header.started_unix_ms,
                ended_unix_ms: header.ended_unix_ms,
                logical_bytes: header.logical_bytes,
                stored_bytes: header.stored_bytes,
                files: header.files,
                encrypted: header.encrypted,
                manifest_hash: manifest_hash.clone(),
                damaged_pages: header.damaged_pages,
                writer_key: header.writer_key.clone(),
            };
        }
        StoredState::Incomplete => "it has no manifest".clone_into(&mut found.note),
        StoredState::Removed { reason } => {
            found.known = Known::Removed;
            found.note.clone_from(reason);
        }
        StoredState::Broken { reason } => {
            found.known = Known::Broken;
            found.note.clone_from(reason);
        }
    }
    found
}

//! What backups there are, from what the agents reported and what the repository shows.
//!
//! A name is given once: by the apply of the backup that it is given to, before any object of it
//! is put. The manifest's hash is announced before the manifest is put, and only under a valid
//! token. `Removed` is for ever; after a crash the repository decides, through `Import`.

mod import;

use std::collections::BTreeMap;

use import::is_own_mark;
pub use import::{Found, is_news};
use seawall_common::{
    Error, Result, clock,
    ids::{Alias, BackupName, OperationId, ShardId},
    position::Position,
};
use serde::{Deserialize, Serialize};

use super::{
    Response, State,
    collection::MarksSeen,
    operations::{OperationState, Spec},
    topology::Tablet,
    untold::UntoldDamage,
    verification::{DamagedPacks, Mark, MarkedBy, Verification},
};

/// Removed backups of a shard that are remembered; the oldest are forgotten first.
const REMOVED_MAX: usize = 500;
/// Names of one second that are tried.
const SUFFIX_MAX: u32 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Known {
    /// An operation is writing it.
    Running,
    /// Its manifest is in the repository and it has no `removed` mark.
    Complete,
    /// Begun, never completed, no operation at work.
    Incomplete,
    /// Given up or removed.
    Removed,
    /// Its manifest cannot be read or is not the one that was announced.
    Broken,
}

/// What a manifest's header says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub engine: String,
    pub engine_version: String,
    pub epoch: u64,
    pub position: Position,
    pub started_unix_ms: u64,
    pub ended_unix_ms: u64,
    pub logical_bytes: u64,
    pub stored_bytes: u64,
    pub files: u64,
    pub encrypted: bool,
    /// BLAKE3 of the manifest object, hexadecimal.
    pub manifest_hash: String,
    /// Pages that were damaged in the database when they were copied.
    #[serde(default)]
    pub damaged_pages: u64,
    /// Public key of the writer that signed it, hexadecimal; empty: not signed.
    #[serde(default)]
    pub writer_key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: BackupName,
    pub shard: ShardId,
    /// Empty when only the repository knows of it and its manifest cannot be read.
    pub alias: String,
    pub known: Known,
    /// As begun, then as announced; complete once `known` says so.
    pub facts: Facts,
    pub operation: Option<OperationId>,
    /// Why it is broken, incomplete or removed.
    pub note: String,
    /// Set while it is broken for another reason than what its manifest shows.
    #[serde(default)]
    pub mark: Option<Mark>,
    /// The last reading back, and the last restore test.
    #[serde(default)]
    pub verified: Option<Verification>,
    #[serde(default)]
    pub tested: Option<Verification>,
    /// Retention leaves it alone, and RemoveBackup asks twice.
    #[serde(default)]
    pub pinned: Option<Pin>,
    /// An operation of this group has put its `removed` mark.
    #[serde(default)]
    pub removed_here: bool,
}

/// That an operator wants a backup kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// None: until it is unpinned.
    pub until_unix_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalogue {
    shards: BTreeMap<ShardId, BTreeMap<BackupName, Entry>>,
    /// Time of the newest name of each shard: a clock that goes back cannot give one again.
    named_unix_ms: BTreeMap<ShardId, u64>,
    #[serde(default)]
    pub damaged: DamagedPacks,
    #[serde(default)]
    pub untold_damage: UntoldDamage,
    /// Marks of backups that nobody here has removed.
    #[serde(default)]
    pub marks: MarksSeen,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    Announce {
        operation: OperationId,
        attempt: u32,
        token: u64,
        name: BackupName,
        facts: Box<Facts>,
    },
    Import {
        shard: ShardId,
        found: Vec<Found>,
        /// Complete before the scan began, and no manifest of it seen.
        missing: Vec<BackupName>,
    },
    /// A collection met marks of backups that nobody here has removed.
    MarksSeen {
        shard: ShardId,
        names: Vec<BackupName>,
        now_unix_ms: u64,
    },
    /// None: it is pinned no more.
    Pin {
        shard: ShardId,
        name: BackupName,
        pin: Option<Pin>,
        now_unix_ms: u64,
    },
}

pub fn apply(state: &mut State, command: &Command) -> Result<Response> {
    match command {
        Command::Announce {
            operation,
            attempt,
            token,
            name,
            facts,
        } => announce(state, *operation, (*attempt, *token), name, facts),
        Command::Import {
            shard,
            found,
            missing,
        } => {
            for found in found {
                if !is_own_mark(state, shard, found) {
                    state.catalogue.import(shard, found);
                }
            }
            for name in missing {
                state.catalogue.lose(shard, name);
            }
            Ok(Response::Done)
        }
        Command::MarksSeen {
            shard,
            names,
            now_unix_ms,
        } => {
            state.catalogue.marks.note(shard, names, *now_unix_ms);
            Ok(Response::Done)
        }
        Command::Pin {
            shard,
            name,
            pin,
            now_unix_ms,
        } => set_pin(state, shard, name, *pin, *now_unix_ms),
    }
}

fn set_pin(
    state: &mut State,
    shard: &ShardId,
    name: &BackupName,
    pin: Option<Pin>,
    now_unix_ms: u64,
) -> Result<Response> {
    let is_going = state.operations.removals(shard).contains(name);
    let entry = state.catalogue.entry_mut(shard, name)?;
    if pin.is_some() {
        let what = match entry.known {
            Known::Complete | Known::Broken if is_going => "being removed".to_owned(),
            Known::Complete | Known::Broken => String::new(),
            _ => entry.described(),
        };
        if !what.is_empty() {
            return Err(
                Error::refused(format!("backup {name} of {shard} is {what}"))
                    .hint("Only what exists can be pinned; ListBackups shows it."),
            );
        }
    }
    if let Some(Pin {
        until_unix_ms: Some(until),
    }) = pin
        && until <= now_unix_ms
    {
        let until = clock::written(until).map_or_else(String::new, |until| format!(", {until},"));
        return Err(
            Error::invalid(format!("the end of the pin{until} has passed already"))
                .hint("Give --until a time to come, or leave it out to pin without an end."),
        );
    }
    entry.pinned = pin;
    Ok(Response::Backup(Box::new(entry.clone())))
}

impl Pin {
    /// As it goes on behind "is pinned".
    pub fn described(&self) -> String {
        let until = self.until_unix_ms.and_then(clock::written);
        until.map_or_else(String::new, |until| format!(" until {until}"))
    }
}

fn announce(
    state: &mut State,
    id: OperationId,
    (attempt, token): (u32, u64),
    name: &BackupName,
    facts: &Facts,
) -> Result<Response> {
    let operation = state.operations.get(&id)?;
    if operation.state != OperationState::Running {
        return Err(Error::cancelled(format!(
            "operation {id} is no longer running"
        )));
    }
    if attempt != operation.attempt || !matches!(operation.spec, Spec::Backup { .. }) {
        return Err(Error::fenced(format!(
            "attempt {attempt} of operation {id} is not the one that is running"
        )));
    }
    if operation.backup.as_ref() != Some(name) {
        return Err(Error::fenced(format!(
            "operation {id} does not write backup {name}"
        )));
    }
    if token != operation.token || !state.locks.is_valid(&operation.hold_id(), token) {
        return Err(Error::fenced(format!(
            "the hold of operation {id} with token {token} is gone"
        )));
    }
    let shard = operation.shard.clone();
    let entry = state.catalogue.entry_mut(&shard, name)?;
    let announced = &entry.facts.manifest_hash;
    if !announced.is_empty() && *announced != facts.manifest_hash && entry.known != Known::Running {
        return Err(Error::conflict(format!(
            "backup {name} has been completed with another manifest"
        )));
    }
    entry.facts = facts.clone();
    Ok(Response::Done)
}

impl Entry {
    /// Its pin, unless that has come to its end.
    pub fn pin_at(&self, now_unix_ms: u64) -> Option<Pin> {
        self.pinned
            .filter(|pin| pin.until_unix_ms.is_none_or(|until| now_unix_ms < until))
    }

    /// Its state in words, for refusals.
    pub fn described(&self) -> String {
        let state = match self.known {
            Known::Running => match self.operation {
                Some(operation) => return format!("being written by operation {operation}"),
                None => "being written",
            },
            Known::Complete => "complete",
            Known::Incomplete => "incomplete",
            Known::Removed => "removed",
            Known::Broken => "broken",
        };
        if self.note.is_empty() {
            state.to_owned()
        } else {
            format!("{state} ({})", self.note)
        }
    }

    /// Oldest first, along the line of epochs.
    pub fn order_key(&self) -> (u64, u128, u64, &BackupName) {
        (
            self.facts.epoch,
            self.facts.position.order_key(),
            self.facts.started_unix_ms,
            &self.name,
        )
    }
}

impl Catalogue {
    pub fn entry(&self, shard: &ShardId, name: &BackupName) -> Result<&Entry> {
        self.shards
            .get(shard)
            .and_then(|entries| entries.get(name))
            .ok_or_else(|| unknown(shard, name))
    }

    pub(super) fn entry_mut(&mut self, shard: &ShardId, name: &BackupName) -> Result<&mut Entry> {
        self.shards
            .get_mut(shard)
            .and_then(|entries| entries.get_mut(name))
            .ok_or_else(|| unknown(shard, name))
    }

    /// Nobody writes any of them any more.
    pub(super) fn give_up_running(&mut self, why: &str) {
        let entries = self.shards.values_mut().flat_map(BTreeMap::values_mut);
        for entry in entries.filter(|entry| entry.known == Known::Running) {
            entry.known = Known::Incomplete;
            entry.operation = None;
            why.clone_into(&mut entry.note);
        }
    }

    pub fn shards(&self) -> impl Iterator<Item = &ShardId> {
        self.shards.keys()
    }

    pub(super) fn newest_name_unix_ms(&self, shard: &ShardId) -> Option<u64> {
        self.named_unix_ms.get(shard).copied()
    }

    pub fn entries(&self, shard: &ShardId) -> impl Iterator<Item = &Entry> {
        self.shards
            .get(shard)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    pub fn complete_ones(&self, shard: &ShardId) -> impl Iterator<Item = &Entry> {
        self.entries(shard)
            .filter(|entry| entry.known == Known::Complete)
    }

    /// The highest epoch that any backup of a shard was taken in.
    pub fn newest_epoch(&self, shard: &ShardId) -> u64 {
        let epochs = self.entries(shard).map(|entry| entry.facts.epoch);
        epochs.max().unwrap_or(0)
    }

    /// A name that this shard has never had.
    pub(super) fn fresh_name(
        &self,
        shard: &ShardId,
        alias: &Alias,
        now_unix_ms: u64,
    ) -> Result<BackupName> {
        let at = self
            .named_unix_ms
            .get(shard)
            .map_or(now_unix_ms, |newest| now_unix_ms.max(*newest));
        for suffix in 0..SUFFIX_MAX {
            let name = BackupName::new(at, alias, suffix)?;
            if self.entry(shard, &name).is_err() {
                return Ok(name);
            }
        }
        Err(Error::exhausted(format!(
            "{SUFFIX_MAX} backups of {alias} have been named in one second"
        )))
    }

    pub(super) fn begin(
        &mut self,
        tablet: &Tablet,
        name: &BackupName,
        epoch: u64,
        operation: OperationId,
        now_unix_ms: u64,
    ) {
        let newest = self.named_unix_ms.entry(tablet.shard.clone()).or_default();
        *newest = now_unix_ms.max(*newest);
        let entry = Entry {
            name: name.clone(),
            shard: tablet.shard.clone(),
            alias: tablet.alias.to_string(),
            known: Known::Running,
            facts: Facts {
                engine: tablet.engine.clone(),
                epoch,
                started_unix_ms: now_unix_ms,
                ..Facts::default()
            },
            operation: Some(operation),
            note: String::new(),
            mark: None,
            verified: None,
            tested: None,
            pinned: None,
            removed_here: false,
        };
        self.shards
            .entry(tablet.shard.clone())
            .or_default()
            .insert(name.clone(), entry);
    }

    pub(super) fn complete(&mut self, shard: &ShardId, name: &BackupName, facts: &Facts) {
        if let Ok(entry) = self.entry_mut(shard, name)
            && entry.known == Known::Running
        {
            entry.known = Known::Complete;
            entry.facts = facts.clone();
            entry.note.clear();
            entry.mark_damaged_pages();
        }
    }

    pub(super) fn set_known(
        &mut self,
        shard: &ShardId,
        name: &BackupName,
        known: Known,
        note: &str,
    ) {
        if let Ok(entry) = self.entry_mut(shard, name)
            && entry.known != Known::Removed
        {
            entry.known = known;
            note.clone_into(&mut entry.note);
        }
    }

    /// An operation of this group has put its mark.
    pub(super) fn remove(&mut self, shard: &ShardId, name: &BackupName, reason: &str) {
        self.set_known(shard, name, Known::Removed, reason);
        if let Ok(entry) = self.entry_mut(shard, name) {
            entry.removed_here = true;
        }
    }

    /// Forgets the oldest removed ones of each shard, when they are too many.
    pub(super) fn forget_old(&mut self) {
        for entries in self.shards.values_mut() {
            let removed: Vec<BackupName> = entries
                .values()
                .filter(|entry| entry.known == Known::Removed)
                .map(|entry| entry.name.clone())
                .collect();
            for name in &removed[..removed.len().saturating_sub(REMOVED_MAX)] {
                entries.remove(name);
            }
        }
    }
}

impl Entry {
    /// What was damaged in the database is damaged in its copy: that must not be restored by itself.
    fn mark_damaged_pages(&mut self) {
        let (pages, at_unix_ms) = (self.facts.damaged_pages, self.facts.ended_unix_ms);
        if pages > 0 {
            let pages = match pages {
                1 => "1 page was".to_owned(),
                pages => format!("{pages} pages were"),
            };
            let reason = format!("{pages} damaged in the database when it was copied");
            self.break_by(MarkedBy::Copy, &reason, at_unix_ms);
        }
    }
}

fn unknown(shard: &ShardId, name: &BackupName) -> Error {
    Error::not_found(format!("no backup {name} of {shard}")).hint("ListBackups shows them.")
}

#[cfg(test)]
mod tests;

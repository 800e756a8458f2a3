//! What a collection of a shard goes by, as the catalogue and the operations have it.
//!
//! A removed backup is kept until its sweep has begun: that is in the log, and no clock decides it.
//! Only what is kept may be named to a writer as something to refer to. So what a collector may
//! delete stays out of everybody's reach, however late it comes.
//!
//! A mark that nobody here has put is believed only of a backup that is unknown here, and only after
//! this group has known of it for the grace time: whatever the mark itself says.

use std::collections::{BTreeMap, BTreeSet};

use seawall_common::{
    Error, Result,
    ids::{BackupName, ShardId},
};
use serde::{Deserialize, Serialize};

use super::{
    State,
    catalogue::Known,
    locks::{Scope, Side},
    operations::{Operation, Spec},
};

/// The step in which a sweep deletes. From its beginning on the backup is out of reach.
pub const SWEEP_STEP: &str = "sweep";

/// How long a collection is kept from its work before verifications stand back for it.
const STAND_BACK_AFTER_MS: u64 = 3_600_000;

/// Marks of a shard that are remembered; the oldest are forgotten first.
const MARKS_MAX: usize = 4096;

/// When this group first saw the marks of backups that it has not removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MarksSeen(BTreeMap<ShardId, BTreeMap<BackupName, u64>>);

impl MarksSeen {
    pub(super) fn note(&mut self, shard: &ShardId, names: &[BackupName], now_unix_ms: u64) {
        let seen = self.0.entry(shard.clone()).or_default();
        for name in names {
            seen.entry(name.clone()).or_insert(now_unix_ms);
        }
        while seen.len() > MARKS_MAX {
            let oldest = seen.iter().min_by_key(|(_, at)| **at);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                return;
            };
            seen.remove(&oldest);
        }
    }

    pub fn has(&self, shard: &ShardId, name: &BackupName) -> bool {
        self.0
            .get(shard)
            .is_some_and(|seen| seen.contains_key(name))
    }

    fn before(&self, shard: &ShardId, unix_ms: u64) -> impl Iterator<Item = &BackupName> {
        let seen = self.0.get(shard).into_iter().flatten();
        seen.filter(move |(_, at)| **at <= unix_ms)
            .map(|(name, _)| name)
    }
}

/// What an operation has deleted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub objects: u64,
    pub bytes: u64,
}

impl Deleted {
    pub fn add(&mut self, more: Deleted) {
        self.objects = self.objects.saturating_add(more.objects);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

/// The backups that exist, complete or broken, with their manifests' hashes. One whose manifest
/// could never be read has none: nothing is deleted beside it.
pub fn expected(state: &State, shard: &ShardId) -> BTreeMap<BackupName, String> {
    let exists = |known| matches!(known, Known::Complete | Known::Broken);
    let entries = state.catalogue.entries(shard);
    entries
        .filter(|entry| exists(entry.known))
        .map(|entry| (entry.name.clone(), entry.facts.manifest_hash.clone()))
        .collect()
}

/// The removed backups whose grace time is not over.
pub fn kept(state: &State, shard: &ShardId) -> BTreeSet<BackupName> {
    let open = state.operations.open();
    open.filter(|operation| operation.shard == *shard && keeps(operation))
        .filter_map(|operation| operation.backup.clone())
        .collect()
}

/// The marked backups of which a collection may delete. `seen_before_unix_ms`: that it was marked
/// by others must be known since then; None: no time can be believed now.
pub fn may_go(
    state: &State,
    shard: &ShardId,
    seen_before_unix_ms: Option<u64>,
) -> BTreeSet<BackupName> {
    let kept = kept(state, shard);
    let entries = state.catalogue.entries(shard);
    let own = entries
        .filter(|entry| entry.known == Known::Removed && entry.removed_here)
        .map(|entry| &entry.name);
    let marks = &state.catalogue.marks;
    let others = seen_before_unix_ms.map(|at| marks.before(shard, at));
    let all = own.chain(others.into_iter().flatten());
    all.filter(|name| !kept.contains(*name)).cloned().collect()
}

/// Whether an operation is, or has its own sweep, still to come.
fn keeps(operation: &Operation) -> bool {
    match operation.spec {
        Spec::Backup { .. } | Spec::RemoveBackup { .. } => true,
        Spec::Sweep { .. } => operation.step(SWEEP_STEP).is_none(),
        _ => false,
    }
}

/// An error when a collection has waited for long: where something is always being verified, it
/// would never have its turn. Backups and restores do not stand back.
pub fn check_none_starves(state: &State, shard: &ShardId, now_unix_ms: u64) -> Result<()> {
    let scope = Scope::Shard(shard.clone());
    if state.locks.check_other_side(Side::Delete, &scope).is_ok() {
        return Ok(());
    }
    let starves = |operation: &&Operation| {
        let step = operation.step(SWEEP_STEP);
        step.is_some_and(|step| {
            let waits_since = step.started_unix_ms.max(operation.turn_unix_ms);
            step.ended_unix_ms.is_none()
                && waits_since.saturating_add(STAND_BACK_AFTER_MS) < now_unix_ms
        })
    };
    let mut open = state.operations.open();
    match open.find(|operation| operation.shard == *shard && starves(operation)) {
        None => Ok(()),
        Some(operation) => Err(Error::refused(format!(
            "operation {} has waited for more than an hour to delete in {shard}, and verifications stand back for it",
            operation.id
        ))
        .hint("Start this one again when what is at work in the shard has ended (ListOperations).")),
    }
}

//! Which backups a new one may refer to instead of sending again what they hold.
//!
//! They are named when the backup is granted, under its hold, and stay the same for all its steps:
//! nothing of them can be deleted meanwhile. Only what no collector may have begun to delete is
//! named: complete backups, and attempts that were given up whose sweep has not begun.

use seawall_common::ids::{Alias, BackupName, ShardId};
use serde::{Deserialize, Serialize};

use super::{
    State,
    catalogue::{Entry, Known},
    collection::SWEEP_STEP,
    operations::Spec,
};

/// More are not named.
pub const REFERENCES_MAX: usize = 32;
/// Of these, attempts: what one had, the next has taken over or sent again.
const ATTEMPTS_MAX: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub backup: BackupName,
    /// Of a complete backup; empty: an attempt that was given up.
    pub manifest_hash: String,
}

/// What a backup of `alias` may refer to, in the order in which its agent is to look at it: attempts
/// first, which hold what nobody else does, then backups of this tablet, then others; each the
/// newest first.
pub fn referable(state: &State, shard: &ShardId, alias: &Alias) -> Vec<Reference> {
    let alias = alias.to_string();
    let going = state.operations.removals(shard);
    let is_own = |entry: &Entry| entry.alias == alias;
    let untold = &state.catalogue.untold_damage;
    let is_trusted = |entry: &&Entry| !untold.may_concern(shard, &entry.name);
    let mut attempts: Vec<&Entry> = state
        .catalogue
        .entries(shard)
        .filter(|entry| is_kept_attempt(state, entry))
        .filter(is_trusted)
        .collect();
    attempts.sort_by_key(|entry| (is_own(entry), entry.facts.started_unix_ms, &entry.name));
    let mut complete: Vec<&Entry> = state
        .catalogue
        .complete_ones(shard)
        .filter(|entry| !going.contains(&entry.name))
        .filter(|entry| !entry.facts.manifest_hash.is_empty())
        .filter(is_trusted)
        .collect();
    complete.sort_by_key(|entry| (is_own(entry), entry.order_key()));
    let attempts = attempts.iter().rev().take(ATTEMPTS_MAX);
    let attempts = attempts.map(|entry| Reference {
        backup: entry.name.clone(),
        manifest_hash: String::new(),
    });
    let complete = complete.iter().rev().map(|entry| Reference {
        backup: entry.name.clone(),
        manifest_hash: entry.facts.manifest_hash.clone(),
    });
    attempts.chain(complete).take(REFERENCES_MAX).collect()
}

/// Whether a backup was given up by the operation that wrote it and nobody deletes it yet.
fn is_kept_attempt(state: &State, entry: &Entry) -> bool {
    let sweep = entry
        .operation
        .filter(|_| entry.known == Known::Removed)
        .and_then(|operation| state.operations.get(&operation.derived("sweep")).ok());
    sweep.is_some_and(|sweep| {
        matches!(sweep.spec, Spec::Sweep { .. })
            && sweep.state.is_open()
            && sweep.backup.as_ref() == Some(&entry.name)
            && sweep.step(SWEEP_STEP).is_none()
    })
}

#[cfg(test)]
mod tests;

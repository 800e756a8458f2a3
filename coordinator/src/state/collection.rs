//! What a collection of a shard goes by, as the catalogue and the operations have it.
//!
//! A removed backup is kept until its sweep has begun: that is in the log, and no clock decides it.
//! Only what is kept may be named to a writer as something to refer to. So what a collector may
//! delete stays out of everybody's reach, however late it comes.

use std::collections::{BTreeMap, BTreeSet};

use seawall_common::ids::{BackupName, ShardId};
use serde::{Deserialize, Serialize};

use super::{
    State,
    catalogue::Known,
    operations::{Operation, Spec},
};

/// The step in which a sweep deletes. From its beginning on the backup is out of reach.
pub const SWEEP_STEP: &str = "sweep";

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

/// Whether an operation is, or has its own sweep, still to come.
fn keeps(operation: &Operation) -> bool {
    match operation.spec {
        Spec::Backup { .. } | Spec::RemoveBackup { .. } => true,
        Spec::Sweep { .. } => operation.step(SWEEP_STEP).is_none(),
        _ => false,
    }
}

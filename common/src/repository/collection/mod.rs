//! Deleting what removed backups have left (I5).
//!
//! A pack goes when no backup that exists refers to it any more, whoever wrote it; the keys of a
//! session go when no pack of it is left. Nothing goes in a shard in which a manifest cannot be
//! believed: it is missing, unreadable, not the catalogue's, or nobody announced it.
//!
//! The caller, a coordinator, owns the repository and has the delete side of the backup lock for
//! each batch, which is planned anew: what one batch has read, the next one does not believe. A
//! `removed` mark stays for ever. What is once out of reach stays so, because a writer is never
//! told of a pack that a collector may delete: so one that is late, or dies between any two
//! deletes, leaves nothing wrong.

mod left;
mod reach;
mod survey;

use std::collections::{BTreeMap, BTreeSet};

use left::Left;
use survey::Survey;
use uuid::Uuid;

use super::header::Repository;
use crate::{
    error::{Error, Result},
    ids::{BackupName, ShardId},
};

/// What the coordinator knows and the repository cannot say by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectionRequest {
    /// Every backup that exists, complete or broken, with its manifest's hash as the catalogue has
    /// it (hexadecimal; empty: unknown, which stops the collection).
    pub expected: BTreeMap<BackupName, String>,
    /// Removed backups whose grace time is not over: nothing that they reach goes.
    pub keep: BTreeSet<BackupName>,
    /// Of backups that show a mark, only these may go: the caller removed them itself, or has known
    /// of the mark for the grace time. What a mark says of its own time is not believed.
    pub may_go: BTreeSet<BackupName>,
    /// Packs of the shard that are known to be damaged.
    pub damaged: BTreeSet<Uuid>,
}

/// The most that one batch deletes, and at least one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    pub objects: usize,
    pub bytes: u64,
}

/// What a batch has deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub objects: u64,
    pub bytes: u64,
    /// Of the damaged packs those that nothing needs and that are not there, deleted now or long ago.
    /// Only the last batch says so.
    pub damaged_gone: BTreeSet<Uuid>,
    /// There may be more: another batch is due.
    pub more: bool,
    /// Backups that show a mark, are named neither as kept nor as going, and are kept.
    pub too_young: BTreeSet<BackupName>,
}

/// What would go of a removed backup, and what would stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOf {
    pub objects: u64,
    pub bytes: u64,
    /// Packs that stay, with their keys.
    pub staying_objects: u64,
    pub staying_bytes: u64,
    /// Backups that need those.
    pub needed_by: BTreeSet<BackupName>,
    /// Its grace time is not over: all of it stays.
    pub is_kept: bool,
}

impl Repository {
    /// What [`Repository::collect`] would delete until nothing is left to delete: removed backups of
    /// which anything lies in the repository besides the mark. Deletes nothing.
    pub async fn plan_collection(
        &self,
        shard: &ShardId,
        request: &CollectionRequest,
    ) -> Result<BTreeMap<BackupName, LeftOf>> {
        let survey = Survey::of(self, shard, request).await?;
        let mut plan = BTreeMap::new();
        for (name, left) in &survey.kept {
            let bytes = left.iter().map(|object| object.bytes).sum();
            plan.insert(
                name.clone(),
                LeftOf {
                    staying_objects: left.len() as u64,
                    staying_bytes: bytes,
                    is_kept: true,
                    ..LeftOf::default()
                },
            );
        }
        for (name, described) in &survey.removed {
            let left = Left::of(self, shard, name, described, &survey.reach).await?;
            plan.insert(name.clone(), left.summary(survey.reach.needing(name)));
        }
        self.check_there().await?;
        plan.retain(|_, left| left.objects > 0 || left.staying_objects > 0);
        Ok(plan)
    }

    /// Deletes one batch of what removed backups have left.
    ///
    /// [`crate::ErrorKind::Corrupt`]: a manifest cannot be believed, nothing was deleted, and nothing
    /// will be before somebody has looked. [`crate::ErrorKind::Refused`]: not now.
    pub async fn collect(
        &self,
        shard: &ShardId,
        request: &CollectionRequest,
        limits: BatchLimits,
    ) -> Result<Collected> {
        let survey = Survey::of(self, shard, request).await?;
        let mut batch = Batch::new(limits, survey.too_young.clone());
        for (name, described) in &survey.removed {
            if batch.is_full() {
                return Ok(batch.collected(true));
            }
            let left = Left::of(self, shard, name, described, &survey.reach).await?;
            // Every listing that this batch goes by came from the repository, not from an empty
            // mount point.
            self.check_there().await?;
            let whole = left.delete(self, &mut batch).await?;
            if !whole {
                return Ok(batch.collected(true));
            }
            if !survey.reach.has(name) {
                left.clear(self).await?;
            }
        }
        Ok(Collected {
            damaged_gone: survey.damaged_gone(&request.damaged),
            ..batch.collected(false)
        })
    }
}

/// How much of a batch is used up.
struct Batch {
    limits: BatchLimits,
    done: Collected,
}

impl Batch {
    fn new(limits: BatchLimits, too_young: BTreeSet<BackupName>) -> Self {
        let done = Collected {
            too_young,
            ..Collected::default()
        };
        Self { limits, done }
    }

    fn is_full(&self) -> bool {
        let done = &self.done;
        done.objects > 0
            && (done.objects >= self.limits.objects as u64 || done.bytes >= self.limits.bytes)
    }

    /// Counts an object, unless the batch is full already.
    fn takes(&mut self, bytes: u64) -> bool {
        if self.is_full() {
            return false;
        }
        self.done.objects += 1;
        self.done.bytes = self.done.bytes.saturating_add(bytes);
        true
    }

    fn collected(self, more: bool) -> Collected {
        Collected { more, ..self.done }
    }
}

/// A manifest that keeps the collector from its work until a person has looked.
fn stopped(shard: &ShardId, why: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("nothing is deleted in {shard}: {why}"))
        .hint("Look at the backup that is named; RemoveBackup gives it up, and collection goes on.")
}

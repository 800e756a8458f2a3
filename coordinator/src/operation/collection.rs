//! Second phase of a deletion, and `CollectGarbage`: the objects go, batch by batch (I5).
//!
//! Each batch has a hold of the delete side of its own, looks up the repository's owner, and is
//! planned anew; between two batches backups and restores have their turn. A shard in which a
//! manifest cannot be believed stands still, loudly, until somebody has looked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use seawall_common::{
    Error, ErrorKind, Result,
    clock::written,
    ids::ShardId,
    repository::{BatchLimits, Collected, CollectionRequest, LeftOf},
};
use uuid::Uuid;

use super::{
    Coordination, clock, delete_side,
    driver::{Backoff, Run, millis},
    verify,
};
use crate::state::{
    Command, State, catalogue,
    collection::{Deleted, SWEEP_STEP, expected, kept, may_go},
    operations::{self, Effect, Operation, Outcome, Spec},
};

/// What one hold of the delete side is good for: moments.
const BATCH: BatchLimits = BatchLimits {
    objects: 1000,
    bytes: 64 << 30,
};
/// Between two batches. Longer than a start that waits for deleters takes to look again.
const BETWEEN_BATCHES: Duration = Duration::from_millis(500);
/// While the clock cannot be believed, it is looked at again after this.
const DOUBT: Duration = Duration::from_secs(60);
/// Marks that one command names.
const MARKS_AT_ONCE: usize = 300;
/// Between two tries, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// What the leader remembers of the collections of its term.
#[derive(Default)]
pub struct Collections {
    /// Shards that stand still, and why.
    stopped: Mutex<BTreeMap<ShardId, String>>,
    /// One batch at a time for each shard: two would read and delete the same.
    turns: Mutex<BTreeMap<ShardId, Arc<tokio::sync::Mutex<()>>>>,
    deleted: Garbage,
}

/// What has been deleted since this process began.
#[derive(Clone, Default)]
pub struct Garbage {
    pub objects: Counter,
    pub bytes: Counter,
}

impl Collections {
    /// Why the collector stands still, shard by shard.
    pub fn stopped(&self) -> BTreeMap<ShardId, String> {
        let stopped = self.stopped.lock();
        stopped.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn deleted(&self) -> Garbage {
        self.deleted.clone()
    }

    /// A new term begins: what stood still may go again, and is tried.
    pub fn take_office(&self) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.clear();
    }

    fn turn(&self, shard: &ShardId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(shard.clone()).or_default().clone()
    }

    fn note(&self, shard: &ShardId, outcome: &Result<Collected>) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(batch) => {
                stopped.remove(shard);
                self.deleted.objects.inc_by(batch.objects);
                self.deleted.bytes.inc_by(batch.bytes);
            }
            Err(e) if e.kind() == ErrorKind::Corrupt => {
                stopped.insert(shard.clone(), e.message().to_owned());
            }
            // Whether the manifests can be believed is not known.
            Err(_) => {}
        }
    }
}

fn sum(batch: &Collected) -> Deleted {
    Deleted {
        objects: batch.objects,
        bytes: batch.bytes,
    }
}

/// Deletes what a removed backup has left, once its time has come, and with it what others have
/// left that nobody needs any more.
pub async fn sweep(run: &Run, operation: &Operation) -> Result<String> {
    let Spec::Sweep {
        not_before_unix_ms, ..
    } = &operation.spec
    else {
        return Err(Error::internal("not a sweep"));
    };
    while let Some(standstill) = clock::doubt(&run.context) {
        tracing::info!(operation = %run.id, "the sweep waits: {standstill}");
        run.say(format!("waits: {standstill}"));
        tokio::time::sleep(DOUBT).await;
    }
    run.say(grace_time(*not_before_unix_ms));
    // Slept by the monotonic clock: one that jumps ahead does not shorten the grace.
    let now_unix_ms = (run.context.wall_unix_ms)();
    let left_ms = not_before_unix_ms.saturating_sub(now_unix_ms);
    tokio::time::sleep(Duration::from_millis(left_ms)).await;
    collect(run, operation).await
}

fn grace_time(until_unix_ms: u64) -> String {
    let until = written(until_unix_ms).map_or_else(String::new, |until| format!(", until {until}"));
    format!("waits: its grace time is not over{until}")
}

pub async fn collect(run: &Run, operation: &Operation) -> Result<String> {
    run.step(SWEEP_STEP, async {
        let note = all_batches(run, operation).await?;
        let outcome = Outcome {
            note,
            ..Outcome::default()
        };
        Ok((outcome, Effect::None))
    })
    .await
    .map(|outcome| outcome.note)
}

async fn all_batches(run: &Run, operation: &Operation) -> Result<String> {
    let mut wait = Backoff::new(RETRY.0, RETRY.1);
    loop {
        match one_batch(run, operation).await {
            Ok(true) => {
                wait = Backoff::new(RETRY.0, RETRY.1);
                tokio::time::sleep(BETWEEN_BATCHES).await;
            }
            Ok(false) => return Ok(run.operation()?.result),
            Err(_) => wait.pause().await,
        }
    }
}

/// Whether another batch is due. The delete side is let go of in any case.
async fn one_batch(run: &Run, operation: &Operation) -> Result<bool> {
    let shard = &operation.shard;
    let turn = run.context.collections.turn(shard);
    let _mine = match turn.try_lock() {
        Ok(mine) => mine,
        Err(_) => {
            run.say("waits: another collection of the shard is at work");
            turn.lock().await
        }
    };
    delete_side::take(run, shard).await;
    run.say("reading what the shard holds, and deleting what nobody needs");
    let collected = delete_one_batch(&run.context, operation).await;
    run.context.collections.note(shard, &collected);
    let (deleted, note) = match &collected {
        Ok(batch) => (sum(batch), progress(run, operation, batch)?),
        Err(e) => (Deleted::default(), format!("waits: {e}")),
    };
    run.say(note.clone());
    match &collected {
        Err(e) if e.kind() == ErrorKind::Corrupt => {
            tracing::error!(operation = %run.id, %shard, "the collector stands still: {e}");
        }
        Err(e) => tracing::info!(operation = %run.id, %shard, "the collection waits: {e}"),
        Ok(_) => {}
    }
    let release = operations::Command::ReleaseDeleteSide {
        id: run.id,
        deleted,
        note,
    };
    run.commit(Command::Operations(release)).await?;
    let batch = collected?;
    note_marks(run, shard, &batch).await?;
    verify::forget_gone(run, shard, &batch.damaged_gone).await?;
    let own_is_young = operation
        .backup
        .as_ref()
        .is_some_and(|own| batch.too_young.contains(own));
    if own_is_young && !batch.more {
        run.say("waits: its mark is too young yet");
        return Err(Error::refused("its mark is too young yet"));
    }
    Ok(batch.more)
}

/// From now on the grace time of what others have marked as removed is counted.
async fn note_marks(run: &Run, shard: &ShardId, batch: &Collected) -> Result<()> {
    let names: Vec<_> = run.context.group.look(|state| {
        let marks = &state.catalogue.marks;
        let unseen = batch
            .too_young
            .iter()
            .filter(|name| !marks.has(shard, name));
        unseen.take(MARKS_AT_ONCE).cloned().collect()
    });
    if names.is_empty() || clock::doubt(&run.context).is_some() {
        return Ok(());
    }
    let seen = catalogue::Command::MarksSeen {
        shard: shard.clone(),
        names,
        now_unix_ms: (run.context.wall_unix_ms)(),
    };
    run.commit(Command::Catalogue(seen)).await.map(drop)
}

async fn delete_one_batch(context: &Coordination, operation: &Operation) -> Result<Collected> {
    if let (Spec::Sweep { .. }, Some(standstill)) = (&operation.spec, clock::doubt(context)) {
        return Err(standstill.refusal("sweeps stand still"));
    }
    context.check_owner().await?;
    let shard = &operation.shard;
    // Read after the hold was granted: what completed before it is in there.
    let seen_before = seen_before_unix_ms(context);
    let request = context
        .group
        .look(|state| request(state, shard, seen_before));
    context.store.collect(shard, &request, BATCH).await
}

/// Since when a mark that others have put must be known. None: no time can be believed now.
fn seen_before_unix_ms(context: &Coordination) -> Option<u64> {
    if clock::doubt(context).is_some() {
        return None;
    }
    let grace_ms = millis(context.patience.removal_grace);
    Some((context.wall_unix_ms)().saturating_sub(grace_ms))
}

/// What a collection of a shard goes by, as of now.
fn request(state: &State, shard: &ShardId, seen_before_unix_ms: Option<u64>) -> CollectionRequest {
    CollectionRequest {
        expected: expected(state, shard),
        keep: kept(state, shard),
        may_go: may_go(state, shard, seen_before_unix_ms),
        damaged: damaged(state, shard),
    }
}

fn damaged(state: &State, shard: &ShardId) -> BTreeSet<Uuid> {
    let packs = state.catalogue.damaged.of(shard);
    packs.filter_map(|id| Uuid::try_parse(id).ok()).collect()
}

/// What a collection would delete now; the second: why it would stand still instead.
pub async fn plan(
    context: &Coordination,
    shard: &ShardId,
) -> Result<(
    BTreeMap<seawall_common::ids::BackupName, LeftOf>,
    Option<Error>,
)> {
    context.check_owner().await?;
    let seen_before = seen_before_unix_ms(context);
    let request = context
        .group
        .read(|state| request(state, shard, seen_before));
    let planned = context.store.plan_collection(shard, &request.await?).await;
    match planned {
        Ok(plan) => Ok((plan, None)),
        Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Refused) => {
            Ok((BTreeMap::new(), Some(e)))
        }
        Err(e) => Err(e),
    }
}

/// How far it is, in words that are true when it has ended, too.
fn progress(run: &Run, operation: &Operation, batch: &Collected) -> Result<String> {
    let mut deleted = run.operation()?.deleted;
    deleted.add(sum(batch));
    let Deleted { objects, bytes } = deleted;
    let of = match &operation.backup {
        Some(backup) => format!("of {backup} and what nobody needs any more"),
        None => "of removed backups".to_owned(),
    };
    Ok(format!("{objects} objects, {bytes} bytes deleted {of}"))
}

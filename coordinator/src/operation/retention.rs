//! Applies retention: after each backup that has ended, and now and then.
//!
//! It only starts removals; the state machine admits each of them anew. When the clock cannot be
//! believed it stops, until an operator says that it is right (`SetRetention --resume`).

use std::{collections::BTreeSet, time::Duration};

use prometheus_client::metrics::counter::Counter;
use seawall_common::{
    Result,
    ids::{BackupName, OperationId, ShardId},
};
use tokio::time::Instant as Tick;

use super::{Coordination, clock, driver::millis, refresh};
use crate::state::{
    Command, State,
    operations::{self, OperationState, Spec, Start},
    retention,
};

/// How often the clock is looked at.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);
/// When a removal was refused, a backup being at work perhaps, it is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(60);
const REMOVAL_DEADLINE: Duration = Duration::from_secs(600);
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// A new leader's first round is not long in coming.
const FIRST_ROUND_PART: u32 = 60;
/// Removals that one round starts in a shard.
const REMOVALS_MAX: usize = 100;

/// What retention has done since this process began.
#[derive(Default)]
pub struct Applied {
    removals: Counter,
}

impl Applied {
    pub fn removals(&self) -> Counter {
        self.removals.clone()
    }
}

/// Never returns while the office lasts.
pub async fn run(context: &Coordination) {
    let wall = &context.wall_unix_ms;
    let mut applied = context.group.applied();
    let mut seen = newest_backup(context);
    let interval = context.patience.retention.max(INTERVAL_MIN);
    let retry = RETRY_AFTER.min(interval);
    let mut round_at = Tick::now() + interval / FIRST_ROUND_PART;
    let mut blocked = Blocked::default();
    loop {
        let now_unix_ms = wall();
        let is_believed = look_at_clock(context, now_unix_ms).await;
        let now = Tick::now();
        let newest = newest_backup(context);
        let is_round = now >= round_at;
        if is_round || blocked.are_due(now) || newest != seen {
            seen = newest;
            let left = match is_believed {
                true => apply_to_all(context, is_round, &blocked.shards, now_unix_ms).await,
                false => None,
            };
            match left {
                None => round_at = now + retry,
                Some(shards) => {
                    blocked = Blocked {
                        shards,
                        again_at: Some(now + retry),
                    };
                    if is_round {
                        round_at = now + interval;
                    }
                }
            }
        }
        let look_again = round_at.min(now + CLOCK_INTERVAL);
        let look_again = blocked.next().map_or(look_again, |at| look_again.min(at));
        tokio::select! {
            () = tokio::time::sleep_until(look_again) => {}
            () = backup_ended(context, &mut applied, seen) => {}
        }
    }
}

/// Shards in which something is still to be done, a backup being at work there perhaps. Between two
/// rounds only these are looked at again.
#[derive(Default)]
struct Blocked {
    shards: BTreeSet<ShardId>,
    again_at: Option<Tick>,
}

impl Blocked {
    fn next(&self) -> Option<Tick> {
        self.again_at.filter(|_| !self.shards.is_empty())
    }

    fn are_due(&self, now: Tick) -> bool {
        self.next().is_some_and(|at| now >= at)
    }
}

/// Returns when another backup than `seen` is the last that has ended.
async fn backup_ended(
    context: &Coordination,
    applied: &mut tokio::sync::watch::Receiver<u64>,
    seen: Option<(u64, OperationId)>,
) {
    while newest_backup(context) == seen {
        if applied.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn newest_backup(context: &Coordination) -> Option<(u64, OperationId)> {
    context.group.look(|state| {
        let operations = state.operations.iter();
        let backups = operations.filter(|operation| {
            matches!(operation.spec, Spec::Backup { .. })
                && operation.state == OperationState::Succeeded
        });
        backups
            .filter_map(|operation| Some((operation.finished_unix_ms?, operation.id)))
            .max()
    })
}

/// False: nothing may be applied by this time.
async fn look_at_clock(context: &Coordination, wall_unix_ms: u64) -> bool {
    let (committed, is_stopped) = context.group.look(|state| {
        let is_stopped = state.retention.stopped().is_some();
        (clock::committed_unix_ms(state), is_stopped)
    });
    let (watch, at) = (&context.clock, (context.monotonic)());
    let doubt = watch.doubt(wall_unix_ms, at, committed, context.patience.retention);
    if let (Some(why), false) = (&doubt, is_stopped) {
        tracing::error!("{why}: retention and schedules stop until SetRetention --resume");
        let stop = retention::Command::Stop { why: why.clone() };
        if let Err(e) = context.group.propose(Command::Retention(stop)).await {
            tracing::error!("cannot record that retention has stopped: {e}");
            return false;
        }
    }
    // An operator who says that the clock is right says so of the time that it shows now.
    watch.believe(wall_unix_ms, at);
    doubt.is_none()
}

/// The shards in which something is still to be done; None: nothing could be applied anywhere.
/// Looked at are all of them in a round, otherwise those that are blocked and those of which
/// something is due.
async fn apply_to_all(
    context: &Coordination,
    is_round: bool,
    blocked: &BTreeSet<ShardId>,
    now_unix_ms: u64,
) -> Option<BTreeSet<ShardId>> {
    let (shards, is_stopped) = context.group.look(|state| {
        let shards: Vec<ShardId> = state.catalogue.shards().cloned().collect();
        (shards, state.retention.stopped().is_some())
    });
    if is_stopped {
        return Some(BTreeSet::new());
    }
    let apply = retention::Command::Apply { now_unix_ms };
    if let Err(e) = context.group.propose(Command::Retention(apply)).await {
        tracing::info!("retention waits: {e}");
        return None;
    }
    let mut left = BTreeSet::new();
    for shard in shards {
        let due = |state: &State| retention::due(state, &shard, now_unix_ms);
        let is_looked_at = is_round || blocked.contains(&shard);
        if !is_looked_at && context.group.look(due).is_empty() {
            continue;
        }
        match apply_to(context, &shard, now_unix_ms).await {
            Ok(true) => {}
            Ok(false) => drop(left.insert(shard)),
            Err(e) => {
                tracing::warn!(%shard, "retention waits: {e}");
                left.insert(shard);
            }
        }
    }
    Some(left)
}

/// False: something is still to be done.
async fn apply_to(context: &Coordination, shard: &ShardId, now_unix_ms: u64) -> Result<bool> {
    context.check_owner().await?;
    // The minimum is of backups that are there.
    refresh::refresh(context, shard).await?;
    let due = |state: &State| retention::due(state, shard, now_unix_ms);
    let going = context.group.read(due).await?;
    let mut is_whole = going.len() <= REMOVALS_MAX;
    for (backup, rule) in going.into_iter().take(REMOVALS_MAX) {
        if let Err(e) = remove(context, shard, &backup, rule, now_unix_ms).await {
            tracing::info!(%shard, %backup, "retention does not remove it yet: {e}");
            is_whole = false;
        }
    }
    Ok(is_whole)
}

async fn remove(
    context: &Coordination,
    shard: &ShardId,
    backup: &BackupName,
    rule: String,
    now_unix_ms: u64,
) -> Result<()> {
    tracing::info!(%shard, %backup, "retention removes a backup: {rule}");
    let start = operations::Command::Start(Start {
        id: OperationId::generate(),
        spec: Spec::RemoveBackup {
            shard: shard.clone(),
            backup: backup.clone(),
            force: false,
            reason: rule,
            by_retention: true,
        },
        now_unix_ms,
        deadline_unix_ms: now_unix_ms.saturating_add(millis(REMOVAL_DEADLINE)),
    });
    context.group.propose(Command::Operations(start)).await?;
    context.retention.removals.inc();
    Ok(())
}

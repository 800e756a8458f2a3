//! Removes a recipient from a shard: its key files go, in batches, each under a hold of its own of the
//! delete side of the lock. Backups go before.

use std::time::Duration;

use seawall_common::{Error, Result, ids::ShardId, repository::RemovedKeys};
use tokio::time::{Instant, timeout_at};

use super::{
    Coordination, delete_side,
    driver::{Backoff, Run, millis},
};
use crate::state::{
    Command, State,
    collection::Deleted,
    operations::{self, Effect, Operation, OperationState, Outcome, Spec},
};

/// Key files that are deleted under one hold.
const BATCH: usize = 500;
/// No batch asks anything of the store later than this after it has asked for its hold: not in a
/// leader either that has been deposed meanwhile and does not know yet.
const BATCH_TIME: Duration = Duration::from_secs(120);
/// The clocks of two members do not differ by as much.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(3600);
/// Between two tries, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

pub async fn remove(run: &Run, operation: &Operation) -> Result<String> {
    let Spec::RemoveRecipient { shard, recipient } = &operation.spec else {
        return Err(Error::internal("not a removal of a recipient"));
    };
    run.step("settle", async {
        if let Some((wait, why)) = unsettled(&run.context, shard, recipient) {
            run.say(format!("waits: {why}"));
            tokio::time::sleep(wait).await;
        }
        Ok((Outcome::default(), Effect::None))
    })
    .await?;
    let outcome = run
        .step("remove", async {
            let kept = remove_all(run, shard, recipient).await?;
            let note = run.operation()?.result;
            if kept > 0 {
                return Err(Error::refused(format!(
                    "{note}, kept: {kept}, each the last one of its session"
                ))
                .hint("Run AddRecipient for another key first, then this again."));
            }
            let outcome = Outcome {
                note,
                ..Outcome::default()
            };
            Ok((outcome, Effect::None))
        })
        .await?;
    Ok(outcome.note)
}

/// How long the last deletes of another recipient's removal, broken off, may still be on their way:
/// they must be seen before it is decided which key of a session is the last one.
///
/// Its last batch had asked for its hold before it ended, so no request of it begins later than
/// [`BATCH_TIME`] after its end, and each is answered or given up within the store's time limit. The
/// whole time is waited from now on, by this member's own steady clock: the end was noted by a
/// clock of another member, which is only good enough to leave out what is long past.
pub fn unsettled(
    context: &Coordination,
    shard: &ShardId,
    recipient: &str,
) -> Option<(Duration, String)> {
    let now_unix_ms = (context.wall_unix_ms)();
    let is_recent = |operation: &Operation| {
        let ended_unix_ms = operation.finished_unix_ms;
        ended_unix_ms.is_some_and(|at| {
            now_unix_ms.saturating_sub(at) < millis(BATCH_TIME + CLOCKS_DIFFER_MAX)
        })
    };
    let broken_off = context.group.look(|state| {
        let mut broken_off = broken_off(state, shard, recipient);
        broken_off.find(|operation| is_recent(operation)).cloned()
    })?;
    let wait = BATCH_TIME + context.store.request_timeout();
    let id = broken_off.id;
    let long = humantime::format_duration(wait);
    let why = format!(
        "the last deletes of operation {id}, which did not succeed, may be on their way for {long}"
    );
    Some((wait, why))
}

/// The removals of other recipients in a shard that did not succeed: one that did has been told of
/// every delete that it went.
fn broken_off<'a>(
    state: &'a State,
    shard: &'a ShardId,
    recipient: &'a str,
) -> impl Iterator<Item = &'a Operation> {
    state.operations.iter().filter(move |operation| {
        operation.state != OperationState::Succeeded
            && matches!(
                &operation.spec,
                Spec::RemoveRecipient { shard: of, recipient: other } if of == shard && other != recipient
            )
    })
}

/// Batch by batch, until none is left: how many had to stay.
async fn remove_all(run: &Run, shard: &ShardId, recipient: &str) -> Result<u64> {
    let mut wait = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let until = delete_side::take(run, shard).await + BATCH_TIME;
        run.say(format!("deleting the key files of {recipient}"));
        let batch = one_batch(run, shard, recipient, until).await;
        release(run, recipient, batch.as_ref()).await?;
        match batch {
            Ok(batch) if batch.left == 0 => return Ok(batch.kept),
            Ok(batch) => {
                run.say(format!("key files still to be deleted: {}", batch.left));
                wait = Backoff::new(RETRY.0, RETRY.1);
            }
            Err(e) if e.is_retryable() => {
                tracing::warn!(operation = %run.id, "the removal of {recipient} goes on later: {e}");
                run.say(format!("waits: {e}"));
                wait.pause().await;
            }
            Err(e) => return Err(e),
        }
    }
}

async fn one_batch(
    run: &Run,
    shard: &ShardId,
    recipient: &str,
    until: Instant,
) -> Result<RemovedKeys> {
    let too_slow = || {
        let limit = humantime::format_duration(BATCH_TIME);
        Error::timeout(format!(
            "the store did not take a batch of deletes of key files within {limit}"
        ))
    };
    if Instant::now() >= until {
        return Err(too_slow());
    }
    let batch = async {
        run.context.check_owner().await?;
        let store = &run.context.store;
        store.remove_recipient(shard, recipient, BATCH).await
    };
    let batch = timeout_at(until, batch).await;
    batch.unwrap_or_else(|_| Err(too_slow()))
}

/// Lets go of the delete side, and notes how far the removal is: a next leader counts on from there.
async fn release(run: &Run, recipient: &str, batch: Result<&RemovedKeys, &Error>) -> Result<()> {
    let deleted = Deleted {
        objects: batch.map_or(0, |batch| batch.deleted),
        bytes: 0,
    };
    let mut all = run.operation()?.deleted;
    all.add(deleted);
    let note = format!("key files of {recipient} deleted: {}", all.objects);
    let release = operations::Command::ReleaseDeleteSide {
        id: run.id,
        deleted,
        note,
    };
    run.commit(Command::Operations(release)).await.map(drop)
}

//! Removes a recipient from a shard: its key files go, in batches, each under a hold of its own of the
//! delete side of the lock. Backups go before.

use std::time::Duration;

use seawall_common::{Error, Result, clock::now_unix_ms, ids::ShardId, repository::RemovedKeys};

use super::{
    delete_side,
    driver::{Backoff, Run},
};
use crate::state::{
    Command, State,
    collection::Deleted,
    operations::{self, Effect, Operation, OperationState, Outcome, Spec},
};

/// Key files that are deleted under one hold.
const BATCH: usize = 500;
/// Between two tries, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long the last deletes of an ended removal may still be on their way to the store: those of
/// another recipient must be seen before it is decided which key of a session is the last one.
const UNDER_WAY: Duration = Duration::from_secs(60);

pub async fn remove(run: &Run, operation: &Operation) -> Result<String> {
    let Spec::RemoveRecipient { shard, recipient } = &operation.spec else {
        return Err(Error::internal("not a removal of a recipient"));
    };
    run.step("settle", async {
        let wait = run
            .context
            .group
            .look(|state| unsettled(state, shard, recipient));
        tokio::time::sleep(wait).await;
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

/// How long the removal of another recipient, broken off, may still have deletes on their way.
fn unsettled(state: &State, shard: &ShardId, recipient: &str) -> Duration {
    // One that succeeded has been told of every delete that it went.
    let broken_off = state.operations.iter().filter(|operation| {
        operation.state != OperationState::Succeeded
            && matches!(
                &operation.spec,
                Spec::RemoveRecipient { shard: of, recipient: other } if of == shard && other != recipient
            )
    });
    let newest_unix_ms = broken_off
        .filter_map(|operation| operation.finished_unix_ms)
        .max();
    let since_ms = newest_unix_ms.map_or(u64::MAX, |at| now_unix_ms().saturating_sub(at));
    UNDER_WAY.saturating_sub(Duration::from_millis(since_ms))
}

/// Batch by batch, until none is left: how many had to stay.
async fn remove_all(run: &Run, shard: &ShardId, recipient: &str) -> Result<u64> {
    let mut wait = Backoff::new(RETRY.0, RETRY.1);
    loop {
        delete_side::take(run, shard).await;
        let batch = async {
            run.context.check_owner().await?;
            let store = &run.context.store;
            store.remove_recipient(shard, recipient, BATCH).await
        };
        let batch = batch.await;
        release(run, recipient, batch.as_ref()).await?;
        match batch {
            Ok(batch) if batch.left == 0 => return Ok(batch.kept),
            Ok(_) => {
                wait = Backoff::new(RETRY.0, RETRY.1);
            }
            Err(e) if e.is_retryable() => {
                tracing::warn!(operation = %run.id, "the removal of {recipient} goes on later: {e}");
                wait.pause().await;
            }
            Err(e) => return Err(e),
        }
    }
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

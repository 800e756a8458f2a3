//! The two phases of a deletion: forget, then, after a grace time and a second look, remove (I5).

use std::time::Duration;

use seawall_common::{
    Error, Result,
    clock::now_unix_ms,
    ids::{BackupName, ShardId},
};

use super::driver::{Backoff, Run};
use crate::state::{
    Command,
    operations::{self, Effect, Operation, Outcome, Spec},
};

/// Between two tries of a sweep, at first and at most.
const SWEEP_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// First phase: the mark. The objects stay for the grace time.
pub async fn remove(run: &Run, operation: &Operation) -> Result<String> {
    let Spec::RemoveBackup { shard, backup, .. } = &operation.spec else {
        return Err(Error::internal("not a removal"));
    };
    // Whether a put that was broken off has left the mark is not known: from here on it is put.
    run.step("decide", async {
        run.context.check_owner().await?;
        Ok((Outcome::default(), Effect::PointOfNoReturn))
    })
    .await?;
    let reason = format!("removed by operation {}", run.id);
    put_mark(run, "remove", shard, backup, &reason).await;
    let grace = humantime::format_duration(run.context.patience.removal_grace);
    Ok(format!(
        "backup {backup} is removed; its objects are deleted after {grace}"
    ))
}

/// Puts a backup's `removed` mark, however long that takes: its operation cannot end without.
pub async fn put_mark(run: &Run, step: &str, shard: &ShardId, backup: &BackupName, reason: &str) {
    let mut wait = run.backoff();
    let mark = || async {
        run.context.check_owner().await?;
        run.context.store.abandon(shard, backup, reason).await?;
        let reason = reason.to_owned();
        Ok((Outcome::default(), Effect::BackupRemoved { reason }))
    };
    while let Err(e) = run.step(step, mark()).await {
        tracing::warn!(operation = %run.id, "cannot mark backup {backup} as removed yet: {e}");
        wait.pause().await;
    }
}

/// Second phase: the objects go, under the delete side of the shard's lock.
pub async fn sweep(run: &Run, operation: &Operation) -> Result<String> {
    let Spec::Sweep {
        not_before_unix_ms, ..
    } = &operation.spec
    else {
        return Err(Error::internal("not a sweep"));
    };
    // Slept by the monotonic clock: one that jumps ahead does not shorten the grace.
    let left_ms = not_before_unix_ms.saturating_sub(now_unix_ms());
    tokio::time::sleep(Duration::from_millis(left_ms)).await;
    let mut wait = Backoff::new(SWEEP_RETRY.0, SWEEP_RETRY.1);
    loop {
        match sweep_once(run, operation).await {
            Ok(result) => return Ok(result),
            Err(e) => tracing::info!(operation = %run.id, "the sweep waits: {e}"),
        }
        wait.pause().await;
    }
}

/// The delete side is let go of between two tries: backups go before.
async fn sweep_once(run: &Run, operation: &Operation) -> Result<String> {
    let Spec::Sweep { shard, backup, .. } = &operation.spec else {
        return Err(Error::internal("not a sweep"));
    };
    let take = operations::Command::TakeDeleteSide {
        id: run.id,
        now_unix_ms: now_unix_ms(),
    };
    run.commit(Command::Operations(take)).await?;
    let swept = run
        .step("sweep", async {
            run.context.check_owner().await?;
            let swept = run.context.store.sweep(shard, backup).await?;
            let note = format!("{} objects, {} bytes", swept.objects, swept.bytes);
            let outcome = Outcome {
                note,
                ..Outcome::default()
            };
            Ok((outcome, Effect::None))
        })
        .await;
    if swept.is_err() {
        let release = operations::Command::ReleaseDeleteSide { id: run.id };
        run.commit(Command::Operations(release)).await?;
    }
    Ok(format!("{} deleted of {backup}", swept?.note))
}

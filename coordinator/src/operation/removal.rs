//! First phase of a deletion: a backup is forgotten. After a grace time and a second look its
//! objects are collected (I5).

use seawall_common::{
    Error, Result,
    ids::{BackupName, ShardId},
};

use super::driver::Run;
use crate::state::operations::{Effect, Operation, Outcome, Spec};

/// First phase: the mark. The objects stay for the grace time.
pub async fn remove(run: &Run, operation: &Operation) -> Result<String> {
    let Spec::RemoveBackup {
        shard,
        backup,
        reason,
        ..
    } = &operation.spec
    else {
        return Err(Error::internal("not a removal"));
    };
    // Whether a put that was broken off has left the mark is not known: from here on it is put.
    run.step("decide", async {
        run.context.check_owner().await?;
        Ok((Outcome::default(), Effect::PointOfNoReturn))
    })
    .await?;
    let why = match reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let reason = format!("removed by operation {}{why}", run.id);
    put_mark(run, "remove", shard, backup, &reason).await;
    let grace = humantime::format_duration(run.context.patience.removal_grace);
    Ok(format!(
        "backup {backup} is removed{why}; what nobody else needs of it is deleted after {grace}"
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

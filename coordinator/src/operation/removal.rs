//! First phase of a deletion: a backup is forgotten. After a grace time and a second look its
//! objects are collected (I5).

use seawall_common::{
    Error, Result,
    ids::{BackupName, ShardId},
};

use super::{delete_side, driver::Run};
use crate::state::{
    Command,
    collection::Deleted,
    operations::{self, Effect, Operation, Outcome, Spec},
};

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
    mark_in_turn(run, shard, backup, &reason).await?;
    let grace = humantime::format_duration(run.context.patience.removal_grace);
    Ok(format!(
        "backup {backup} is removed{why}; what nobody else needs of it is deleted after {grace}"
    ))
}

/// Each try has the delete side to itself, and lets go of it: while the repository takes no mark,
/// backups and restores go on.
async fn mark_in_turn(run: &Run, shard: &ShardId, backup: &BackupName, reason: &str) -> Result<()> {
    let mut wait = run.backoff();
    loop {
        delete_side::take(run, shard).await;
        let marked = run.step("remove", mark(run, shard, backup, reason)).await;
        let note = match &marked {
            Ok(_) => String::new(),
            Err(e) => format!("waits: {e}"),
        };
        let release = operations::Command::ReleaseDeleteSide {
            id: run.id,
            deleted: Deleted::default(),
            note,
        };
        run.commit(Command::Operations(release)).await?;
        match marked {
            Ok(_) => return Ok(()),
            Err(e) => {
                run.say(format!("waits: {e}"));
                tracing::warn!(operation = %run.id, "cannot mark backup {backup} as removed yet: {e}");
            }
        }
        wait.pause().await;
    }
}

async fn mark(
    run: &Run,
    shard: &ShardId,
    backup: &BackupName,
    reason: &str,
) -> Result<(Outcome, Effect)> {
    run.context.check_owner().await?;
    run.context.store.abandon(shard, backup, reason).await?;
    let reason = reason.to_owned();
    Ok((Outcome::default(), Effect::BackupRemoved { reason }))
}

/// Puts a backup's `removed` mark under the hold that its operation has, however long that takes:
/// it cannot end without.
pub async fn put_mark(run: &Run, step: &str, shard: &ShardId, backup: &BackupName, reason: &str) {
    let mut wait = run.backoff();
    while let Err(e) = run.step(step, mark(run, shard, backup, reason)).await {
        run.say(format!("waits: {e}"));
        tracing::warn!(operation = %run.id, "cannot mark backup {backup} as removed yet: {e}");
        wait.pause().await;
    }
}

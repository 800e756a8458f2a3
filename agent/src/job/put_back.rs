//! Undo of an operation: what it wrote is given up, then the database is as it was found (I2, I3).
//!
//! It does not fail: it tries on, with backoff, until the database runs and has its place in the
//! shard again. Catching up and serving follow by themselves.

use std::time::Duration;

use seawall_common::{Result, ids::BackupName};

use super::{Job, install, mark, reinstate};
use crate::{
    engine::DataState,
    journal::{Operation, OperationKind, OperationState, Outcome, Step},
};

const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

pub async fn put_back(job: &Job, reason: &str) -> Outcome {
    let mut backoff = BACKOFF_MIN;
    loop {
        match once(job, reason).await {
            Ok(outcome) => {
                job.tablet.live.set_trouble("");
                return outcome;
            }
            Err(error) => {
                let trouble = format!("cannot put the database back yet: {error}");
                job.progress.say(&trouble);
                job.tablet.live.set_trouble(&trouble);
            }
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn once(job: &Job, reason: &str) -> Result<Outcome> {
    let operation = job.record()?;
    let pending = job.tablet.journal.read().pending_marks.clone();
    let to_abandon = to_abandon(&operation);
    if let Some(backup) =
        to_abandon.filter(|backup| !pending.iter().any(|mark| mark.backup == *backup))
    {
        job.progress.say(format!("giving backup {backup} up"));
        mark::abandon(&job.tablet, job.operation, &backup, reason).await?;
    }
    match operation.kind {
        OperationKind::Backup => reinstate::make_sure(job).await?,
        OperationKind::Restore => after_restore(job, &operation).await?,
        OperationKind::Reparent | OperationKind::Aside => {}
    }
    let id = job.operation;
    let why = reason.to_owned();
    job.tablet
        .journal
        .update(move |contents| {
            contents.operation_mut(id)?.state = OperationState::Undone { reason: why };
            Ok(())
        })
        .await?;
    Ok(Outcome::default())
}

/// A restore whose data has been started on stays; before that, what was there comes back.
async fn after_restore(job: &Job, operation: &Operation) -> Result<()> {
    let has_begun_anew = operation
        .facts
        .restore
        .as_ref()
        .is_some_and(|restore| restore.adopted);
    if !has_begun_anew {
        install::roll_back(job).await?;
        let has_nothing = job.tablet.engine.data_state().await? == DataState::Empty;
        if has_nothing {
            return Ok(());
        }
    }
    reinstate::make_sure(job).await
}

fn to_abandon(operation: &Operation) -> Option<BackupName> {
    match &operation.state {
        OperationState::GivingUp { abandon, .. } => abandon.clone().or_else(|| {
            operation
                .facts
                .backup
                .clone()
                .filter(|_| !operation.has_done(Step::Copy))
        }),
        _ => None,
    }
}

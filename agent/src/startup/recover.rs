//! What an earlier process was in the middle of: finished or undone, before any command is taken.
//!
//! A backup whose manifest is in the repository, as it was announced and without a `removed` mark,
//! is complete: what is left is to bring the database back. Restored data that is in its place is
//! started. Everything else is given up: `removed` first, then the database is put back (I2, I3).

use std::{sync::Arc, time::Duration};

use seawall_common::{Error, Result, ids::OperationId, repository::StoredState};

use crate::{
    execute::Executor,
    journal::{BackupRecord, Ended, Operation, OperationKind, OperationState, Outcome, Step},
    scratch,
    tablet::Tablet,
    watchdog::{close, go_forward, is_past_return},
};

/// How long the database waits for the repository to tell whether a backup is complete.
const LOOK_LIMIT: Duration = Duration::from_secs(20);
const TRY_AGAIN: Duration = Duration::from_secs(2);

pub async fn recover(tablet: &Arc<Tablet>, executor: &Arc<Executor>) -> Result<()> {
    end_aside(tablet).await?;
    let contents = tablet.journal.read();
    for operation in contents.operations.iter().filter(|o| o.is_open()) {
        tracing::warn!(
            operation = %operation.id,
            step = operation.last_step().map_or("none", |record| record.step.name()),
            "an earlier process ended in the middle of an operation"
        );
        recover_one(tablet, executor, operation).await?;
    }
    spawn_clearing(tablet).await;
    tablet.set_recovered();
    Ok(())
}

/// What a restore test left keeps nothing else from being done: only the next test waits until it
/// has gone.
async fn spawn_clearing(tablet: &Arc<Tablet>) {
    let Some(directory) = tablet.settings.scratch_dir.clone() else {
        return;
    };
    let clearing = tablet.begin_clearing().await;
    let alias = tablet.alias.clone();
    tokio::spawn(async move {
        if let Err(error) = scratch::clear(&directory, &alias).await {
            tracing::error!("cannot clear {}: {error}", directory.display());
        }
        drop(clearing);
    });
}

/// What was at work beside the database has ended with the process: it may be asked for again.
async fn end_aside(tablet: &Tablet) -> Result<()> {
    let why = Err(Error::unavailable(format!(
        "the agent of {} ended in it",
        tablet.alias
    )));
    let ended = Ended::from_result(&why);
    tablet
        .journal
        .update(move |contents| {
            for operation in &mut contents.operations {
                if operation.is_at_work_aside()
                    && let Some(step) = operation.last_step().map(|record| record.step)
                {
                    operation.end(step, ended.clone());
                }
            }
            Ok(())
        })
        .await
}

async fn recover_one(
    tablet: &Arc<Tablet>,
    executor: &Arc<Executor>,
    operation: &Operation,
) -> Result<()> {
    let id = operation.id;
    if let OperationState::GivingUp { reason, .. } = &operation.state {
        return executor.give_up(id, reason).await.map(drop);
    }
    if operation.kind == OperationKind::Reparent {
        return match operation.has_demoted() {
            // Stays closed until a coordinator tells how the change of primary ended.
            true => Ok(()),
            false => close(tablet, id).await,
        };
    }
    let is_complete = operation.kind == OperationKind::Backup
        && !operation.has_done(Step::Copy)
        && match &operation.facts.announced {
            Some(announced) => is_complete(tablet, announced).await,
            None => false,
        };
    if is_complete {
        record_copy(tablet, operation).await?;
    }
    if is_complete || is_past_return(operation) {
        spawn_forward(tablet.clone(), executor.clone(), id, operation.local);
        return Ok(());
    }
    let step = operation
        .last_step()
        .map_or("its beginning", |record| record.step.name());
    let reason = format!("the agent of {} ended in {step}", tablet.alias);
    executor.give_up(id, &reason).await.map(drop)
}

/// Whether the announced manifest is in the repository and counts. A repository that cannot be
/// asked in time is taken for a no: `removed` is put as soon as it can be reached, and beats it.
async fn is_complete(tablet: &Tablet, announced: &BackupRecord) -> bool {
    let look = async {
        let stored = tablet.repository().await?.scan(&tablet.shard_id).await?;
        Ok::<_, seawall_common::Error>(stored.into_iter().any(|backup| {
            backup.name == announced.name
                && matches!(&backup.state, StoredState::Complete { manifest_hash, .. }
                    if *manifest_hash == announced.manifest_hash)
        }))
    };
    match tokio::time::timeout(LOOK_LIMIT, look).await {
        Ok(Ok(is_complete)) => is_complete,
        Ok(Err(error)) => {
            tracing::error!("cannot see whether {} is complete: {error}", announced.name);
            false
        }
        Err(_) => {
            tracing::error!(
                "the repository does not tell whether {} is complete",
                announced.name
            );
            false
        }
    }
}

async fn record_copy(tablet: &Tablet, operation: &Operation) -> Result<()> {
    let id = operation.id;
    tracing::info!(operation = %id, "the backup is complete: only the database has to come back");
    tablet
        .journal
        .update(move |contents| {
            let operation = contents.operation_mut(id)?;
            let announced = operation.facts.announced.clone();
            let outcome = Outcome {
                position: announced.as_ref().map(|backup| backup.position.clone()),
                backup: announced.map(Box::new),
                ..Outcome::default()
            };
            operation.end(Step::Copy, Ended::Done(outcome));
            Ok(())
        })
        .await
}

/// The operation stays open for the coordinator to carry it on; one of the agent's own ends.
fn spawn_forward(tablet: Arc<Tablet>, executor: Arc<Executor>, id: OperationId, is_local: bool) {
    tokio::spawn(async move {
        while let Err(error) = go_forward(&executor, id).await {
            tablet
                .live
                .set_trouble(&format!("cannot bring the database back yet: {error}"));
            let is_open = tablet
                .journal
                .read()
                .operation(id)
                .is_some_and(Operation::is_open);
            if !is_open {
                return;
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
        tablet.live.set_trouble("");
        if is_local && let Err(error) = close(&tablet, id).await {
            tracing::error!("{error}");
        }
    });
}

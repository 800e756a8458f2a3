//! Restore on an empty start: through the coordinators; from the repository alone when none answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use seawall_common::{
    Error, Result,
    ids::{BackupName, OperationId},
    repository::{ManifestHeader, StoredState},
};
use seawall_proto::v1::{self, OperationState as Known, operation_spec::Spec};

use crate::{
    call::StepCall,
    execute::{Answer, Executor},
    journal::{Operation, OperationKind},
    tablet::Tablet,
    watchdog::close,
};

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Restores the shard's newest backup that fits; nothing when the shard has none at all.
pub async fn restore(tablet: &Tablet, executor: &Arc<Executor>) -> Result<()> {
    let began = Instant::now();
    say(
        tablet,
        "no user data: waiting for a coordinator to restore it",
    );
    while !tablet.live.is_registered() {
        if began.elapsed() > tablet.settings.restore_alone_after {
            return restore_alone(tablet, executor).await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let id = OperationId::generate();
    tablet
        .journal
        .update(move |contents| {
            contents.asked_restore = Some(id);
            Ok(())
        })
        .await?;
    tracing::info!(operation = %id, "no user data: asking for a restore");
    say(tablet, "no user data: restoring");
    match start(tablet, id).await {
        Err(error) if error.is_retryable() && is_silent(tablet) => {
            restore_alone(tablet, executor).await
        }
        Err(error) => Err(error.context("cannot restore")),
        Ok(()) => wait_for_end(tablet, executor, id).await,
    }
}

/// Unless there is worse to say: why it failed the last time.
fn say(tablet: &Tablet, what: &str) {
    let now = tablet.live.trouble();
    if now.is_empty() || now.starts_with("no user data") {
        tablet.live.set_trouble(what);
    }
}

async fn start(tablet: &Tablet, id: OperationId) -> Result<()> {
    let concurrency = u32::try_from(tablet.settings.restore_concurrency)
        .map_err(|_| Error::invalid("restore_concurrency is too large"))?;
    let spec = Spec::Restore(v1::RestoreSpec {
        alias: tablet.alias.to_string(),
        backup: String::new(),
        empty_start: true,
        concurrency,
        allow_broken: false,
    });
    tablet
        .coordinator
        .start_operation(v1::StartOperationRequest {
            id: id.to_string(),
            spec: Some(v1::OperationSpec { spec: Some(spec) }),
            timeout_ms: 0,
        })
        .await
        .map(drop)
}

fn is_silent(tablet: &Tablet) -> bool {
    tablet
        .live
        .silence()
        .is_none_or(|silence| silence > tablet.settings.restore_alone_after)
}

/// Its steps come in by [`Executor::execute`]; here only their end is waited for.
async fn wait_for_end(tablet: &Tablet, executor: &Arc<Executor>, id: OperationId) -> Result<()> {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match tablet.coordinator.operation(id.to_string()).await {
            Ok(operation) => match operation.state() {
                Known::Succeeded => {
                    match operation.backup.is_empty() {
                        true => {
                            tracing::info!("{} has no backup: it starts empty", tablet.shard_id);
                        }
                        // Backups that were passed over are told of in it.
                        false => tracing::warn!("{}", operation.result),
                    }
                    return Ok(());
                }
                Known::Failed | Known::Cancelled => {
                    return Err(Error::refused(format!(
                        "the restore has failed: {}",
                        operation.error
                    )));
                }
                _ => {}
            },
            Err(error) if error.is_retryable() => {
                let is_begun = tablet.journal.read().operation(id).is_some();
                if is_silent(tablet) && !is_begun {
                    return restore_alone(tablet, executor).await;
                }
                // Begun and silent: the watchdog gives it up, and it is begun anew.
                if is_begun && tablet.journal.read().owner().is_none() {
                    return ended_here(tablet, id);
                }
            }
            Err(error) => return Err(error.context("cannot see how the restore goes")),
        }
    }
}

/// How the operation ended, from the journal, while no coordinator can tell.
fn ended_here(tablet: &Tablet, id: OperationId) -> Result<()> {
    use crate::journal::OperationState;
    let contents = tablet.journal.read();
    match contents.operation(id).map(|operation| &operation.state) {
        Some(OperationState::Done) => Ok(()),
        Some(OperationState::Undone { reason }) => Err(Error::unavailable(format!(
            "the restore was given up: {reason}"
        ))),
        _ => Err(Error::unavailable("the restore has been lost")),
    }
}

/// The same steps, driven from here, with the newest complete backup that the repository holds.
async fn restore_alone(tablet: &Tablet, executor: &Arc<Executor>) -> Result<()> {
    tracing::warn!(
        "no coordinator has answered for {} s: restoring from the repository alone",
        tablet.settings.restore_alone_after.as_secs()
    );
    let Some((backup, manifest_hash)) = choose(tablet).await? else {
        tracing::warn!("{} has no backup: it starts empty", tablet.shard_id);
        return Ok(());
    };
    tracing::warn!("restoring {backup} without a coordinator's word that it is the right one");
    let id = OperationId::generate();
    tablet
        .journal
        .update(move |contents| {
            if let Some(owner) = contents.owner() {
                return Err(Error::unavailable(format!(
                    "operation {} has the database by now",
                    owner.id
                )));
            }
            let mut operation = Operation::new(id, 1, OperationKind::Restore);
            operation.local = true;
            contents.operations.push(operation);
            Ok(())
        })
        .await?;
    for step in steps(backup, manifest_hash) {
        let answer = match executor.execute_alone(id, step).await {
            Ok(run) => run.end().await,
            Err(error) => Answer::Failed(error),
        };
        if let Answer::Failed(error) | Answer::Undone(error) = answer {
            executor.give_up(id, error.message()).await?.end().await;
            return Err(error.context("cannot restore from the repository alone"));
        }
    }
    close(tablet, id).await
}

/// Catching up, with whomever there will be to follow, is reconciled afterwards.
fn steps(backup: BackupName, manifest_hash: String) -> [StepCall; 5] {
    [
        StepCall::Drain {
            kind: OperationKind::Restore,
            drain: Some(Duration::ZERO),
        },
        StepCall::Fetch {
            backup,
            manifest_hash,
            concurrency: None,
        },
        StepCall::Install,
        StepCall::Start,
        StepCall::Reinstate,
    ]
}

/// The newest: highest epoch, then position. None at all is no error; none that is complete is.
async fn choose(tablet: &Tablet) -> Result<Option<(BackupName, String)>> {
    let stored = tablet.repository().await?.scan(&tablet.shard_id).await?;
    let mut best: Option<(Box<ManifestHeader>, String)> = None;
    let mut passed_over = Vec::new();
    for backup in stored {
        let name = backup.name;
        match backup.state {
            StoredState::Removed { .. } => {}
            StoredState::Incomplete => passed_over.push(format!("{name} is incomplete")),
            StoredState::Broken { reason } => {
                passed_over.push(format!("{name} is broken: {reason}"));
            }
            StoredState::Complete { header, .. } if header.damaged_pages > 0 => {
                let pages = match header.damaged_pages {
                    1 => "a damaged page".to_owned(),
                    pages => format!("{pages} damaged pages"),
                };
                passed_over.push(format!("{name} holds {pages}"));
            }
            StoredState::Complete { header, .. } if header.engine != tablet.engine.kind() => {
                passed_over.push(format!("{name} is of engine {}", header.engine));
            }
            StoredState::Complete {
                header,
                manifest_hash,
            } => {
                let is_newer = best
                    .as_ref()
                    .is_none_or(|(other, _)| rank(&header) > rank(other));
                if is_newer {
                    best = Some((header, manifest_hash));
                }
            }
        }
    }
    for reason in &passed_over {
        tracing::warn!("passed over: {reason}");
    }
    match best {
        Some((header, manifest_hash)) => Ok(Some((header.name, manifest_hash))),
        None if passed_over.is_empty() => Ok(None),
        None => Err(Error::refused(format!(
            "{} has backups, but none that can be restored: {}",
            tablet.shard_id,
            passed_over.join("; ")
        ))),
    }
}

fn rank(header: &ManifestHeader) -> (u64, u128) {
    (header.epoch, header.position.order_key())
}

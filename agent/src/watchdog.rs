//! The dead man's handle: an operation that nobody drives any more is brought to its end from here.
//!
//! Between steps, silence of the coordinators about the operation counts; while files are copied or
//! fetched, silence for as long as a hold lives. What cannot be undone any more is finished, all
//! else is given up and put back (I3). A demoted primary stays closed until a coordinator tells how
//! the change of primary ended: to open it by guess could make two primaries.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use seawall_common::{Error, ErrorKind, Result, ids::OperationId};
use seawall_proto::v1::OperationState as Known;

use crate::{
    call::StepCall,
    execute::{Answer, Executor},
    job,
    journal::{Operation, OperationKind, OperationState, Step},
    session::needs_hold,
    tablet::Tablet,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
const ASK_EVERY: Duration = Duration::from_secs(5);
const MARKS_EVERY: Duration = Duration::from_secs(10);
const DISCARD_EVERY: Duration = Duration::from_secs(60);
/// How long a hold lives that nobody keeps alive.
const HOLD_LEASE: Duration = Duration::from_secs(60);

/// What is known of whether anybody drives the open operation.
struct Watched {
    id: OperationId,
    heard: Instant,
    asked: Instant,
    /// When a change of primary was found to have ended.
    over: Option<Instant>,
}

/// Runs for ever.
pub async fn run(tablet: &Tablet, executor: &Arc<Executor>) {
    tokio::join!(
        put_marks(tablet),
        discard_old(tablet),
        watch(tablet, executor)
    );
}

/// What is left of a restore does not take its room for ever.
async fn discard_old(tablet: &Tablet) {
    loop {
        if let Err(error) = job::discard_old(tablet).await {
            tracing::warn!("{error}");
        }
        tokio::time::sleep(DISCARD_EVERY).await;
    }
}

/// Beside the watch: a store that stalls must not keep a database down.
async fn put_marks(tablet: &Tablet) {
    loop {
        tokio::time::sleep(MARKS_EVERY).await;
        job::put_pending_marks(tablet).await;
    }
}

async fn watch(tablet: &Tablet, executor: &Arc<Executor>) {
    let mut watched: Option<Watched> = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let contents = tablet.journal.read();
        call_off_silent(tablet, executor).await;
        let Some(operation) = contents.owner().filter(|operation| !operation.local) else {
            watched = None;
            continue;
        };
        let now = Instant::now();
        let watch = watched
            .take()
            .filter(|watch| watch.id == operation.id)
            .unwrap_or(Watched {
                id: operation.id,
                heard: now,
                asked: now,
                over: None,
            });
        match look(tablet, executor, operation, watch).await {
            Ok(watch) => watched = Some(watch),
            Err(error) => tracing::warn!("cannot end operation {} yet: {error}", operation.id),
        }
    }
}

/// Nobody may be left to keep deleters away from what is being read.
async fn call_off_silent(tablet: &Tablet, executor: &Executor) {
    let silence = tablet.live.silence().unwrap_or_default();
    if silence <= HOLD_LEASE {
        return;
    }
    for operation in &tablet.journal.read().operations {
        if operation.is_at_work_aside() && executor.is_busy(operation.id) {
            let reason = format!("no coordinator has answered for {} s", silence.as_secs());
            if let Err(error) = executor.call_off(operation.id, &reason).await {
                tracing::warn!("cannot call operation {} off yet: {error}", operation.id);
            }
        }
    }
}

async fn look(
    tablet: &Tablet,
    executor: &Arc<Executor>,
    operation: &Operation,
    mut watch: Watched,
) -> Result<Watched> {
    if matches!(operation.state, OperationState::GivingUp { .. }) {
        return Ok(watch);
    }
    if executor.is_busy(operation.id) {
        watch.heard = Instant::now();
        let silence = tablet.live.silence().unwrap_or_default();
        let is_moving = matches!(
            operation.last_step().map(|record| record.step),
            Some(Step::Prepare | Step::Copy | Step::Fetch)
        );
        if is_moving && needs_hold(operation) && silence > HOLD_LEASE {
            let reason = format!("no coordinator has answered for {} s", silence.as_secs());
            executor.give_up(operation.id, &reason).await?;
        }
        return Ok(watch);
    }
    if let Some(over) = watch.over {
        if tablet.live.has_seen_shard_since(over) {
            close(tablet, operation.id).await?;
        }
        return Ok(watch);
    }
    if watch.asked.elapsed() >= ASK_EVERY {
        watch.asked = Instant::now();
        match ask(tablet, operation).await {
            Some(Verdict::Driven) => watch.heard = Instant::now(),
            Some(Verdict::Over { .. }) if operation.kind == OperationKind::Reparent => {
                // Which epoch it ended in is not known yet: a heartbeat sent from now on tells.
                watch.over = Some(Instant::now());
                return Ok(watch);
            }
            Some(Verdict::Over { why, has_failed }) => {
                conclude(tablet, executor, operation, &why, has_failed).await?;
                return Ok(watch);
            }
            None => {}
        }
    }
    let silence = watch.heard.elapsed();
    if silence > tablet.settings.operation_silence && operation.kind != OperationKind::Reparent {
        let why = format!("no coordinator has driven it for {} s", silence.as_secs());
        conclude(tablet, executor, operation, &why, false).await?;
    }
    Ok(watch)
}

enum Verdict {
    Driven,
    Over { why: String, has_failed: bool },
}

impl Verdict {
    fn failed(why: String) -> Self {
        Verdict::Over {
            why,
            has_failed: true,
        }
    }
}

async fn ask(tablet: &Tablet, operation: &Operation) -> Option<Verdict> {
    let is_reparent = operation.kind == OperationKind::Reparent;
    match tablet.coordinator.operation(operation.id.to_string()).await {
        Ok(known) => Some(match known.state() {
            Known::Running | Known::Unspecified => Verdict::Driven,
            // The coordinator would say so itself if it could reach this agent.
            Known::Undoing if is_reparent => Verdict::Driven,
            Known::Undoing => Verdict::failed("the coordinator undoes it".to_owned()),
            Known::Succeeded => Verdict::Over {
                why: "the coordinator has ended it".to_owned(),
                has_failed: false,
            },
            Known::Failed | Known::Cancelled => {
                Verdict::failed(format!("the coordinator has ended it: {}", known.error))
            }
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Some(Verdict::failed(
            "the coordinators do not know of it".to_owned(),
        )),
        Err(_) => None,
    }
}

async fn conclude(
    tablet: &Tablet,
    executor: &Arc<Executor>,
    operation: &Operation,
    why: &str,
    has_failed: bool,
) -> Result<()> {
    // Restored data on which no server has come up is no gain: what was there before comes back.
    let has_not_started = operation.kind == OperationKind::Restore && !has_adopted(operation);
    if !is_past_return(operation) || (has_failed && has_not_started) {
        return executor.give_up(operation.id, why).await.map(drop);
    }
    tracing::warn!(operation = %operation.id, "finishing alone: {why}");
    go_forward(executor, operation.id).await?;
    // What is left, catching up, is reconciled.
    close(tablet, operation.id).await
}

fn has_adopted(operation: &Operation) -> bool {
    let restore = operation.facts.restore.as_ref();
    restore.is_some_and(|restore| restore.adopted)
}

/// What an operation has done that must not be undone: a complete backup, restored data in place.
pub fn is_past_return(operation: &Operation) -> bool {
    match operation.kind {
        OperationKind::Backup => operation.has_done(Step::Copy),
        OperationKind::Restore => operation.has_done(Step::Install),
        OperationKind::Reparent | OperationKind::Aside => false,
    }
}

/// The database runs and has its place in the shard.
pub async fn go_forward(executor: &Arc<Executor>, id: OperationId) -> Result<()> {
    for step in [StepCall::Start, StepCall::Reinstate] {
        match executor.execute_alone(id, step).await?.end().await {
            Answer::Done(_) => {}
            Answer::Failed(error) | Answer::Undone(error) => return Err(error),
        }
    }
    Ok(())
}

/// The operation has nothing more to do here.
pub async fn close(tablet: &Tablet, id: OperationId) -> Result<()> {
    tablet
        .journal
        .update(move |contents| {
            let operation = contents.operation_mut(id)?;
            if operation.state != OperationState::Open {
                return Err(Error::refused(format!("operation {id} is not open here")));
            }
            operation.state = OperationState::Done;
            Ok(())
        })
        .await
}

#[cfg(test)]
mod tests;

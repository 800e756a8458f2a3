//! Carries one operation through, in the leader: forward, or back.
//!
//! Each step is recorded before and after. A new leader's driver finds what is recorded, leaves out
//! the steps that have ended and repeats the one under way. The runner ends a driver when its
//! leader loses office; until then it goes on trying whatever it must not leave undone.

use std::{sync::Arc, time::Duration};

use seawall_common::{
    Error, ErrorKind, Result,
    clock::now_unix_ms,
    fault,
    ids::{Alias, OperationId},
    position::Position,
};
use seawall_proto::v1::{self, execute_request::Step};

use super::{
    Coordination, agent_call, backup, collection, recipients, removal, reparent, restore, verify,
};
use crate::state::{
    Command, Response,
    operations::{self, Effect, Finish, Operation, OperationState, Outcome, Spec},
};

/// How long a sweep may be kept from its work before it is given up.
const SWEEP_TIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Before a driver that failed in a way it should not begins again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// One operation under one leader.
pub struct Run {
    pub context: Arc<Coordination>,
    pub term: u64,
    pub id: OperationId,
}

/// Waits that grow from try to try.
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, max }
    }

    pub async fn pause(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(self.max);
    }
}

/// Runs until the operation has ended.
pub async fn drive(run: Run) {
    loop {
        match advance(&run).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) => {
                tracing::error!(operation = %run.id, "the operation cannot be carried on: {e}");
                tokio::time::sleep(RESTART_AFTER).await;
            }
        }
    }
    run.context.heartbeats.clear_progress(run.id);
}

/// Goes forward or back as far as that goes; false: the operation has ended.
async fn advance(run: &Run) -> Result<bool> {
    let operation = run.operation()?;
    match operation.state {
        OperationState::Running => match go_forward(run, &operation).await {
            Ok(result) => run.finish(result, None).await?,
            Err(error) => give_up(run, error).await?,
        },
        OperationState::Undoing => {
            let result = undo(run, &operation).await?;
            run.finish(result, None).await?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

async fn go_forward(run: &Run, operation: &Operation) -> Result<String> {
    if is_decided_removal(operation) {
        return forward(run, operation).await;
    }
    let mut left_ms = operation.deadline_unix_ms.saturating_sub(now_unix_ms());
    if matches!(operation.spec, Spec::Sweep { .. }) {
        // A clock that is ahead does not end its grace time.
        left_ms = left_ms.max(millis(SWEEP_TIME));
    }
    tokio::select! {
        result = forward(run, operation) => result,
        error = run.called_off() => Err(error),
        () = tokio::time::sleep(Duration::from_millis(left_ms)) => Err(overdue(&run.operation()?)),
    }
}

/// Its mark has to be put, however late: it has no deadline any more.
fn is_decided_removal(operation: &Operation) -> bool {
    operation.irrevocable && matches!(operation.spec, Spec::RemoveBackup { .. })
}

async fn forward(run: &Run, operation: &Operation) -> Result<String> {
    match &operation.spec {
        Spec::Backup { .. } => backup::forward(run, operation).await,
        Spec::Restore { .. } => restore::forward(run, operation).await,
        Spec::RemoveBackup { .. } => removal::remove(run, operation).await,
        Spec::Sweep { .. } => collection::sweep(run, operation).await,
        Spec::Collect { .. } => collection::collect(run, operation).await,
        Spec::RemoveRecipient { .. } => recipients::remove(run, operation).await,
        Spec::InitShardPrimary { .. } => reparent::init(run, operation).await,
        Spec::PlannedReparent { .. } => reparent::planned(run, operation).await,
        Spec::Verify { .. } | Spec::TestRestore { .. } => verify::forward(run, operation).await,
    }
}

async fn undo(run: &Run, operation: &Operation) -> Result<String> {
    match &operation.spec {
        Spec::Backup { .. } => backup::undo(run, operation).await,
        Spec::Restore { .. } => restore::undo(run, operation).await,
        Spec::PlannedReparent { .. } => reparent::undo(run, operation).await,
        Spec::Verify { .. } | Spec::TestRestore { .. } => verify::undo(run, operation).await,
        Spec::RemoveBackup { .. }
        | Spec::Sweep { .. }
        | Spec::Collect { .. }
        | Spec::RemoveRecipient { .. }
        | Spec::InitShardPrimary { .. } => Ok(String::new()),
    }
}

fn overdue(operation: &Operation) -> Error {
    let at = operation
        .steps
        .iter()
        .rev()
        .find(|step| step.ended_unix_ms.is_none() || step.error.is_some());
    let mut message = "the operation did not end before its deadline".to_owned();
    if let Some(step) = at {
        message.push_str(&format!(", in step {}", step.name));
        if let Some(error) = &step.error {
            message.push_str(&format!(": {error}"));
        }
    }
    Error::timeout(message)
}

async fn give_up(run: &Run, error: Error) -> Result<()> {
    let operation = run.operation()?;
    if operation.state != OperationState::Running || is_decided_removal(&operation) {
        return Ok(());
    }
    tracing::warn!(operation = %run.id, shard = %operation.shard, "the operation failed: {error}");
    if operation.irrevocable || matches!(operation.spec, Spec::Sweep { .. } | Spec::Collect { .. })
    {
        let error = match &operation.spec {
            Spec::Backup { alias, .. } => backup::stands(&operation, alias, &error),
            _ => error,
        };
        return run.finish(String::new(), Some(error)).await;
    }
    let fail = operations::Command::Fail {
        id: run.id,
        error: error.into(),
    };
    run.commit(Command::Operations(fail)).await?;
    Ok(())
}

impl Run {
    pub fn operation(&self) -> Result<Operation> {
        let id = self.id;
        self.context
            .group
            .look(|state| state.operations.get(&id).cloned())
    }

    pub fn backoff(&self) -> Backoff {
        let (first, max) = self.context.patience.retry;
        Backoff::new(first, max)
    }

    /// Says to whoever watches what it waits for, or is at; empty: nothing worth saying.
    pub fn say(&self, message: impl Into<String>) {
        let heartbeats = &self.context.heartbeats;
        match message.into() {
            message if message.is_empty() => heartbeats.clear_progress(self.id),
            message => heartbeats.set_progress(
                self.id,
                v1::Progress {
                    message,
                    ..v1::Progress::default()
                },
            ),
        }
    }

    /// How long an agent may be silent now.
    pub fn lease(&self) -> Duration {
        let patience = &self.context.patience;
        match self.operation() {
            Ok(operation) if operation.irrevocable => patience.lease_forward,
            _ => patience.lease,
        }
    }

    /// Commits a command, however long the group needs: whoever loses office is ended from outside.
    pub async fn commit(&self, command: Command) -> Result<Response> {
        let mut wait = self.backoff();
        loop {
            match self.context.group.propose(command.clone()).await {
                Err(e) if e.is_retryable() => {
                    tracing::warn!(operation = %self.id, "cannot commit yet: {e}");
                    wait.pause().await;
                }
                answer => return answer,
            }
        }
    }

    /// Somebody knows of a newer term: returns only if this leader is still the one. One that is not
    /// is ended from outside.
    pub async fn stay_only_in_office(&self) {
        let mut wait = self.backoff();
        loop {
            match self.context.group.prove_leadership().await {
                Ok(term) if term == self.term => return,
                Ok(term) => {
                    tracing::warn!(operation = %self.id, "term {term} has begun: stopped");
                    std::future::pending::<()>().await;
                }
                Err(e) => tracing::warn!(operation = %self.id, "may not be leading: {e}"),
            }
            wait.pause().await;
        }
    }

    /// Does a step, unless it is recorded as done.
    pub async fn step(
        &self,
        name: &str,
        work: impl Future<Output = Result<(Outcome, Effect)>>,
    ) -> Result<Outcome> {
        if let Some(outcome) = self.operation()?.outcome(name) {
            return Ok(outcome.clone());
        }
        // Before the commit, which wakes who watches: the next step is not shown with this one's words.
        self.context.heartbeats.clear_progress(self.id);
        self.commit(Command::Operations(operations::Command::StepStarted {
            id: self.id,
            step: name.to_owned(),
            now_unix_ms: now_unix_ms(),
        }))
        .await?;
        tracing::info!(operation = %self.id, step = name, "step begins");
        let worked = match fault::reach(&format!("coordinator.{name}.begin")).await {
            Ok(()) => work.await,
            Err(e) => Err(e),
        };
        let (outcome, effect, error) = match worked {
            Ok((outcome, effect)) => (outcome, effect, None),
            Err(e) => (Outcome::default(), Effect::None, Some(e)),
        };
        self.commit(Command::Operations(operations::Command::StepEnded {
            id: self.id,
            step: name.to_owned(),
            now_unix_ms: now_unix_ms(),
            error: error.as_ref().map(ToString::to_string),
            outcome: outcome.clone(),
            effect,
        }))
        .await?;
        fault::reach(&format!("coordinator.{name}.end")).await?;
        error.map_or(Ok(outcome), Err)
    }

    /// Does a step that must come to a good end: past the point of no return, or to undo. Gives up
    /// only on what no repetition can mend.
    pub async fn insist<W: Future<Output = Result<(Outcome, Effect)>>>(
        &self,
        name: &str,
        is_in_vain: impl Fn() -> bool,
        work: impl Fn() -> W,
    ) -> Result<Outcome> {
        let mut wait = self.backoff();
        loop {
            match self.step(name, work()).await {
                Err(e) if can_be_mended(&e) && !is_in_vain() => {
                    tracing::warn!(operation = %self.id, step = name, "trying again: {e}");
                    wait.pause().await;
                }
                result => return result,
            }
        }
    }

    /// A step of an agent, done once.
    pub async fn agent_step(&self, name: &str, alias: &Alias, step: Step) -> Result<Outcome> {
        self.step(name, async {
            let done = agent_call::call(self, alias, step).await?;
            Ok((outcome(alias, &done)?, Effect::None))
        })
        .await
    }

    /// A step of an agent that must come to a good end, while the agent is there.
    pub async fn insist_agent_step(
        &self,
        name: &str,
        alias: &Alias,
        effect: Effect,
        step: impl Fn() -> Step,
    ) -> Result<Outcome> {
        let is_gone = || self.context.heartbeats.silence(alias) >= self.lease();
        self.insist(name, is_gone, || async {
            let done = agent_call::call(self, alias, step()).await?;
            Ok((outcome(alias, &done)?, effect.clone()))
        })
        .await
    }

    /// Returns when the operation is to go no further: it was cancelled, or its hold is gone.
    async fn called_off(&self) -> Error {
        let mut applied = self.context.group.applied();
        loop {
            let reason = self.context.group.look(|state| {
                let operation = match state.operations.get(&self.id) {
                    Ok(operation) => operation,
                    Err(e) => return Some(e),
                };
                if operation.state != OperationState::Running {
                    return Some(Error::cancelled("cancelled"));
                }
                let hold_is_gone = operation.token != 0
                    && !operation.irrevocable
                    && !state.locks.is_valid(&operation.hold_id(), operation.token);
                hold_is_gone.then(|| {
                    Error::fenced("its hold of the backup lock was broken")
                        .hint("backup-lock --status shows by whom, and why.")
                })
            });
            if let Some(reason) = reason {
                return reason;
            }
            if applied.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn finish(&self, result: String, error: Option<Error>) -> Result<()> {
        let now_unix_ms = now_unix_ms();
        let grace_ms = millis(self.context.patience.removal_grace);
        let sweep_not_before_unix_ms = now_unix_ms.saturating_add(grace_ms);
        let finish = Finish {
            id: self.id,
            now_unix_ms,
            error: error.map(Into::into),
            result,
            sweep_not_before_unix_ms,
            sweep_deadline_unix_ms: sweep_not_before_unix_ms.saturating_add(millis(SWEEP_TIME)),
        };
        let answer = self
            .commit(Command::Operations(operations::Command::Finish(finish)))
            .await?;
        if let Response::Operation(operation) = answer {
            tracing::info!(operation = %self.id, state = ?operation.state, "operation ended");
        }
        Ok(())
    }
}

fn can_be_mended(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Fenced
            | ErrorKind::Invalid
            | ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Cancelled
    )
}

pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub fn outcome(alias: &Alias, done: &v1::StepDone) -> Result<Outcome> {
    let position: Position = done
        .position
        .parse()
        .map_err(|e: Error| e.context(format!("{alias} answered")))?;
    Ok(Outcome {
        position,
        replication_was_stopped: done.replication_was_stopped,
        note: done.note.clone(),
        ..Outcome::default()
    })
}

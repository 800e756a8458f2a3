//! Runs the coordinator's steps, each once, each in a task of its own.
//!
//! What always holds: a command is journaled before it begins and its result before it is answered
//! (I4); at most one operation has the database; an attempt that was given up is never continued;
//! whoever asks again for a step finds the run under way or the recorded result.

mod admit;
mod pace;
mod run;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use seawall_common::{
    Error, ErrorKind, Result,
    ids::{BackupName, OperationId},
};
use seawall_proto::v1;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub use run::{Answer, Run, StepProgress};

use crate::{
    call::{Action, Call, StepCall},
    job::{self, Job},
    journal::{Contents, Ended, Operation, OperationKind, OperationState, Outcome, Step},
    tablet::Tablet,
};
use admit::Admission;

/// What is done beside the database at a time.
const ASIDE_MAX: usize = 2;

/// What of an operation is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Step(Step),
    PutBack,
}

/// How an operation is given up.
struct GivingUp {
    abandon: Option<BackupName>,
    reason: String,
    discard: bool,
}

struct Running {
    doing: Doing,
    run: Run,
    cancel: CancellationToken,
}

pub struct Executor {
    tablet: Arc<Tablet>,
    running: Mutex<HashMap<OperationId, Running>>,
    /// One command is taken in at a time.
    admission: tokio::sync::Mutex<()>,
}

impl Executor {
    pub fn new(tablet: Arc<Tablet>) -> Arc<Self> {
        Arc::new(Self {
            tablet,
            running: Mutex::default(),
            admission: tokio::sync::Mutex::new(()),
        })
    }

    /// Takes a command in: begins it, finds it under way, or finds its recorded result.
    pub async fn execute(self: &Arc<Self>, call: Call) -> Result<Run> {
        let _admitting = self.admission.lock().await;
        let contents = self.tablet.journal.read();
        admit::check_fence(&contents, &call).inspect_err(|_| self.tablet.metrics.count_fenced())?;
        self.journal_term(&contents, call.term).await?;
        self.tablet.shard.learn(&call.view, false).await?;
        // In this order: what has ended meanwhile is found as it was recorded, not as never run.
        let doing = self.doing(call.operation);
        let contents = self.tablet.journal.read();
        match call.action.clone() {
            Action::PutBack {
                abandon,
                reason,
                discard,
            } => {
                let giving_up = GivingUp {
                    abandon,
                    reason,
                    discard,
                };
                self.take_put_back(&contents, &call, giving_up).await
            }
            Action::Run(step) => self.take_step(&contents, &call, step, doing).await,
        }
    }

    /// From here on no leader of an earlier term is heard, also when this command changes nothing.
    async fn journal_term(&self, contents: &Contents, term: u64) -> Result<()> {
        if term <= contents.term {
            return Ok(());
        }
        self.tablet
            .journal
            .update(move |contents| {
                contents.term = contents.term.max(term);
                Ok(())
            })
            .await
    }

    async fn take_step(
        self: &Arc<Self>,
        contents: &Contents,
        call: &Call,
        step: StepCall,
        doing: Option<Doing>,
    ) -> Result<Run> {
        let id = call.operation;
        let has_demoted = contents.operation(id).is_some_and(Operation::has_demoted);
        if step.step() == Step::Reopen && !has_demoted {
            self.refuse_from_now_on(call, "it was never closed".to_owned())
                .await?;
            return Ok(Run::over(Answer::Done(Outcome::noted(
                "it had not been closed here",
            ))));
        }
        match admit::admit(contents, call, &step, doing)? {
            Admission::Attach => self.attach(call.operation),
            Admission::Recorded(outcome) => Ok(Run::over(Answer::Done(outcome))),
            Admission::Failed(error) => Ok(Run::over(Answer::Failed(error))),
            Admission::Undone(reason) => Ok(Run::over(Answer::Undone(Error::refused(format!(
                "operation {} has been given up here: {reason}",
                call.operation
            ))))),
            Admission::Begin => {
                self.check_room_aside(&step)?;
                self.journal_begin(call, &step).await?;
                Ok(self.spawn_step(call.operation, step))
            }
        }
    }

    async fn journal_begin(&self, call: &Call, step: &StepCall) -> Result<()> {
        let (call, step) = (call.clone(), step.clone());
        self.tablet
            .journal
            .update(move |contents| {
                let kind = admit::kind_of(&step);
                if contents.operation(call.operation).is_none() {
                    contents
                        .operations
                        .push(Operation::new(call.operation, call.attempt, kind));
                }
                let operation = contents.operation_mut(call.operation)?;
                if operation.attempt < call.attempt {
                    *operation = Operation::new(call.operation, call.attempt, kind);
                }
                if operation.kind == OperationKind::Reparent {
                    operation.state = admit::reparent_state(operation, step.step());
                }
                if operation.kind == OperationKind::Aside {
                    operation.state = OperationState::Done;
                }
                operation.hold_id.clone_from(&call.hold_id);
                operation.token = call.token;
                operation.begin(step.step());
                Ok(())
            })
            .await
    }

    fn spawn_step(self: &Arc<Self>, id: OperationId, step: StepCall) -> Run {
        let (run, ending) = Run::begin();
        let cancel = CancellationToken::new();
        let doing = Doing::Step(step.step());
        self.insert(id, doing, &run, &cancel);
        let job = Job::new(self.tablet.clone(), id, cancel, run.progress.clone());
        let this = self.clone();
        let name = step.step();
        let span = tracing::info_span!("step", operation = %id, step = name.name());
        tokio::spawn(
            async move {
                tracing::info!("begins");
                let result = job::run(&job, &step).await;
                let answer = this.journal_end(id, name, result).await;
                match &answer {
                    Answer::Done(_) => tracing::info!("done"),
                    Answer::Failed(error) | Answer::Undone(error) => {
                        tracing::warn!("failed: {error}");
                    }
                }
                this.tablet
                    .metrics
                    .count_step(name.name(), answer.result_name());
                this.remove(id, doing);
                ending.send_replace(Some(answer));
            }
            .instrument(span),
        );
        run
    }

    /// Journals what a step came to; what cannot be journaled has not succeeded.
    async fn journal_end(&self, id: OperationId, step: Step, result: Result<Outcome>) -> Answer {
        let ended = Ended::from_result(&result);
        let journaled = self
            .tablet
            .journal
            .update(move |contents| {
                let operation = contents.operation_mut(id)?;
                let is_done = matches!(ended, Ended::Done(_));
                operation.end(step, ended);
                operation.state = admit::state_after(operation, step, is_done);
                Ok(operation.state.clone())
            })
            .await;
        match (result, journaled) {
            (_, Err(error)) => Answer::Failed(error.context("cannot record the end of the step")),
            (Err(error), Ok(OperationState::GivingUp { .. } | OperationState::Undone { .. })) => {
                Answer::Undone(error)
            }
            (Err(error), Ok(_)) => Answer::Failed(error),
            // It came through although it was being called off: what it did is undone all the same.
            (Ok(_), Ok(OperationState::GivingUp { reason, .. })) => Answer::Undone(
                Error::cancelled(format!("operation {id} is being given up here: {reason}")),
            ),
            (Ok(outcome), Ok(_)) => Answer::Done(outcome),
        }
    }

    async fn take_put_back(
        self: &Arc<Self>,
        contents: &Contents,
        call: &Call,
        giving_up: GivingUp,
    ) -> Result<Run> {
        let id = call.operation;
        if self.doing(id) == Some(Doing::PutBack) {
            return self.attach(id);
        }
        if let Some(operation) = contents.operation(id)
            && operation.kind == OperationKind::Aside
            && let Some(run) = self.begin_call_off(id, &giving_up.reason).await?
        {
            return Ok(Run::after(run));
        }
        let state = contents.operation(id).map(|operation| &operation.state);
        let is_over = matches!(
            state,
            Some(OperationState::Done | OperationState::Undone { .. })
        );
        if is_over {
            // The database is not this operation's any more; the mark still has to be put.
            if let Some(backup) = giving_up.abandon {
                job::abandon(&self.tablet, id, &backup, &giving_up.reason).await?;
            }
            // As it ended, which may have been just now.
            let contents = self.tablet.journal.read();
            let damage = contents.operation(id).and_then(|operation| {
                let looking = [Step::Verify, Step::TestRestore];
                looking.into_iter().find_map(|step| operation.outcome(step))
            });
            return Ok(Run::over(Answer::Done(Outcome {
                note: "the operation had ended here already".to_owned(),
                ..damage.map(Outcome::damage).unwrap_or_default()
            })));
        }
        if state.is_some() {
            return self.begin_put_back(id, giving_up).await;
        }
        let GivingUp {
            abandon, reason, ..
        } = giving_up;
        self.refuse_from_now_on(call, reason.clone()).await?;
        if let Some(backup) = abandon {
            job::abandon(&self.tablet, id, &backup, &reason).await?;
        }
        Ok(Run::over(Answer::Done(Outcome::noted(
            "nothing of it had been done here",
        ))))
    }

    /// Has what is at work beside the database end, and does not wait for that: a restore test may
    /// take its time to go. Nothing is put back.
    pub async fn call_off(&self, id: OperationId, reason: &str) -> Result<()> {
        let _admitting = self.admission.lock().await;
        self.begin_call_off(id, reason).await.map(drop)
    }

    /// Answers what of it is still at its end.
    async fn begin_call_off(&self, id: OperationId, reason: &str) -> Result<Option<Run>> {
        let why = reason.to_owned();
        self.tablet
            .journal
            .update(move |contents| {
                let operation = contents.operation_mut(id)?;
                if operation.is_at_work_aside() {
                    operation.state = OperationState::Undone { reason: why };
                }
                Ok(())
            })
            .await?;
        let running = self.running();
        let Some(running) = running.get(&id) else {
            return Ok(None);
        };
        if !running.cancel.is_cancelled() {
            tracing::info!(operation = %id, "called off: {reason}");
            running.cancel.cancel();
        }
        Ok(Some(running.run.clone()))
    }

    /// What goes on beside the database has a bound: its memory, and the store's patience.
    fn check_room_aside(&self, step: &StepCall) -> Result<()> {
        let is_aside = |step| matches!(step, Step::Verify | Step::TestRestore);
        let running = self.running();
        let at_work = running
            .values()
            .filter(|running| matches!(running.doing, Doing::Step(step) if is_aside(step)))
            .count();
        if !is_aside(step.step()) || at_work < ASIDE_MAX {
            return Ok(());
        }
        Err(Error::unavailable(format!(
            "{at_work} verifications are at work here already"
        )))
    }

    /// An operation that has done nothing here: a late command must not begin it.
    async fn refuse_from_now_on(&self, call: &Call, reason: String) -> Result<()> {
        let (id, attempt) = (call.operation, call.attempt);
        self.tablet
            .journal
            .update(move |contents| {
                if contents.operation(id).is_none() {
                    let operation = Operation::new(id, attempt, OperationKind::Backup);
                    contents.operations.push(operation);
                }
                contents.operation_mut(id)?.state = OperationState::Undone { reason };
                Ok(())
            })
            .await
    }

    /// Runs a step of an open operation without a coordinator.
    pub async fn execute_alone(self: &Arc<Self>, id: OperationId, step: StepCall) -> Result<Run> {
        let contents = self.tablet.journal.read();
        let known = contents.operation(id);
        self.execute(Call {
            operation: id,
            attempt: known.map_or(1, |operation| operation.attempt),
            term: contents.term,
            token: known.map_or(0, |operation| operation.token),
            hold_id: known.map_or_else(String::new, |operation| operation.hold_id.clone()),
            view: v1::ShardView::default(),
            action: Action::Run(step),
        })
        .await
    }

    /// Gives an operation up from here, as no coordinator is there to say so.
    pub async fn give_up(self: &Arc<Self>, id: OperationId, reason: &str) -> Result<Run> {
        let _admitting = self.admission.lock().await;
        if self.doing(id) == Some(Doing::PutBack) {
            return self.attach(id);
        }
        let contents = self.tablet.journal.read();
        let operation = contents
            .operation(id)
            .filter(|operation| operation.is_open())
            .ok_or_else(|| Error::refused(format!("operation {id} is not open here")))?;
        let abandon = match operation.has_done(Step::Copy) {
            true => None,
            false => operation.facts.backup.clone(),
        };
        tracing::warn!(operation = %id, "giving the operation up: {reason}");
        let giving_up = GivingUp {
            abandon,
            reason: reason.to_owned(),
            discard: false,
        };
        self.begin_put_back(id, giving_up).await
    }

    async fn begin_put_back(self: &Arc<Self>, id: OperationId, giving_up: GivingUp) -> Result<Run> {
        let reason = giving_up.reason.clone();
        self.tablet
            .journal
            .update(move |contents| {
                let operation = contents.operation_mut(id)?;
                // A name that was to be given up before is not forgotten.
                let (earlier, was_called_off) = match &operation.state {
                    OperationState::GivingUp {
                        abandon, discard, ..
                    } => (abandon.clone(), *discard),
                    _ => (None, false),
                };
                operation.state = OperationState::GivingUp {
                    reason: giving_up.reason,
                    abandon: giving_up.abandon.or(earlier),
                    discard: giving_up.discard || was_called_off,
                };
                Ok(())
            })
            .await?;
        let before = self.take_running(id);
        let (run, ending) = Run::begin();
        let cancel = CancellationToken::new();
        self.insert(id, Doing::PutBack, &run, &cancel);
        let job = Job::new(self.tablet.clone(), id, cancel, run.progress.clone());
        let this = self.clone();
        let span = tracing::info_span!("put back", operation = %id);
        tokio::spawn(
            async move {
                if let Some(before) = before {
                    before.cancel.cancel();
                    before.run.end().await;
                }
                let outcome = job::put_back(&job, &reason).await;
                this.tablet.metrics.count_put_back();
                tracing::info!("the database is put back");
                this.remove(id, Doing::PutBack);
                ending.send_replace(Some(Answer::Done(outcome)));
            }
            .instrument(span),
        );
        Ok(run)
    }

    /// Whether a step of the operation, or its putting back, is under way.
    pub fn is_busy(&self, id: OperationId) -> bool {
        self.doing(id).is_some()
    }

    /// The step of an operation that is under way, and how far it has come.
    pub fn under_way(&self, id: OperationId) -> Option<(&'static str, StepProgress)> {
        let running = self.running();
        let running = running.get(&id)?;
        let name = match running.doing {
            Doing::Step(step) => step.name(),
            Doing::PutBack => "put_back",
        };
        Some((name, running.run.progress.clone()))
    }

    fn running(&self) -> MutexGuard<'_, HashMap<OperationId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doing(&self, id: OperationId) -> Option<Doing> {
        self.running().get(&id).map(|running| running.doing)
    }

    fn attach(&self, id: OperationId) -> Result<Run> {
        self.running()
            .get(&id)
            .map(|running| running.run.clone())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Unavailable,
                    "the step has just ended; ask again for its result",
                )
            })
    }

    fn insert(&self, id: OperationId, doing: Doing, run: &Run, cancel: &CancellationToken) {
        self.running().insert(
            id,
            Running {
                doing,
                run: run.clone(),
                cancel: cancel.clone(),
            },
        );
    }

    fn take_running(&self, id: OperationId) -> Option<Running> {
        self.running().remove(&id)
    }

    fn remove(&self, id: OperationId, doing: Doing) {
        let mut running = self.running();
        if running.get(&id).is_some_and(|r| r.doing == doing) {
            running.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;

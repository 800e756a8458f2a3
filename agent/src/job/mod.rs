//! The steps of backup, restore and reparenting: one file for each.
//!
//! A step makes sure of an end state and may be run again after a crash at any moment. It speaks to
//! the database only through the engine, and journals what later steps, or putting back, must know
//! before it acts on it. Waiting steps end when their job is cancelled; the others run to their end.

mod catch_up;
mod copy;
mod drain;
mod fetch;
mod install;
mod mark;
mod note;
mod partial;
mod plan;
mod prepare;
mod put_back;
mod reinstate;
mod reparent;
mod start;
mod stop;
mod test_restore;
mod verify;

use std::{future::Future, sync::Arc, time::Duration};

use seawall_common::{Error, Result, fault, ids::OperationId};
use tokio_util::sync::CancellationToken;

pub use mark::{abandon, put_pending_marks};
pub use partial::discard_old;
pub use plan::plan_fetch;
pub use put_back::put_back;
pub use reinstate::lead;

use crate::{
    call::StepCall,
    execute::StepProgress,
    journal::{Facts, Operation, Outcome},
    tablet::Tablet,
};

/// How long a step that was refused by circumstances waits before it looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A step, or a putting back, of one operation.
pub struct Job {
    pub tablet: Arc<Tablet>,
    pub operation: OperationId,
    pub progress: StepProgress,
    cancel: CancellationToken,
}

impl Job {
    pub fn new(
        tablet: Arc<Tablet>,
        operation: OperationId,
        cancel: CancellationToken,
        progress: StepProgress,
    ) -> Self {
        Self {
            tablet,
            operation,
            progress,
            cancel,
        }
    }

    /// The operation as the journal has it now.
    fn record(&self) -> Result<Operation> {
        self.tablet
            .journal
            .read()
            .operation(self.operation)
            .cloned()
            .ok_or_else(|| {
                Error::internal(format!(
                    "operation {} is not in the journal",
                    self.operation
                ))
            })
    }

    /// Journals what was found out.
    async fn note(&self, change: impl FnOnce(&mut Facts) + Send + 'static) -> Result<()> {
        let id = self.operation;
        self.tablet
            .journal
            .update(move |contents| {
                change(&mut contents.operation_mut(id)?.facts);
                Ok(())
            })
            .await
    }

    fn check_cancelled(&self) -> Result<()> {
        match self.cancel.is_cancelled() {
            true => Err(self.cancelled()),
            false => Ok(()),
        }
    }

    fn cancelled(&self) -> Error {
        Error::cancelled(format!("operation {} is being given up", self.operation))
    }

    /// Waits for `work`, or ends early when the operation is given up.
    async fn or_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(self.cancelled()),
            value = work => Ok(value),
        }
    }

    async fn sleep(&self, duration: Duration) -> Result<()> {
        self.or_cancelled(tokio::time::sleep(duration)).await
    }

    /// A pause point of this step.
    async fn reach(&self, point: &str) -> Result<()> {
        self.or_cancelled(fault::reach(point)).await?
    }
}

/// Runs one step.
pub async fn run(job: &Job, call: &StepCall) -> Result<Outcome> {
    let name = call.step().name();
    job.reach(&format!("agent.{name}.begin")).await?;
    let outcome = match call {
        StepCall::Prepare {
            backup,
            may_refer_to,
        } => prepare::run(job, backup, may_refer_to).await,
        StepCall::Drain { drain, .. } => drain::run(job, *drain).await,
        StepCall::Note => note::run(job).await,
        StepCall::Stop => stop::run(job).await,
        StepCall::Copy {
            backup,
            epoch,
            concurrency,
            may_refer_to,
        } => {
            let plan = copy::Plan {
                backup,
                epoch: *epoch,
                concurrency: *concurrency,
                may_refer_to,
            };
            copy::run(job, &plan).await
        }
        StepCall::Start => start::run(job).await,
        StepCall::Reinstate => reinstate::run(job).await,
        StepCall::CatchUp { no_wait } => catch_up::run(job, *no_wait).await,
        StepCall::Serve => serve(job).await,
        StepCall::Fetch {
            backup,
            manifest_hash,
            concurrency,
        } => {
            let concurrency = concurrency.unwrap_or(job.tablet.settings.restore_concurrency);
            fetch::run(job, backup, manifest_hash, concurrency).await
        }
        StepCall::Install => install::run(job).await,
        StepCall::ReadPosition => reparent::read_position(job).await,
        StepCall::Demote => reparent::demote(job).await,
        StepCall::Reopen => reparent::reopen(job).await,
        StepCall::ReachPosition { position, limit } => {
            reparent::reach_position(job, position, *limit).await
        }
        StepCall::Promote => reparent::promote(job).await,
        StepCall::Verify {
            aside,
            percent,
            seed,
        } => verify::run(job, aside, *percent, *seed).await,
        StepCall::TestRestore { aside } => test_restore::run(job, aside).await,
    }?;
    match job.reach(&format!("agent.{name}.end")).await {
        // It is damage also when nobody wants to hear of the rest.
        Err(_) if outcome.is_damage() => {}
        reached => reached?,
    }
    Ok(outcome)
}

/// The operation has nothing more to do here; whether the tablet serves is decided by its status.
async fn serve(job: &Job) -> Result<Outcome> {
    if !job.tablet.engine.is_running().await? {
        reinstate::make_sure(job).await?;
    }
    job.reach("agent.serve.middle").await?;
    Ok(Outcome::default())
}

#[cfg(test)]
mod aside_tests;
#[cfg(test)]
mod copy_tests;
#[cfg(test)]
mod tests;

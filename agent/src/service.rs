//! The gRPC service: checks a command, hands it to the executor, tells the caller how it goes.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use seawall_common::Error;
use seawall_proto::v1::{self, agent_server::Agent, execute_update::Update};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    execute::{Answer, Executor, Run},
    job,
    journal::Outcome,
    status,
    tablet::Tablet,
    transfers,
};

const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// A caller that does not read does not hold the step up: updates wait only here.
const UPDATES_WAITING: usize = 4;

pub struct AgentService {
    pub tablet: Arc<Tablet>,
    pub executor: Arc<Executor>,
}

#[tonic::async_trait]
impl Agent for AgentService {
    type ExecuteStream = Pin<Box<dyn Stream<Item = Result<v1::ExecuteUpdate, Status>> + Send>>;

    async fn execute(
        &self,
        request: Request<v1::ExecuteRequest>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let request = request.into_inner();
        check_meant(&self.tablet, &request.alias)?;
        self.tablet.check_recovered()?;
        let call = request.try_into()?;
        let run = self.executor.execute(call).await?;
        let (updates, stream) = mpsc::channel(UPDATES_WAITING);
        tokio::spawn(tell(run, updates));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn plan_fetch(
        &self,
        request: Request<v1::PlanFetchRequest>,
    ) -> Result<Response<v1::FetchPlan>, Status> {
        let request = request.into_inner();
        check_meant(&self.tablet, &request.alias)?;
        let backup = request.backup.parse()?;
        let limit = Duration::from_millis(request.limit_ms);
        let plan = job::plan_fetch(&self.tablet, &backup, &request.manifest_hash, limit).await?;
        Ok(Response::new(plan))
    }

    async fn transfer_status(
        &self,
        request: Request<v1::TransferStatusRequest>,
    ) -> Result<Response<v1::TransferReport>, Status> {
        check_meant(&self.tablet, &request.into_inner().alias)?;
        Ok(Response::new(transfers::report(
            &self.tablet,
            &self.executor,
        )))
    }

    async fn set_throttle(
        &self,
        request: Request<v1::SetThrottleRequest>,
    ) -> Result<Response<v1::TransferReport>, Status> {
        let request = request.into_inner();
        check_meant(&self.tablet, &request.alias)?;
        transfers::set_limit(&self.tablet, request.limit).await?;
        Ok(Response::new(transfers::report(
            &self.tablet,
            &self.executor,
        )))
    }

    async fn status(
        &self,
        _request: Request<v1::AgentStatusRequest>,
    ) -> Result<Response<v1::TabletStatus>, Status> {
        status::look(&self.tablet).await;
        Ok(Response::new(status::status(&self.tablet)))
    }
}

/// What is meant for another tablet would stop, or replace, the wrong database.
fn check_meant(tablet: &Tablet, alias: &str) -> seawall_common::Result<()> {
    if tablet.alias.to_string() == alias {
        return Ok(());
    }
    Err(Error::refused(format!(
        "this is the agent of {}, not of {alias:?}",
        tablet.alias
    ))
    .hint(format!(
        "Look at the setting advertise_address of {alias:?}: it names another tablet's agent."
    )))
}

type Updates = mpsc::Sender<Result<v1::ExecuteUpdate, Status>>;

/// Tells progress now and then, and the end. The run goes on when nobody listens any more.
async fn tell(run: Run, updates: Updates) {
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    let end = run.end();
    tokio::pin!(end);
    loop {
        let update = tokio::select! {
            answer = &mut end => {
                let _ = updates.send(Ok(last(answer))).await;
                return;
            }
            _ = ticks.tick() => Update::Progress(run.progress.to_proto()),
        };
        let update = v1::ExecuteUpdate {
            update: Some(update),
        };
        if updates.send(Ok(update)).await.is_err() {
            return;
        }
    }
}

fn last(answer: Answer) -> v1::ExecuteUpdate {
    let update = match answer {
        Answer::Done(outcome) => Update::Done(done(outcome)),
        Answer::Failed(error) => Update::Failed(failed(&error, false)),
        Answer::Undone(error) => Update::Failed(failed(&error, true)),
    };
    v1::ExecuteUpdate {
        update: Some(update),
    }
}

fn done(outcome: Outcome) -> v1::StepDone {
    v1::StepDone {
        position: outcome
            .position
            .map_or_else(String::new, |position| position.to_string()),
        replication_was_stopped: outcome.replication_was_stopped,
        backup: outcome.backup.as_deref().map(Into::into),
        note: outcome.note,
        verification: outcome.verification.map(|verification| v1::Verification {
            passed: verification.passed,
            percent: verification.percent,
            seed: verification.seed,
            message: verification.message,
            bytes: verification.bytes,
            ..v1::Verification::default()
        }),
        damaged_packs: outcome.damaged_packs,
        more_damaged: outcome.more_damaged,
    }
}

fn failed(error: &Error, undone: bool) -> v1::StepFailed {
    v1::StepFailed {
        kind: error.kind().name().to_owned(),
        message: error.message().to_owned(),
        hint: error.hint_text().unwrap_or_default().to_owned(),
        undone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ALIAS, World};

    #[tokio::test]
    async fn what_is_meant_for_another_tablet_is_refused() {
        let world = World::new().await;
        let agent = world.agent();
        check_meant(&agent.tablet, ALIAS).unwrap();
        for other in ["", "zone1-101"] {
            let error = check_meant(&agent.tablet, other).unwrap_err();
            assert!(error.message().contains(ALIAS), "{error}");
        }
    }
}

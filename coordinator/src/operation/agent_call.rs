//! One step on an agent: called again and again until it is known what came of it.
//!
//! The agent finds the run under way, or its recorded result, so a repeated call does no harm. The
//! call is given up when the agent has been silent for the operation's lease: neither an answer
//! nor a heartbeat.

use std::time::Duration;

use futures::StreamExt as _;
use seawall_common::{Error, ErrorKind, Result, ids::Alias};
use seawall_proto::v1::{self, execute_request::Step, execute_update::Update};
use tokio::time::Instant;

use super::driver::Run;
use crate::{agents::client::Updates, service::convert};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An agent that is heard but cannot be called has an address that is wrong, or a network that lets
/// only one of us through: for this many leases it may mend.
const UNREACHABLE_LEASES: u32 = 5;

/// How one call ended.
enum Ended {
    Done(Box<v1::StepDone>),
    /// The agent's own word: it will not be another one for being asked again.
    Failed(Error),
    /// It is not known what came of the step.
    Lost(Error),
}

pub async fn call(run: &Run, alias: &Alias, step: Step) -> Result<v1::StepDone> {
    let mut wait = run.backoff();
    let mut lost_since = None;
    loop {
        let (ended, was_heard) = call_once(run, alias, &step).await?;
        if was_heard {
            lost_since = None;
            wait = run.backoff();
        }
        let error = match ended {
            Ended::Done(done) => return Ok(*done),
            Ended::Failed(error) => {
                if error.kind() == ErrorKind::Fenced {
                    run.stay_only_in_office().await;
                }
                return Err(error.context(alias));
            }
            Ended::Lost(error) => error,
        };
        let lease = run.lease();
        let silence = run.context.heartbeats.silence(alias);
        if silence >= lease {
            return Err(Error::unavailable(format!(
                "the agent of {alias} has not been heard for {} s",
                silence.as_secs()
            )));
        }
        let lost_for = lost_since.get_or_insert_with(Instant::now).elapsed();
        if lost_for >= lease * UNREACHABLE_LEASES {
            return Err(error.context(format!(
                "the agent of {alias} is heard but cannot be called"
            )));
        }
        tracing::warn!(operation = %run.id, tablet = %alias, "calling the agent again: {error}");
        run.say(format!("waits for the agent of {alias}: {error}"));
        wait.pause().await;
    }
}

/// How the call ended, and whether the agent said anything in it.
async fn call_once(run: &Run, alias: &Alias, step: &Step) -> Result<(Ended, bool)> {
    let (address, request) = request(run, alias, step)?;
    let mut was_heard = false;
    let ended = match run.context.agents.execute(&address, request).await {
        Ok(updates) => follow(run, alias, updates, &mut was_heard).await,
        Err(error) => judge(error),
    };
    Ok((ended, was_heard))
}

fn request(run: &Run, alias: &Alias, step: &Step) -> Result<(String, v1::ExecuteRequest)> {
    run.context.group.look(|state| {
        let operation = state.operations.get(&run.id)?;
        let tablet = state.topology.tablet(alias)?;
        let request = v1::ExecuteRequest {
            alias: alias.to_string(),
            operation_id: run.id.to_string(),
            attempt: operation.attempt,
            term: run.term,
            token: operation.token,
            hold_id: operation.hold_id(),
            view: Some(convert::view(state, &tablet.shard)),
            step: Some(step.clone()),
        };
        Ok((tablet.agent_address.clone(), request))
    })
}

/// A network's errors say nothing of the step; the agent's own refusals do.
fn judge(error: Error) -> Ended {
    match error.kind() {
        ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Cancelled
        | ErrorKind::Internal => Ended::Lost(error),
        _ => Ended::Failed(error),
    }
}

async fn follow(run: &Run, alias: &Alias, mut updates: Updates, was_heard: &mut bool) -> Ended {
    let heartbeats = &run.context.heartbeats;
    loop {
        let next = tokio::select! {
            next = updates.next() => next,
            () = tokio::time::sleep(LOOK_EVERY) => {
                if heartbeats.silence(alias) >= run.lease() {
                    return Ended::Lost(Error::unavailable("the agent is silent"));
                }
                continue;
            }
        };
        let update = match next {
            None => return Ended::Lost(Error::unavailable("the agent ended its answer early")),
            Some(Err(error)) => return judge(error),
            Some(Ok(update)) => update.update,
        };
        heartbeats.touch(alias);
        *was_heard = true;
        match update {
            Some(Update::Progress(progress)) => heartbeats.set_progress(run.id, progress),
            Some(Update::Done(done)) => return Ended::Done(Box::new(done)),
            Some(Update::Failed(failed)) => return Ended::Failed(failure(failed)),
            None => {}
        }
    }
}

/// An undone attempt is called off, whatever made the agent give it up: nothing more comes of it.
fn failure(failed: v1::StepFailed) -> Error {
    let kind = if failed.undone {
        ErrorKind::Cancelled
    } else {
        ErrorKind::from_name(&failed.kind).unwrap_or(ErrorKind::Internal)
    };
    let error = Error::new(kind, failed.message);
    if failed.hint.is_empty() {
        error
    } else {
        error.hint(failed.hint)
    }
}

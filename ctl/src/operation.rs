//! Starts operations and follows them to their end.
//!
//! An operation belongs to the coordinator from the moment it is accepted. Following it survives
//! the loss of any member; letting go of it (Ctrl-C) never ends it.

use std::{cell::Cell, slice, sync::Mutex, time::Duration};

use seawall_common::{Error, coordinators::refusal, ids::OperationId, tls::ServerUrl};
use seawall_proto::v1::{
    self, Operation, OperationSpec, OperationState, WatchOperationRequest, operation_spec::Spec,
    operations_client::OperationsClient,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use crate::{
    client::Client,
    command::Context,
    exit::{Exit, Failure, Outcome},
    output::{
        json,
        progress::{FIRST_LINE_AFTER, Progress},
    },
};

/// The coordinator speaks at least every five seconds; after this long it is taken for dead.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);
/// How long a watch looks for a member that goes on with it.
const RECONNECT_LIMIT: Duration = Duration::from_secs(60);
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// How a long command is run.
#[derive(Clone, Debug, clap::Args)]
pub struct Launch {
    /// Print the operation's id and return at once
    #[arg(long)]
    pub detach: bool,

    /// Time after which the operation is given up and undone; unset: the coordinator's default
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::duration)]
    pub deadline: Option<Duration>,
}

impl Launch {
    pub fn deadline_ms(&self) -> u64 {
        self.deadline
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Starts an operation and follows it until it has succeeded. `None`: it was only to be started,
/// and its id has been printed.
pub async fn carry_out(
    context: &Context,
    what: &str,
    spec: Spec,
    launch: &Launch,
) -> Outcome<Option<Operation>> {
    let id = OperationId::generate().to_string();
    let accepted = Cell::new(false);
    let work = async {
        let operation = start(&context.client, &id, spec, launch).await?;
        accepted.set(true);
        if launch.detach {
            print_started(context, &operation)?;
            return Ok(None);
        }
        follow_to_success(context, operation).await.map(Some)
    };
    let interrupted = || match accepted.get() {
        true => let_go(slice::from_ref(&id)),
        false => let_go(&[]),
    };
    interruptible(work, interrupted)
        .await
        .map_err(|failure| failure.of(what))
}

async fn start(client: &Client, id: &str, spec: Spec, launch: &Launch) -> Outcome<Operation> {
    let request = v1::StartOperationRequest {
        id: id.to_owned(),
        spec: Some(OperationSpec { spec: Some(spec) }),
        timeout_ms: launch.deadline_ms(),
    };
    client
        .call_reading(|channel| {
            let request = request.clone();
            async move { OperationsClient::new(channel).start(request).await }
        })
        .await
}

pub fn print_started(context: &Context, operation: &Operation) -> Outcome {
    context.print(
        &json::Operation::from(operation),
        || operation.id.clone(),
        || operation.id.clone(),
    )
}

async fn follow_to_success(context: &Context, operation: Operation) -> Outcome<Operation> {
    let progress = Mutex::new(Progress::new());
    let ended = if is_final(&operation) {
        operation
    } else {
        context.client.learn_members().await;
        follow(&context.client, &operation.id, &progress).await?
    };
    let hint = steps_hint(&ended.id);
    success(ended).map_err(|failure| Failure {
        error: failure.error.hint(hint),
        ..failure
    })
}

/// Lets Ctrl-C end the wait, and nothing but the wait.
pub async fn interruptible<T>(
    work: impl Future<Output = Outcome<T>>,
    on_interrupt: impl FnOnce() -> Failure,
) -> Outcome<T> {
    tokio::select! {
        outcome = work => outcome,
        Ok(()) = tokio::signal::ctrl_c() => Err(on_interrupt()),
    }
}

/// What Ctrl-C says, by the operations that are known to have been accepted.
pub fn let_go(ids: &[String]) -> Failure {
    let (error, hint) = match ids {
        [] => (
            "let go, and no coordinator has answered yet".to_owned(),
            "\"seawallctl ListOperations\" shows whether it began.".to_owned(),
        ),
        [id] => (
            format!("let go of operation {id}, which goes on"),
            format!(
                "Watch it with \"seawallctl WatchOperation {id}\", end it with \
                 \"seawallctl CancelOperation {id}\"."
            ),
        ),
        _ => (
            "let go of the operations, which go on".to_owned(),
            "\"seawallctl ListOperations\" shows them; watch one with WatchOperation, end one \
             with CancelOperation."
                .to_owned(),
        ),
    };
    Failure::failed(Error::cancelled(error).hint(hint))
}

pub fn is_final(operation: &Operation) -> bool {
    matches!(
        operation.state(),
        OperationState::Succeeded | OperationState::Failed | OperationState::Cancelled
    )
}

/// The operation itself when it succeeded, otherwise what it failed of.
pub fn success(operation: Operation) -> Outcome<Operation> {
    let id = &operation.id;
    let why = operation.error.trim_end_matches('.');
    match operation.state() {
        OperationState::Succeeded => Ok(operation),
        OperationState::Cancelled => {
            let reason = match why.strip_prefix("cancelled: ").unwrap_or(why) {
                "" => String::new(),
                reason => format!(": {reason}"),
            };
            let message = format!("operation {id} was cancelled{reason}");
            Err(Failure::failed(Error::cancelled(message)))
        }
        _ => {
            let failed_step = operation.steps.iter().find(|step| !step.error.is_empty());
            let step =
                failed_step.map_or_else(String::new, |step| format!(" in step {}", step.name));
            let message = format!("operation {id} failed{step}: {why}");
            Err(Failure::failed(Error::internal(message)))
        }
    }
}

/// Where more is to be read about an operation that did not succeed.
fn steps_hint(id: &str) -> String {
    format!("\"seawallctl WatchOperation {id}\" shows its steps.")
}

/// Follows an operation to its final state, over as many members as it takes.
pub async fn follow(client: &Client, id: &str, progress: &Mutex<Progress>) -> Outcome<Operation> {
    let mut last_heard = Instant::now();
    // Which member was lost, and how: told once, when another one has taken its place.
    let mut lost: Option<String> = None;
    loop {
        let broken = match open(client, id).await {
            Ok((stream, member)) => {
                let ended = listen(stream, |operation| {
                    last_heard = Instant::now();
                    let mut progress = progress.lock().unwrap_or_else(|e| e.into_inner());
                    if let Some(lost) = lost.take() {
                        progress.note(&format!("{lost}; watching through {member} now"));
                    }
                    progress.update(operation);
                });
                match ended.await {
                    Ok(operation) => return Ok(operation),
                    Err(why) => {
                        client.ask_last(&member);
                        format!("lost {member} ({why})")
                    }
                }
            }
            Err(failure) if failure.exit == Exit::NoCoordinator => {
                failure.error.message().to_owned()
            }
            Err(failure) => return Err(failure),
        };
        if last_heard.elapsed() > RECONNECT_LIMIT {
            return Err(lost_sight(id, &broken));
        }
        lost.get_or_insert(broken);
        sleep(RECONNECT_PAUSE).await;
    }
}

async fn open(client: &Client, id: &str) -> Outcome<(Streaming<Operation>, ServerUrl)> {
    let request = WatchOperationRequest { id: id.to_owned() };
    client
        .call_one(|channel| {
            let request = request.clone();
            async move { OperationsClient::new(channel).watch(request).await }
        })
        .await
}

/// Hands each message on until the final one; why the watch broke off otherwise. The first is handed
/// on again when it is time for a line and nothing has changed: who waits is told for what.
async fn listen(
    mut stream: Streaming<Operation>,
    mut heard: impl FnMut(&Operation),
) -> Result<Operation, String> {
    let mut operation = next(&mut stream).await?;
    let first_line = sleep(FIRST_LINE_AFTER);
    let mut first_line = std::pin::pin!(first_line);
    let mut is_told = false;
    loop {
        heard(&operation);
        if is_final(&operation) {
            return Ok(operation);
        }
        tokio::select! {
            news = next(&mut stream) => operation = news?,
            () = &mut first_line, if !is_told => is_told = true,
        }
    }
}

/// The next message of a watch; why it broke off otherwise.
async fn next(stream: &mut Streaming<Operation>) -> Result<Operation, String> {
    match timeout(SILENCE_LIMIT, stream.message()).await {
        Ok(Ok(Some(operation))) => Ok(operation),
        Ok(Ok(None)) => Err("it ended the watch".to_owned()),
        Ok(Err(status)) => Err(refusal(&status)),
        Err(_) => Err(format!("silent for {} s", SILENCE_LIMIT.as_secs())),
    }
}

fn lost_sight(id: &str, why: &str) -> Failure {
    let limit = RECONNECT_LIMIT.as_secs();
    let error = Error::unavailable(format!(
        "no coordinator answered for {limit} s while operation {id} was watched ({why})"
    ));
    Failure::no_coordinator(error.hint(format!(
        "It may well go on: \"seawallctl WatchOperation {id}\" takes the watch up again."
    )))
}

#[cfg(test)]
mod tests;

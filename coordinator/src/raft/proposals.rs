//! Commands on their way into the log. Those that wait at the same moment share one entry, so that
//! one fsync on each member serves many.

use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use prometheus_client::metrics::counter::Counter;
use seawall_common::{Error, Result};
use tokio::sync::{mpsc, oneshot};

use super::{Raft, durable_log::PAYLOAD_BYTES_MAX};
use crate::state::{Command, Response};

const WAITING_MAX: usize = 4096;
const ENTRY_COMMANDS_MAX: usize = 256;
/// What an entry adds around its commands, generously.
const ENTRY_OVERHEAD_BYTES: usize = 1024;
const ENTRY_COMMANDS_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - ENTRY_OVERHEAD_BYTES;
const TIMEOUT: Duration = Duration::from_secs(10);

/// The answer to a command, and the term in which it was applied.
pub type Outcome = Result<(Response, u64)>;

struct Waiting {
    command: Command,
    bytes: usize,
    outcome: oneshot::Sender<Outcome>,
}

#[derive(Clone)]
pub struct Proposals {
    queue: mpsc::Sender<Waiting>,
    committed: Counter,
}

impl Proposals {
    pub fn start(raft: Raft) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(run(raft, waiting));
        Self {
            queue,
            committed: Counter::default(),
        }
    }

    /// How many commands were committed through this member since it started.
    pub fn committed(&self) -> Counter {
        self.committed.clone()
    }

    pub async fn propose(&self, command: Command) -> Outcome {
        let bytes = serde_json::to_vec(&command)
            .map_err(|e| Error::internal(format!("cannot write a command: {e}")))?
            .len()
            + 1;
        if bytes > ENTRY_COMMANDS_BYTES_MAX {
            return Err(Error::exhausted(format!(
                "a command of {bytes} bytes is larger than {ENTRY_COMMANDS_BYTES_MAX}"
            )));
        }
        let (outcome, answered) = oneshot::channel();
        let waiting = Waiting {
            command,
            bytes,
            outcome,
        };
        let queued = tokio::time::timeout(TIMEOUT, self.queue.send(waiting)).await;
        let queued = queued.map_err(|_| {
            Error::exhausted(format!(
                "{WAITING_MAX} commands wait for the log already, for {TIMEOUT:?} and longer"
            ))
            .hint("Try again later.")
        })?;
        queued.map_err(|_| stopping())?;
        let outcome = answered.await.map_err(|_| stopping())??;
        self.committed.inc();
        Ok(outcome)
    }
}

fn stopping() -> Error {
    Error::unavailable("this coordinator is stopping")
}

async fn run(raft: Raft, mut queue: mpsc::Receiver<Waiting>) {
    let mut first = queue.recv().await;
    while let Some(waiting) = first.take() {
        let mut bytes = waiting.bytes;
        let mut batch = vec![waiting];
        while batch.len() < ENTRY_COMMANDS_MAX {
            let Ok(next) = queue.try_recv() else { break };
            if bytes + next.bytes > ENTRY_COMMANDS_BYTES_MAX {
                first = Some(next);
                break;
            }
            bytes += next.bytes;
            batch.push(next);
        }
        write(&raft, batch).await;
        if first.is_none() {
            first = queue.recv().await;
        }
    }
}

async fn write(raft: &Raft, batch: Vec<Waiting>) {
    let (commands, outcomes): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|waiting| (waiting.command, waiting.outcome))
        .unzip();
    let written = tokio::time::timeout(TIMEOUT, raft.client_write(commands)).await;
    let written = match written {
        Ok(Ok(written)) => Ok((written.data, written.log_id.leader_id.term)),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(
            Error::unavailable("this coordinator does not lead the group, or has just lost it"),
        ),
        Ok(Err(RaftError::APIError(e))) => Err(Error::internal(e.to_string())),
        Ok(Err(RaftError::Fatal(_))) => Err(stopping()),
        Err(_) => Err(Error::timeout(format!(
            "no quorum of coordinators took the command within {TIMEOUT:?}; it may still take effect"
        ))),
    };
    match written {
        Ok((responses, term)) => {
            for (outcome, response) in outcomes.into_iter().zip(responses) {
                let _ = outcome.send(Ok((response, term)));
            }
        }
        Err(e) => {
            for outcome in outcomes {
                let _ = outcome.send(Err(e.clone()));
            }
        }
    }
}

//! Commands on their way into the log. Those that wait at the same moment share one entry, so that
//! one sync on each member serves many; a few entries are under way at once.

use std::{sync::Arc, time::Duration};

use openraft::{
    error::{ClientWriteError, Fatal},
    raft::ClientWriteResult,
};
use prometheus_client::metrics::counter::Counter;
use seawall_common::{Error, Result};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Raft, Types, durable_log::PAYLOAD_BYTES_MAX};
use crate::state::{Command, Response};

const WAITING_MAX: usize = 4096;
const ENTRY_COMMANDS_MAX: usize = 256;
/// Entries on their way at once. While one is sent the next is written; with more of them each would
/// carry fewer commands.
const ENTRIES_AT_ONCE_MAX: usize = 4;
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
    let entries = Arc::new(Semaphore::new(ENTRIES_AT_ONCE_MAX));
    let mut first = None;
    loop {
        // Meanwhile the next entry fills.
        let Ok(place) = entries.clone().acquire_owned().await else {
            return;
        };
        first = match first {
            Some(waiting) => Some(waiting),
            None => queue.recv().await,
        };
        let Some(waiting) = first.take() else { return };
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
        let (commands, outcomes): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|waiting| (waiting.command, waiting.outcome))
            .unzip();
        // Entries are in the log in the order in which they were made.
        let written = raft.client_write_ff(commands).await;
        tokio::spawn(async move {
            answer(outcomes, written).await;
            drop(place);
        });
    }
}

/// What the library says of an entry, when it is committed and applied or will not be.
type Written = oneshot::Receiver<ClientWriteResult<Types>>;

async fn answer(outcomes: Vec<oneshot::Sender<Outcome>>, written: Result<Written, Fatal<u64>>) {
    match outcome(written).await {
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

async fn outcome(written: Result<Written, Fatal<u64>>) -> Result<(Vec<Response>, u64)> {
    let written = written.map_err(|_| stopping())?;
    let written = tokio::time::timeout(TIMEOUT, written).await.map_err(|_| {
        Error::timeout(format!(
            "no quorum of coordinators took the command within {TIMEOUT:?}; it may still take effect"
        ))
    })?;
    match written.map_err(|_| stopping())? {
        Ok(written) => Ok((written.data, written.log_id.leader_id.term)),
        Err(ClientWriteError::ForwardToLeader(_)) => Err(Error::unavailable(
            "this coordinator does not lead the group, or has just lost it",
        )),
        Err(e) => Err(Error::internal(e.to_string())),
    }
}

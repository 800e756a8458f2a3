//! Proof of leadership. A round asks a quorum whether this member still leads; all who asked for
//! proof before a round began share it, and none shares one that began earlier.

use std::time::Duration;

use openraft::error::{CheckIsLeaderError, RaftError};
use seawall_common::{Error, Result};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::Raft;

const WAITING_MAX: usize = 16 * 1024;
/// How long one proof may take, all rounds together.
const TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// The term of the leadership that was proved, or why it was not.
type Proof = Result<u64>;

#[derive(Clone)]
pub struct Rounds {
    queue: mpsc::Sender<oneshot::Sender<Proof>>,
}

impl Rounds {
    pub fn start(raft: Raft) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(run(raft, waiting));
        Self { queue }
    }

    /// Proves that this member leads, by a round that begins after this call did, and that it has
    /// applied all that was committed before.
    pub async fn prove(&self) -> Proof {
        let (answer, answered) = oneshot::channel();
        let stopping = || Error::unavailable("this coordinator is stopping");
        self.queue.send(answer).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }
}

async fn run(raft: Raft, mut queue: mpsc::Receiver<oneshot::Sender<Proof>>) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, WAITING_MAX).await > 0 {
        let proof = prove(&raft).await;
        for answer in waiting.drain(..) {
            let _ = answer.send(proof.clone());
        }
    }
}

async fn prove(raft: &Raft) -> Proof {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let round = tokio::time::timeout_at(deadline, raft.ensure_linearizable()).await;
        match round {
            Ok(Ok(Some(read))) => return Ok(read.leader_id.term),
            Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_)))) => {
                return Err(Error::unavailable(
                    "this coordinator does not lead the group",
                ));
            }
            Ok(Err(RaftError::Fatal(_))) => {
                return Err(Error::unavailable("this coordinator is stopping"));
            }
            Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) | Ok(None))
                if Instant::now() + PAUSE < deadline =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            _ => {
                return Err(Error::unavailable(format!(
                    "no quorum of coordinators answered within {TIMEOUT:?}"
                )));
            }
        }
    }
}

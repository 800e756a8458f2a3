//! The Raft library's way to the other members, and what a leader that sends while it writes must
//! hold back (`log.rs`).

use std::time::Duration;

use openraft::{
    RaftNetwork, RaftNetworkFactory,
    error::{InstallSnapshotError, RPCError, RaftError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest,
        InstallSnapshotResponse, VoteRequest, VoteResponse,
    },
};
use seawall_common::{Error, Result};

use super::{
    Identity, LogId, Seat, Types,
    log_writer::OnDisk,
    network::{Call, Channels, Peer},
};

/// Makes the Raft library's clients.
#[derive(Clone)]
pub struct Network {
    pub identity: Identity,
    pub channels: Channels,
    pub on_disk: OnDisk,
    /// A leader whose disk takes longer falls silent, so that another is elected.
    pub disk_limit: Duration,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Follower;

    async fn new_client(&mut self, target: u64, node: &Seat) -> Follower {
        let (identity, channels) = (self.identity.clone(), self.channels.clone());
        Follower {
            peer: Peer::new(target, node.addr.clone(), identity, channels),
            on_disk: self.on_disk.clone(),
            disk_limit: self.disk_limit,
        }
    }
}

/// Another member, to which this one sends its log or for whose vote it asks.
pub struct Follower {
    peer: Peer,
    on_disk: OnDisk,
    disk_limit: Duration,
}

impl Follower {
    /// What is committed is on this disk before others hear of it: where this member alone is a
    /// quorum, the library takes for committed what is only on its way there.
    async fn before_sending(&self, request: &AppendEntriesRequest<Types>) -> Result<()> {
        self.on_disk.is_in_time(self.disk_limit).await?;
        match request.leader_commit {
            Some(committed) => self.on_disk.reaches(committed.index).await,
            None => Ok(()),
        }
    }

    /// What the other says that it has counts when this member has it too.
    async fn before_counting(
        &self,
        answer: &AppendEntriesResponse<u64>,
        sent_upto: Option<LogId>,
    ) -> Result<()> {
        let counted = match answer {
            AppendEntriesResponse::Success => sent_upto,
            AppendEntriesResponse::PartialSuccess(upto) => *upto,
            AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => None,
        };
        match counted {
            Some(upto) => self.on_disk.reaches(upto.index).await,
            None => Ok(()),
        }
    }
}

type RaftResult<T, E = openraft::error::Infallible> =
    std::result::Result<T, RPCError<u64, Seat, RaftError<u64, E>>>;

impl RaftNetwork<Types> for Follower {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> RaftResult<AppendEntriesResponse<u64>> {
        let last = request.entries.last().map(|entry| entry.log_id);
        let sent_upto = last.or(request.prev_log_id);
        let broken = |e: Error| RPCError::Unreachable(Unreachable::new(&e));
        self.before_sending(&request).await.map_err(broken)?;
        let ttl = option.hard_ttl();
        let answer = self.peer.ask(Call::Append, &request, ttl).await?;
        let counts = self.before_counting(&answer, sent_upto).await;
        counts.map_err(broken)?;
        Ok(answer)
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> RaftResult<InstallSnapshotResponse<u64>, InstallSnapshotError> {
        let ttl = option.hard_ttl();
        self.peer.ask(Call::Snapshot, &request, ttl).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> RaftResult<VoteResponse<u64>> {
        let ttl = option.hard_ttl();
        self.peer.ask(Call::Vote, &request, ttl).await
    }
}

//! The Raft library's way to the other members, and what a leader that sends while it writes must
//! hold back (`log.rs`).
//!
//! News of what is committed go with the next entries; when none come, by themselves soon after. The
//! library would send them by themselves after each entry, and no further entry until they are
//! answered.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use openraft::{
    RaftNetwork, RaftNetworkFactory,
    error::{InstallSnapshotError, RPCError, RaftError, Unreachable},
    network::{Backoff, RPCOption},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest,
        InstallSnapshotResponse, VoteRequest, VoteResponse,
    },
};
use seawall_common::{Error, Result};

use super::{
    Identity, LogId, Seat, Types, Vote,
    append_stream::AppendStream,
    log_writer::OnDisk,
    network::{Call, Channels, Peer},
};

/// How long news of what is committed wait for entries to go with.
const NEWS_WAIT: Duration = Duration::from_millis(5);

/// Makes the Raft library's clients.
#[derive(Clone)]
pub struct Network {
    pub identity: Identity,
    pub channels: Channels,
    pub on_disk: OnDisk,
    /// A leader whose disk takes longer for a write falls silent, so that another is elected.
    pub heartbeat_interval: Duration,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Follower;

    async fn new_client(&mut self, target: u64, node: &Seat) -> Follower {
        let (identity, channels) = (self.identity.clone(), self.channels.clone());
        Follower {
            peer: Peer::new(target, node.addr.clone(), identity, channels),
            on_disk: self.on_disk.clone(),
            heartbeat_interval: self.heartbeat_interval,
            stream: AppendStream::default(),
            known: None,
            news: Arc::default(),
        }
    }
}

/// Another member, to which this one sends its log or for whose vote it asks.
pub struct Follower {
    peer: Peer,
    on_disk: OnDisk,
    heartbeat_interval: Duration,
    stream: AppendStream,
    known: Option<Known>,
    /// What the other is to be told, unless something that is sent before says as much.
    news: Arc<Mutex<Option<Append>>>,
}

type Append = AppendEntriesRequest<Types>;

/// What the other has said that it has, and what it was told last.
struct Known {
    vote: Vote,
    upto: Option<LogId>,
    committed: Option<LogId>,
}

impl Known {
    /// Whether all that this says is that more is committed of what the other has.
    fn lacks_only_news(&self, request: &Append) -> bool {
        request.entries.is_empty()
            && request.vote == self.vote
            && request.prev_log_id == self.upto
            && request.leader_commit > self.committed
    }
}

impl Follower {
    fn waiting_news(&self) -> MutexGuard<'_, Option<Append>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_soon(&mut self, request: Append, ttl: Duration) {
        if let Some(known) = &mut self.known {
            known.committed = request.leader_commit;
        }
        if self.waiting_news().replace(request).is_some() {
            return;
        }
        let (peer, news) = (self.peer.clone(), self.news.clone());
        tokio::spawn(async move {
            tokio::time::sleep(NEWS_WAIT).await;
            let left = news.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(request) = left {
                // Whoever does not hear it is told with what comes next.
                let told: RaftResult<AppendEntriesResponse<u64>> =
                    peer.ask(Call::Append, &request, ttl).await;
                drop(told);
            }
        });
    }

    async fn append(
        &mut self,
        request: &Append,
        ttl: Duration,
    ) -> RaftResult<AppendEntriesResponse<u64>> {
        let last = request.entries.last().map(|entry| entry.log_id);
        let sent_upto = last.or(request.prev_log_id);
        // The first is a call, and so each that proves a leadership: it waits for no other's answer.
        let call = match self.known.take() {
            Some(_) => Call::AppendOver(self.stream.clone()),
            None => Call::Append,
        };
        self.waiting_news().take();
        let answer = self.peer.ask(call, request, ttl).await?;
        let counts = self.before_counting(&answer, sent_upto).await;
        counts.map_err(broken)?;
        if let AppendEntriesResponse::Success = answer {
            self.known = Some(Known {
                vote: request.vote,
                upto: sent_upto,
                committed: request.leader_commit,
            });
        }
        Ok(answer)
    }

    /// What is committed is on this disk before others hear of it: where this member alone is a
    /// quorum, the library takes for committed what is only on its way there.
    async fn before_sending(&self, request: &AppendEntriesRequest<Types>) -> Result<()> {
        self.on_disk.is_in_time(self.heartbeat_interval).await?;
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

fn broken(error: Error) -> RPCError<u64, Seat, RaftError<u64>> {
    RPCError::Unreachable(Unreachable::new(&error))
}

type RaftResult<T, E = openraft::error::Infallible> =
    std::result::Result<T, RPCError<u64, Seat, RaftError<u64, E>>>;

impl RaftNetwork<Types> for Follower {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> RaftResult<AppendEntriesResponse<u64>> {
        self.before_sending(&request).await.map_err(broken)?;
        let ttl = option.hard_ttl();
        match &self.known {
            Some(known) if known.lacks_only_news(&request) => {
                self.tell_soon(request, ttl);
                Ok(AppendEntriesResponse::Success)
            }
            _ => self.append(&request, ttl).await,
        }
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> RaftResult<InstallSnapshotResponse<u64>, InstallSnapshotError> {
        let ttl = option.hard_ttl();
        self.peer.ask(Call::Snapshot, &request, ttl).await
    }

    /// One that has not answered is asked again when the next heartbeat is due, and not so late that it
    /// takes the leader for gone when it hears again.
    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.heartbeat_interval))
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

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, EntryPayload};

    use super::*;
    use crate::raft::Entry;

    const TERM: u64 = 7;

    fn at(index: u64) -> Option<LogId> {
        Some(LogId::new(CommittedLeaderId::new(TERM, 1), index))
    }

    fn news() -> Append {
        AppendEntriesRequest {
            vote: Vote::new_committed(TERM, 1),
            prev_log_id: at(20),
            entries: Vec::new(),
            leader_commit: at(20),
        }
    }

    #[test]
    fn only_what_says_that_more_is_committed_and_nothing_else_may_wait() {
        let known = Known {
            vote: Vote::new_committed(TERM, 1),
            upto: at(20),
            committed: at(19),
        };
        let may_wait = |request: Append| known.lacks_only_news(&request);
        assert!(may_wait(news()));
        let committed = |leader_commit| Append {
            leader_commit,
            ..news()
        };
        assert!(!may_wait(committed(at(19))), "a heartbeat");
        assert!(!may_wait(committed(None)));
        let after = |prev_log_id| Append {
            prev_log_id,
            ..news()
        };
        assert!(!may_wait(after(at(21))), "what it has not said it has");
        assert!(!may_wait(after(at(19))), "a look for what it has");
        assert!(!may_wait(after(None)));
        let vote = Vote::new_committed(TERM + 1, 1);
        assert!(!may_wait(Append { vote, ..news() }), "another term");
        let entries = vec![Entry {
            log_id: at(21).unwrap(),
            payload: EntryPayload::Blank,
        }];
        assert!(!may_wait(Append { entries, ..news() }));
    }
}

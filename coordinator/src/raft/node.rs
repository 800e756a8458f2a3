//! The group as the rest of the coordinator sees it.
//!
//! [`Node::propose`] answers once a command is committed and applied; [`Node::read`] looks at the
//! state after a quorum has confirmed that nothing newer exists; [`Node::look`] looks at what this
//! member has applied, however old.

use std::{sync::Arc, time::Duration};

use openraft::ServerState;
use prometheus_client::metrics::counter::Counter;
use seawall_common::{Error, Result, access::Lasts};
use tokio::{runtime::Handle, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Channel;

use super::{
    Identity, Raft, RaftService, Seat,
    consensus::Consensus,
    elections::{Timing, stand_for_election},
    joining,
    machine::Machine,
    network::{Channels, Peer},
    options::NodeOptions,
    refusals,
    roster::Roster,
};
use crate::{
    platform::{TaskThread, die},
    state::{Command, Response, State},
};

/// At least this lies between two looks at what has been applied.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
const HELLO_INTERVAL: Duration = Duration::from_secs(1);
const SETTLED_HELLO_INTERVAL: Duration = Duration::from_secs(10);

/// Who leads, as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<u64>,
    /// This member leads.
    pub is_ours: bool,
}

/// A member of the group, for people.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: u64,
    pub address: String,
    pub is_voter: bool,
    /// How far its log agrees with the leader's; only the leader knows.
    pub matched_index: Option<u64>,
    /// Since when it has not answered this one.
    pub silent_since_unix_ms: Option<u64>,
}

#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    consensus: Consensus,
    identity: Identity,
    leadership: watch::Receiver<Leadership>,
    applied: watch::Receiver<u64>,
    /// Held while the membership is changed.
    changing: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// That of the consensus.
    thread: TaskThread,
}

impl Node {
    /// Opens log and snapshots and takes part; [`Node::join`] follows once calls can be answered.
    pub async fn open(identity: Identity, options: NodeOptions) -> Result<Self> {
        let thread = TaskThread::start("raft")?;
        let timing = Timing {
            heartbeat_interval: options.heartbeat_interval,
            election_timeout: options.election_timeout,
        };
        let consensus = thread.run(Consensus::start(identity.clone(), options));
        let consensus = consensus.await?;
        let raft = consensus.raft.clone();
        thread.spawn(stand_for_election(raft, Handle::current(), timing));
        let leadership = watch::Sender::new(Leadership::default());
        let applied = watch::Sender::new(0);
        let node = Self {
            inner: Arc::new(Inner {
                leadership: leadership.subscribe(),
                applied: applied.subscribe(),
                consensus,
                identity,
                changing: tokio::sync::Mutex::new(()),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
                thread,
            }),
        };
        node.refresh_roster();
        node.spawn(follow_roster(node.clone()));
        node.spawn(follow_leadership(node.raft().clone(), leadership));
        node.spawn(follow_applied(node.machine().progress(), applied));
        node.spawn(learn_group(node.machine().clone(), node.identity().clone()));
        Ok(node)
    }

    /// Makes this member known to the others and, the first time, forms the group with them; one
    /// that joins a group waits to be added. Call it when the Raft service is served.
    pub async fn join(&self) -> Result<()> {
        let (raft, identity) = (self.raft(), self.identity());
        self.greet().await;
        if let Some(refusal) = identity.refusal().borrow().clone() {
            return Err(refusal);
        }
        let failed =
            |e: &dyn std::fmt::Display| Error::internal(format!("cannot form the group: {e}"));
        let is_founder = identity.join().is_empty();
        if is_founder && !raft.is_initialized().await.map_err(|e| failed(&e))? {
            let seats: std::collections::BTreeMap<u64, Seat> = identity
                .founders()
                .into_iter()
                .map(|(id, addr)| {
                    (
                        id,
                        Seat {
                            addr,
                            ..Seat::default()
                        },
                    )
                })
                .collect();
            match raft.initialize(seats).await {
                // The others were faster: their log has reached us meanwhile.
                Err(e) if raft.is_initialized().await.unwrap_or(false) => {
                    tracing::debug!("the group was formed by another member: {e}");
                }
                result => result.map_err(|e| failed(&e))?,
            }
        }
        self.spawn(keep_acquainted(self.clone()));
        Ok(())
    }

    /// Says hello to all other members; whether all have answered.
    async fn greet(&self) -> bool {
        let (identity, channels) = (self.identity(), self.channels());
        let calls = identity
            .members()
            .into_iter()
            .filter(|(id, _)| *id != identity.id())
            .map(|(id, address)| {
                let peer = Peer::new(id, address, identity.clone(), channels.clone());
                async move {
                    let greeted = peer.hello().await;
                    if let Err(e) = &greeted {
                        tracing::debug!("member {id} could not be greeted: {e}");
                    }
                    greeted.is_ok()
                }
            });
        futures::future::join_all(calls)
            .await
            .into_iter()
            .all(|ok| ok)
    }

    /// Lets the identity know who belongs to the group now, and ends this member when it no longer
    /// does.
    fn refresh_roster(&self) {
        let (raft, identity) = (self.raft(), self.identity());
        let membership = raft.server_metrics().borrow().membership_config.clone();
        let retired = self.look(|state| state.members.retired().clone());
        let roster = Roster::new(&membership, retired);
        if roster.is_retired(identity.id()) {
            identity.refuse(refusals::removed(identity.id()));
        }
        identity.set_roster(roster);
    }

    /// Commits `command` and answers what it came to; a refusal comes as the error that it names.
    /// After a timeout or a change of leader it may still take effect.
    pub async fn propose(&self, command: Command) -> Result<Response> {
        Ok(self.propose_in_term(command).await?.0)
    }

    /// As [`Node::propose`], with the term under which the command was applied.
    pub async fn propose_in_term(&self, command: Command) -> Result<(Response, u64)> {
        let (response, term) = self.inner.consensus.proposals.propose(command).await?;
        Ok((response.into_result()?, term))
    }

    /// Proves, by a quorum round that begins now, that this member leads; answers its term.
    pub async fn prove_leadership(&self) -> Result<u64> {
        self.inner.consensus.rounds.prove().await
    }

    /// Looks at the state when it is proved that this member leads and has applied all that was
    /// committed before the call.
    pub async fn read<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T> {
        self.prove_leadership().await?;
        Ok(self.look(look))
    }

    /// Looks at the state as this member has applied it. The state is locked meanwhile: be quick.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.machine().look(look)
    }

    /// Changes when commands have been applied, and soon after the first of many.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.applied.clone()
    }

    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    pub(super) fn raft(&self) -> &Raft {
        &self.inner.consensus.raft
    }

    fn machine(&self) -> &Machine {
        &self.inner.consensus.machine
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    pub(super) fn channels(&self) -> &Channels {
        &self.inner.consensus.channels
    }

    pub(super) fn changing(&self) -> &tokio::sync::Mutex<()> {
        &self.inner.changing
    }

    pub fn id(&self) -> u64 {
        self.inner.identity.id()
    }

    pub fn last_applied(&self) -> u64 {
        self.machine().last_applied().map_or(0, |id| id.index)
    }

    /// The last entry of the log, applied or not.
    pub fn last_log_index(&self) -> u64 {
        let metrics = self.raft().metrics();
        let index = metrics.borrow().last_log_index;
        index.unwrap_or_default()
    }

    /// Counts the commands that were committed through this member.
    pub fn proposals(&self) -> Counter {
        self.inner.consensus.proposals.committed()
    }

    pub fn members(&self) -> Vec<Member> {
        let metrics = self.raft().metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        membership
            .nodes()
            .map(|(id, node)| Member {
                id: *id,
                address: node.addr.clone(),
                is_voter: membership.voter_ids().any(|voter| voter == *id),
                matched_index: metrics
                    .replication
                    .as_ref()
                    .and_then(|replication| replication.get(id))
                    .and_then(|log_id| log_id.map(|log_id| log_id.index)),
                silent_since_unix_ms: self.channels().silent_since(*id),
            })
            .collect()
    }

    /// Whether more than half of those that vote are heard here, this one counted.
    pub fn hears_a_quorum(&self) -> bool {
        let members = self.members();
        let voters = || members.iter().filter(|member| member.is_voter);
        let heard = voters().filter(|member| member.silent_since_unix_ms.is_none());
        heard.count() * 2 > voters().count()
    }

    /// A connection to another member, by its number, for what lasts so long: streams have one of
    /// their own.
    pub fn channel_to(&self, member: u64, lasts: Lasts) -> Result<Channel> {
        let address = self
            .members()
            .into_iter()
            .find(|known| known.id == member)
            .map(|known| known.address)
            .ok_or_else(|| Error::unavailable(format!("member {member} is not known here")))?;
        match lasts {
            Lasts::ACall => self.channels().for_calls_to(&address),
            Lasts::AWatch | Lasts::ASession => self.channels().for_streams_to(&address),
        }
    }

    /// What answers the other members, until it is told to stop.
    pub fn service(&self, stop: CancellationToken) -> RaftService {
        RaftService::new(self.raft().clone(), self.identity().clone(), stop)
    }

    /// Waits until this member can no longer take part, and says why.
    pub async fn failed(&self) -> Error {
        let mut refusal = self.inner.identity.refusal();
        let ended = async {
            // Seldom changes, and ends with Raft's core.
            let mut metrics = self.raft().server_metrics();
            while metrics.changed().await.is_ok() {}
        };
        tokio::select! {
            refused = refusal.wait_for(Option::is_some) => match refused {
                Ok(error) => error.clone().unwrap_or_else(|| Error::internal("refused")),
                Err(_) => Error::internal("the member's identity is gone"),
            },
            () = ended => {
                let state = self.raft().metrics().borrow().running_state.clone();
                Error::internal(format!("Raft has ended: {state:?}"))
            }
        }
    }

    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        if let Err(e) = self.raft().shutdown().await {
            tracing::warn!("Raft ended badly: {e}");
        }
        self.inner.tasks.wait().await;
        self.inner.thread.end().await;
    }

    /// Makes a snapshot and forgets the log up to `index`, as happens by itself after many entries.
    #[cfg(test)]
    pub async fn compact(&self, index: u64) {
        let raft = self.raft();
        let wait = || raft.wait(Some(Duration::from_secs(10)));
        raft.trigger().snapshot().await.unwrap();
        let snapshot = |metrics: &openraft::RaftMetrics<u64, Seat>| {
            metrics.snapshot.is_some_and(|made| made.index >= index)
        };
        wait().metrics(snapshot, "snapshot").await.unwrap();
        raft.trigger().purge_log(index).await.unwrap();
        let purged = |metrics: &openraft::RaftMetrics<u64, Seat>| {
            metrics.purged.is_some_and(|purged| purged.index >= index)
        };
        wait().metrics(purged, "purge").await.unwrap();
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }
}

/// Many look at the state whenever it changes: under load, once in a while.
async fn follow_applied(mut progress: watch::Receiver<u64>, applied: watch::Sender<u64>) {
    loop {
        applied.send_replace(*progress.borrow_and_update());
        tokio::time::sleep(LOOK_PAUSE).await;
        if progress.changed().await.is_err() {
            return;
        }
    }
}

async fn follow_leadership(raft: Raft, leadership: watch::Sender<Leadership>) {
    let mut metrics = raft.server_metrics();
    loop {
        let now = {
            let metrics = metrics.borrow_and_update();
            Leadership {
                term: metrics.vote.leader_id().get_term(),
                leader: metrics.current_leader,
                is_ours: metrics.state == ServerState::Leader
                    && metrics.current_leader == Some(metrics.id),
            }
        };
        leadership.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Hands each change of the membership on to the identity.
async fn follow_roster(node: Node) {
    let mut metrics = node.raft().server_metrics();
    let mut progress = node.applied();
    let mut known = None;
    loop {
        let membership = metrics.borrow_and_update().membership_config.clone();
        let retired = node.look(|state| state.members.retired().len());
        let now = Some((*membership.log_id(), retired));
        if now != known {
            node.refresh_roster();
            known = now;
        }
        let changed = tokio::select! {
            changed = metrics.changed() => changed,
            changed = progress.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Greets the others, often until all that there are have answered and this member has a place among
/// them; now and then after that, for one that was removed is called by nobody and shall hear of it.
async fn keep_acquainted(node: Node) {
    let (identity, channels) = (node.identity(), node.channels());
    if let Err(e) = joining::learn_group(identity, channels).await {
        die("cannot note the name of the group", &e);
    }
    loop {
        let is_settled = node.greet().await && identity.has_seat();
        let pause = match is_settled {
            true => SETTLED_HELLO_INTERVAL,
            false => HELLO_INTERVAL,
        };
        tokio::time::sleep(pause).await;
    }
}

/// Notes the group's name with the identity, so that strangers are refused from then on.
async fn learn_group(machine: Machine, identity: Identity) {
    let mut progress = machine.progress();
    loop {
        if let Some(group_id) = machine.look(|state| state.group_id.clone()) {
            match identity.learn_group(&group_id).await {
                Ok(()) => return,
                Err(e) => die("cannot note the name of the group", &e),
            }
        }
        if progress.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_applied_last_is_always_told_and_what_was_between_seldom() {
        const ENTRIES: u64 = 500;
        let (progress, applied) = (watch::Sender::new(0), watch::Sender::new(0));
        let mut told = applied.subscribe();
        let following = tokio::spawn(follow_applied(progress.subscribe(), applied));
        let counting = tokio::spawn(async move {
            let mut changes = 0;
            while *told.borrow_and_update() < ENTRIES {
                told.changed().await.unwrap();
                changes += 1;
            }
            changes
        });
        for entry in 1..=ENTRIES {
            progress.send_replace(entry);
            tokio::task::yield_now().await;
        }
        let changes = tokio::time::timeout(Duration::from_secs(10), counting).await;
        let changes = changes.unwrap().unwrap();
        assert!(changes < ENTRIES / 5, "told {changes} times of {ENTRIES}");
        drop(progress);
        following.await.unwrap();
    }
}

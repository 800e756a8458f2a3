//! Sagas without Raft, network or disk: a state in memory, agents that do as a test tells them, and
//! a store that notes what was done in it. Time is the runtime's, which tests stop.

mod agents;
mod clocked;
mod group;
mod store;

use std::{sync::Arc, time::Duration};

use agents::Agents;
pub use agents::{Call, DAMAGED_TOLD, Does, FakeAgents};
pub use clocked::Clocked;
pub use group::MemoryGroup;
use seawall_common::ids::{Alias, OperationId};
use seawall_proto::v1;
pub use store::{FakeStore, REQUEST_TIMEOUT, keep_in_store};
use tokio_util::sync::CancellationToken;

use super::{Coordination, Patience, runner};
use crate::{
    agents::heartbeats::Heard,
    group::Group,
    raft::Leadership,
    state::{
        Command, State,
        operations::{self, Operation, Spec, Start},
        testing::Cluster,
    },
};

/// A coordinator in office over the cluster of the state's tests.
pub struct Stage {
    pub context: Arc<Coordination>,
    pub group: Arc<MemoryGroup>,
    pub store: Arc<FakeStore>,
    agents: Arc<FakeAgents>,
    stop: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stage {
    pub fn new(cluster: Cluster) -> Self {
        Self::with(cluster, |_| {})
    }

    /// One whose agents are heard only when a test says so.
    pub fn silent(cluster: Cluster) -> Self {
        let stage = Self::build(cluster, |_| {});
        stage.lead(1);
        stage
    }

    /// One in which something is other than usual.
    pub fn with(cluster: Cluster, change: impl FnOnce(&mut Coordination)) -> Self {
        let stage = Self::build(cluster, change);
        let aliases = stage.look(|state| {
            let tablets = state.topology.tablets();
            tablets.map(|tablet| tablet.alias.clone()).collect()
        });
        tokio::spawn(beat(
            stage.context.clone(),
            stage.agents.clone(),
            aliases,
            stage.stop.clone(),
        ));
        stage.lead(1);
        stage
    }

    /// One that nobody leads.
    pub fn unled(cluster: Cluster) -> Self {
        Self::build(cluster, |_| {})
    }

    fn build(cluster: Cluster, change: impl FnOnce(&mut Coordination)) -> Self {
        let mut state = cluster.state;
        state.group_id = Some("group".into());
        let group = Arc::new(MemoryGroup::new(state));
        let store = Arc::new(FakeStore::new(group.clone()));
        let agents = Arc::new(FakeAgents::default());
        *agents.group.lock().unwrap() = Some(group.clone());
        let patience = Patience {
            removal_grace: Duration::ZERO,
            // Tests that want it have it by hand.
            retention: Duration::from_secs(10 * 365 * 24 * 3600),
            ..Patience::default()
        };
        let mut context = Coordination::new(
            group.clone(),
            store.clone(),
            Arc::new(Agents(agents.clone())),
            patience,
        );
        change(Arc::get_mut(&mut context).unwrap());
        let stage = Self {
            context,
            group,
            store,
            agents,
            stop: CancellationToken::new(),
        };
        tokio::spawn(runner::run(stage.context.clone(), stage.stop.clone()));
        stage
    }

    pub async fn propose(&self, command: Command) {
        self.group.propose(command).await.unwrap();
    }

    /// Another leader takes office; it is this one again, with nothing in its memory.
    pub fn lead(&self, term: u64) {
        self.group.leadership.send_replace(Leadership {
            term,
            leader: Some(1),
            is_ours: true,
        });
    }

    /// Another member leads from now on.
    pub fn resign(&self, term: u64) {
        self.group.leadership.send_replace(Leadership {
            term,
            leader: Some(2),
            is_ours: false,
        });
    }

    pub fn tell(&self, step: &str, does: Does) {
        self.agents.does.lock().unwrap().insert(step.into(), does);
    }

    pub fn stop_at(&self, position: &str) {
        position.clone_into(&mut self.agents.stops_at.lock().unwrap());
    }

    /// What verifications find from now on.
    pub fn find_damaged(&self, packs: &[String]) {
        *self.agents.damaged_packs.lock().unwrap() = packs.to_vec();
    }

    /// A restore test that is called off has found this by then.
    pub fn find_before_it_is_called_off(&self, what: &str) {
        *self.agents.found_by_then.lock().unwrap() = Some(what.to_owned());
    }

    /// A step fails with an error of this kind.
    pub fn fail_as(&self, step: &str, kind: &str, message: &str) {
        let failure = (kind.to_owned(), message.to_owned());
        self.agents
            .failures
            .lock()
            .unwrap()
            .insert(step.to_owned(), failure);
    }

    /// How long all servers say that they keep their logs.
    pub fn keep_logs_for(&self, kept_ms: u64) {
        *self.agents.log_kept_ms.lock().unwrap() = Some(kept_ms);
    }

    pub fn untell(&self, step: &str) {
        self.agents.does.lock().unwrap().remove(step);
    }

    /// What whoever watches an operation is told that it waits for, or is at.
    pub fn said(&self, id: OperationId) -> String {
        let progress = self.context.heartbeats.progress(id);
        progress.map_or_else(String::new, |progress| progress.message)
    }

    pub fn calls(&self) -> Vec<Call> {
        self.agents.calls.lock().unwrap().clone()
    }

    pub fn discards(&self) -> Vec<bool> {
        self.agents.discards.lock().unwrap().clone()
    }

    pub fn steps_called(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.step).collect()
    }

    pub async fn start(&self, spec: Spec) -> OperationId {
        self.start_within(spec, Duration::from_secs(24 * 3600))
            .await
    }

    pub async fn start_within(&self, spec: Spec, time: Duration) -> OperationId {
        let now_unix_ms = seawall_common::clock::now_unix_ms();
        let id = OperationId::generate();
        let start = Start {
            id,
            spec,
            now_unix_ms,
            deadline_unix_ms: now_unix_ms + super::driver::millis(time),
        };
        let start = Command::Operations(operations::Command::Start(start));
        self.group.propose(start).await.unwrap();
        id
    }

    pub async fn cancel(&self, id: OperationId) {
        let reason = "test".into();
        let cancel = operations::Command::Cancel { id, reason };
        self.group
            .propose(Command::Operations(cancel))
            .await
            .unwrap();
    }

    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        let group: &dyn Group = &*self.group;
        group.look(look)
    }

    pub fn operation(&self, id: OperationId) -> Operation {
        self.look(|state| state.operations.get(&id).unwrap().clone())
    }

    pub async fn called(&self, step: &str) {
        self.until(|| self.steps_called().iter().any(|called| called == step))
            .await;
    }

    pub async fn ended(&self, id: OperationId) -> Operation {
        self.until(|| !self.operation(id).state.is_open()).await;
        self.operation(id)
    }

    pub async fn until(&self, is_so: impl Fn() -> bool) {
        self.until_within(Duration::from_secs(3 * 24 * 3600), is_so)
            .await;
    }

    /// For what is waited for while something is tried again all the time.
    pub async fn until_within(&self, limit: Duration, is_so: impl Fn() -> bool) {
        let waited = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(limit, waited)
            .await
            .expect("it never came to that");
    }
}

/// The agents that were there from the beginning are heard each second, until one is told to vanish.
async fn beat(
    context: Arc<Coordination>,
    agents: Arc<FakeAgents>,
    aliases: Vec<Alias>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let called: Vec<String> = {
            let calls = agents.calls.lock().unwrap();
            calls.iter().map(|call| call.step.clone()).collect()
        };
        let has_vanished = {
            let does = agents.does.lock().unwrap();
            does.iter()
                .any(|(step, does)| *does == Does::Vanish && called.contains(step))
        };
        if !has_vanished {
            for alias in &aliases {
                let heard = Heard {
                    instance: format!("instance of {alias}"),
                    at: tokio::time::Instant::now(),
                    at_unix_ms: 0,
                    status: v1::TabletStatus {
                        database_running: true,
                        lag_ms: Some(0),
                        serving: true,
                        can_read_repository: true,
                        can_test_restore: true,
                        log_kept_ms: *agents.log_kept_ms.lock().unwrap(),
                        ..v1::TabletStatus::default()
                    },
                };
                context.heartbeats.record(alias, heard);
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

//! The sagas: what the leader does, step by step, to carry an operation through.

pub mod agent_call;
pub mod backup;
pub mod choice;
pub mod clock;
pub mod collection;
mod delete_side;
pub mod driver;
pub mod group_backup;
pub mod listing;
pub mod recipients;
#[cfg(test)]
mod recipients_tests;
pub mod refresh;
pub mod removal;
pub mod reparent;
pub mod restore;
pub mod retention;
pub mod runner;
pub mod schedules;
#[cfg(test)]
mod schedules_tests;
pub mod short_logs;
pub mod slots;
pub mod store;
pub mod verify;

#[cfg(test)]
mod collection_tests;
#[cfg(test)]
mod retention_tests;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use seawall_common::{Error, Result, clock::now_unix_ms};

use crate::{
    agents::{client::AgentCalls, heartbeats::Heartbeats, serving::Serving},
    group::Group,
    leases::Leases,
};

/// Times that decide how patient the sagas are.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between a backup's removal and the deletion of its objects.
    pub removal_grace: Duration,
    /// How long an agent may be silent before the copy of its backup is complete.
    pub lease: Duration,
    /// How long it may be silent past the point of no return.
    pub lease_forward: Duration,
    /// How long the undoing of an operation waits for its agent.
    pub undo: Duration,
    /// How often retention is applied, besides after each backup.
    pub retention: Duration,
    /// Between two tries of a step; each try waits twice as long, up to the second value.
    pub retry: (Duration, Duration),
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            removal_grace: Duration::from_secs(24 * 3600),
            lease: Duration::from_secs(60),
            lease_forward: Duration::from_secs(600),
            undo: Duration::from_secs(600),
            retention: Duration::from_secs(3600),
            retry: (Duration::from_millis(200), Duration::from_secs(5)),
        }
    }
}

/// All that services and sagas work with.
pub struct Coordination {
    pub group: Arc<dyn Group>,
    pub store: Arc<dyn store::Store>,
    pub agents: Arc<dyn AgentCalls>,
    pub heartbeats: Heartbeats,
    pub serving: Serving,
    pub leases: Leases,
    pub readings: listing::Readings,
    pub collections: collection::Collections,
    pub retention: retention::Applied,
    pub clock: clock::ClockWatch,
    pub patience: Patience,
    /// The time of day, by which retention and schedules go.
    pub wall_unix_ms: Wall,
    /// The clock that never jumps, with which the time of day is compared.
    pub monotonic: Monotonic,
}

pub type Wall = Box<dyn Fn() -> u64 + Send + Sync>;
pub type Monotonic = Box<dyn Fn() -> std::time::Instant + Send + Sync>;

impl Coordination {
    pub fn new(
        group: Arc<dyn Group>,
        store: Arc<dyn store::Store>,
        agents: Arc<dyn AgentCalls>,
        patience: Patience,
    ) -> Arc<Self> {
        Arc::new(Self {
            group,
            store,
            agents,
            heartbeats: Heartbeats::new(),
            serving: Serving::default(),
            leases: Leases::default(),
            readings: listing::Readings::default(),
            collections: collection::Collections::default(),
            retention: retention::Applied::default(),
            clock: clock::ClockWatch::default(),
            patience,
            wall_unix_ms: Box::new(now_unix_ms),
            monotonic: Box::new(std::time::Instant::now),
        })
    }

    pub fn group_id(&self) -> Result<String> {
        self.group
            .look(|state| state.group_id.clone())
            .ok_or_else(|| Error::unavailable("the coordinator group has no name yet"))
    }

    /// Only the repository's owner writes and deletes in it: looked up before each time.
    pub async fn check_owner(&self) -> Result<()> {
        let known = self.group.look(|state| state.repository_id.clone());
        if known.is_some_and(|ours| ours != self.store.id()) {
            return Err(Error::refused(
                "the repository is not the one of this coordinator group",
            ));
        }
        self.store.check_owner(&self.group_id()?).await
    }
}

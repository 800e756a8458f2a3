//! The leader's memory: when each agent was last heard and what it said, and how far each
//! operation says it is. Never in the log; a new leader begins with nothing and gives every agent
//! the time to be heard before it draws conclusions.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use seawall_common::ids::{Alias, OperationId};
use seawall_proto::v1;
use tokio::{sync::watch, time::Instant};

/// An agent that was heard within this time is there.
pub const SEEN_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct Heard {
    pub instance: String,
    pub at: Instant,
    pub at_unix_ms: u64,
    pub status: v1::TabletStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Yes,
    No,
    /// This leader is too young to know.
    Unknown,
}

pub struct Heartbeats {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

struct Inner {
    in_office_since: Instant,
    tablets: BTreeMap<Alias, Heard>,
    progress: BTreeMap<OperationId, v1::Progress>,
}

impl Heartbeats {
    pub fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                in_office_since: Instant::now(),
                tablets: BTreeMap::new(),
                progress: BTreeMap::new(),
            }),
            changed: watch::Sender::new(0),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was heard in an earlier office.
    pub fn take_office(&self) {
        *self.inner() = Inner {
            in_office_since: Instant::now(),
            tablets: BTreeMap::new(),
            progress: BTreeMap::new(),
        };
        self.changed.send_modify(|count| *count += 1);
    }

    pub fn record(&self, alias: &Alias, heard: Heard) {
        let serving = heard.status.serving;
        let before = self.inner().tablets.insert(alias.clone(), heard);
        if before.is_none_or(|before| before.status.serving != serving) {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// An answer to a call shows that the agent is there, as a heartbeat does.
    pub fn touch(&self, alias: &Alias) {
        if let Some(heard) = self.inner().tablets.get_mut(alias) {
            heard.at = Instant::now();
        }
    }

    pub fn forget(&self, alias: &Alias) {
        self.inner().tablets.remove(alias);
    }

    pub fn heard(&self, alias: &Alias) -> Option<Heard> {
        self.inner().tablets.get(alias).cloned()
    }

    /// The last word of an agent that is there.
    pub fn seen_status(&self, alias: &Alias) -> Option<v1::TabletStatus> {
        self.heard(alias)
            .filter(|heard| heard.at.elapsed() <= SEEN_WITHIN)
            .map(|heard| heard.status)
    }

    /// How long an agent has been silent, counted from no earlier than this leader's office.
    pub fn silence(&self, alias: &Alias) -> Duration {
        let inner = self.inner();
        let since = inner
            .tablets
            .get(alias)
            .map_or(inner.in_office_since, |heard| heard.at);
        since.elapsed()
    }

    /// Whether agents that are there may not have been heard by this leader yet.
    pub fn is_young(&self) -> bool {
        self.inner().in_office_since.elapsed() <= SEEN_WITHIN
    }

    /// Whether the given instance of an agent is there.
    pub fn seen(&self, alias: &Alias, instance: &str) -> Seen {
        let inner = self.inner();
        match inner.tablets.get(alias) {
            Some(heard) if heard.instance == instance && heard.at.elapsed() <= SEEN_WITHIN => {
                Seen::Yes
            }
            _ if inner.in_office_since.elapsed() <= SEEN_WITHIN => Seen::Unknown,
            _ => Seen::No,
        }
    }

    pub fn set_progress(&self, operation: OperationId, progress: v1::Progress) {
        self.inner().progress.insert(operation, progress);
    }

    pub fn clear_progress(&self, operation: OperationId) {
        self.inner().progress.remove(&operation);
    }

    pub fn progress(&self, operation: OperationId) -> Option<v1::Progress> {
        self.inner().progress.get(&operation).cloned()
    }

    /// Changes whenever a tablet begins or ends to serve.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(instance: &str) -> Heard {
        Heard {
            instance: instance.into(),
            at: Instant::now(),
            at_unix_ms: 1,
            status: v1::TabletStatus::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_young_leader_does_not_take_an_agent_for_gone() {
        let heartbeats = Heartbeats::new();
        let alias: Alias = "zone1-101".parse().unwrap();
        assert_eq!(heartbeats.seen(&alias, "a"), Seen::Unknown);
        heartbeats.record(&alias, heard("a"));
        assert_eq!(heartbeats.seen(&alias, "a"), Seen::Yes);
        tokio::time::advance(SEEN_WITHIN + Duration::from_secs(1)).await;
        assert_eq!(heartbeats.seen(&alias, "a"), Seen::No);
        assert!(heartbeats.seen_status(&alias).is_none());
        heartbeats.take_office();
        assert_eq!(heartbeats.seen(&alias, "a"), Seen::Unknown);
        assert_eq!(heartbeats.silence(&alias), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(heartbeats.silence(&alias), Duration::from_secs(7));
    }
}

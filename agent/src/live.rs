//! What is true only while this process lives: the last look at the database, whether it has caught
//! up since it came back, when a coordinator was last heard, and what the agent is stuck at.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crate::engine::Health;

/// One look at the database.
#[derive(Clone, Debug)]
pub struct Observation {
    pub at: Instant,
    pub running: bool,
    /// Of the server, or of its program when it does not run; empty: not known.
    pub version: String,
    /// Absent when it does not run or does not answer.
    pub health: Option<Health>,
    /// Why there is no health although it runs.
    pub error: Option<String>,
}

#[derive(Default)]
pub struct Live {
    caught_up: AtomicBool,
    registered: AtomicBool,
    told_server_id: AtomicU32,
    observed: Mutex<Option<Observation>>,
    trouble: Mutex<String>,
    scratch_trouble: Mutex<String>,
    heard: Mutex<Option<Instant>>,
    saw_shard: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn change(known: &Mutex<String>, trouble: &str) {
    let mut now = lock(known);
    if *now == trouble {
        return;
    }
    if trouble.is_empty() {
        tracing::info!("no longer: {now}");
    } else {
        tracing::warn!("{trouble}");
    }
    trouble.clone_into(&mut now);
}

impl Live {
    /// It has reached a goal position that was read after the database came back.
    pub fn reach_goal(&self) {
        self.caught_up.store(true, Ordering::Release);
    }

    /// The database stops or starts: what it had reached counts no more.
    pub fn lose_goal(&self) {
        self.caught_up.store(false, Ordering::Release);
    }

    pub fn has_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    /// A coordinator knows this tablet, its repository is the agent's, and this is the server id
    /// that it was told: 0 while the database has not been seen running.
    pub fn set_registered(&self, server_id: u32) {
        self.told_server_id.store(server_id, Ordering::Release);
        self.registered.store(true, Ordering::Release);
    }

    pub fn told_server_id(&self) -> u32 {
        self.told_server_id.load(Ordering::Acquire)
    }

    pub fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Acquire)
    }

    pub fn observe(&self, observation: Observation) {
        *lock(&self.observed) = Some(observation);
    }

    pub fn observed(&self) -> Option<Observation> {
        lock(&self.observed).clone()
    }

    /// What keeps the agent from having the database as it should be; empty: nothing does.
    /// Logged when it changes.
    pub fn set_trouble(&self, trouble: &str) {
        change(&self.trouble, trouble);
    }

    /// What keeps backups from being restored aside to test them; empty: nothing that is known.
    /// Logged when it changes.
    pub fn set_scratch_trouble(&self, trouble: &str) {
        change(&self.scratch_trouble, trouble);
    }

    pub fn has_scratch_trouble(&self) -> bool {
        !lock(&self.scratch_trouble).is_empty()
    }

    pub fn trouble(&self) -> String {
        lock(&self.trouble).clone()
    }

    /// A coordinator answered a request that was sent at `sent`.
    pub fn hear(&self, sent: Instant) {
        *lock(&self.heard) = Some(sent);
    }

    /// A heartbeat that was sent at `sent` was answered with the shard's newest epoch, which is known
    /// here now.
    pub fn see_shard(&self, sent: Instant) {
        *lock(&self.saw_shard) = Some(sent);
    }

    /// Whether what is known of the shard was asked for after `moment`.
    pub fn has_seen_shard_since(&self, moment: Instant) -> bool {
        lock(&self.saw_shard).is_some_and(|sent| sent > moment)
    }

    /// How long ago the last request that a coordinator answered was sent.
    pub fn silence(&self) -> Option<Duration> {
        lock(&self.heard).map(|at| at.elapsed())
    }
}

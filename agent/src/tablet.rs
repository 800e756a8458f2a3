//! What all parts of the agent share about their one tablet.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use seawall_common::{
    Error, Result,
    ids::{Alias, ShardId},
    repository::{Repository, WriterKey},
};
use tokio::sync::{Mutex, MutexGuard, OnceCell, OwnedMutexGuard};

use crate::{
    config::Settings,
    coordinators::Coordinator,
    engine::Engine,
    instance::Instance,
    journal::Journal,
    live::Live,
    metrics::Metrics,
    shard::ShardWatch,
    transfers::{self, Throttling},
};

pub struct Tablet {
    pub settings: Settings,
    pub alias: Alias,
    pub shard_id: ShardId,
    /// Made once for each state directory.
    pub instance: String,
    /// Signs what this tablet writes.
    pub writer_key: WriterKey,
    pub engine: Arc<dyn Engine>,
    pub journal: Journal,
    pub shard: ShardWatch,
    pub coordinator: Arc<dyn Coordinator>,
    pub live: Live,
    pub metrics: Metrics,
    throttling: Throttling,
    repository: OnceCell<Repository>,
    /// Held while the database's role or its being up is changed, for short actions only.
    database: Mutex<()>,
    /// Held while it is decided whether what a restore has left stays.
    partial_restore: Mutex<()>,
    /// Held while what an earlier process restored aside is removed.
    clearing: Arc<Mutex<()>>,
    /// Set once the leftovers of an earlier process have been looked at.
    recovered: AtomicBool,
}

impl Tablet {
    pub fn new(
        settings: Settings,
        instance: &Instance,
        engine: Arc<dyn Engine>,
        coordinator: Arc<dyn Coordinator>,
    ) -> Result<Self> {
        Ok(Self {
            alias: settings.alias.clone(),
            shard_id: settings.shard()?,
            instance: instance.id.to_string(),
            writer_key: instance.writer_key.clone(),
            engine,
            shard: ShardWatch::new(instance.journal.clone()),
            journal: instance.journal.clone(),
            coordinator,
            live: Live::default(),
            metrics: Metrics::default(),
            throttling: Throttling::default(),
            repository: OnceCell::new(),
            database: Mutex::new(()),
            partial_restore: Mutex::new(()),
            clearing: Arc::default(),
            recovered: AtomicBool::new(false),
            settings,
        })
    }

    /// The repository, opened at the first need of it.
    pub async fn repository(&self) -> Result<&Repository> {
        let was_open = self.repository.initialized();
        let open = || async {
            let repository = Repository::open(&self.settings.repository).await?;
            repository.throttle().set_limit(transfers::limit(self));
            Ok::<_, Error>(repository)
        };
        let repository = self.repository.get_or_try_init(open).await?;
        if !was_open {
            // It may have been changed meanwhile.
            self.apply_limit();
        }
        Ok(repository)
    }

    /// The repository, if it has been opened.
    pub fn known_repository(&self) -> Option<&Repository> {
        self.repository.get()
    }

    /// What may be transferred from now on, by journal and settings.
    pub fn apply_limit(&self) {
        if let Some(repository) = self.repository.get() {
            self.throttling.apply(repository, || transfers::limit(self));
        }
    }

    pub async fn lock_database(&self) -> MutexGuard<'_, ()> {
        self.database.lock().await
    }

    pub async fn lock_partial_restore(&self) -> MutexGuard<'_, ()> {
        self.partial_restore.lock().await
    }

    /// Until what this answers is dropped, no restore test begins.
    pub async fn begin_clearing(&self) -> OwnedMutexGuard<()> {
        self.clearing.clone().lock_owned().await
    }

    /// Waits until nothing is being removed that an earlier process restored aside.
    pub async fn until_cleared(&self) {
        drop(self.clearing.lock().await);
    }

    pub fn try_lock_database(&self) -> Option<MutexGuard<'_, ()>> {
        self.database.try_lock().ok()
    }

    /// Whether this tablet is primary in the newest epoch that is known.
    pub fn is_primary(&self) -> bool {
        self.shard.now().is_led_by(&self.alias)
    }

    /// Starts the database, which comes up read-only and without replication. What it is to be in
    /// the shard is decided afterwards, also if this process ends in between.
    pub async fn start_database(&self) -> Result<()> {
        if self.engine.is_running().await? {
            match self.engine.start().await {
                Err(error) if !self.engine.is_running().await? => {
                    tracing::info!("starting the database anew: {error}");
                }
                other => return other,
            }
        }
        self.await_reinstatement().await?;
        self.engine.start().await
    }

    /// Whether the server that runs still has to be given its place: it was started by this agent, or
    /// by somebody else since it had one, and comes up without replication.
    pub fn awaits_reinstatement(&self, incarnation: Option<&String>) -> bool {
        let contents = self.journal.read();
        let known = &contents.incarnation;
        let is_another = incarnation.is_some_and(|now| !known.is_empty() && now != known);
        contents.awaits_reinstatement || is_another
    }

    /// Until [`Self::set_reinstated`], replication that does not run is nobody's wish, also if this
    /// process ends in between.
    pub async fn await_reinstatement(&self) -> Result<()> {
        self.live.lose_goal();
        self.journal
            .update(|contents| {
                contents.awaits_reinstatement = true;
                Ok(())
            })
            .await
    }

    /// The server, in the run `incarnation`, has its place in the shard.
    pub async fn set_reinstated(&self, incarnation: Option<String>) -> Result<()> {
        self.journal
            .update(|contents| {
                contents.awaits_reinstatement = false;
                contents.incarnation = incarnation.unwrap_or_default();
                Ok(())
            })
            .await
    }

    pub fn set_recovered(&self) {
        self.recovered.store(true, Ordering::Release);
    }

    /// An error until the leftovers of an earlier process have been looked at.
    pub fn check_recovered(&self) -> Result<()> {
        if self.recovered.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::unavailable(format!(
            "the agent of {} is still finding out what it was doing when it ended",
            self.alias
        )))
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        engine::Engine as _,
        testing::{PRIMARY_PORT, World},
    };

    /// Found by a database that was killed just before a step looked at it.
    #[tokio::test]
    async fn i3_a_database_that_is_just_going_down_is_started_anew() {
        let world = World::new().await;
        let agent = world.agent();
        world.engine.run_as_replica(PRIMARY_PORT);
        world.engine.server().dying = true;
        agent.tablet.start_database().await.unwrap();
        assert!(world.engine.is_running().await.unwrap());
        assert!(agent.tablet.journal.read().awaits_reinstatement);
    }
}

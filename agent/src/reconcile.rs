//! Makes the database match what the coordinators decided, while no operation has it.
//!
//! Primary in the newest epoch, and a heartbeat of this process's life has said so: open for writes.
//! Anything else: closed, and following the primary by global position. Replication that somebody
//! stopped by hand is left alone; it is pointed anew only when it follows somebody else, follows
//! nobody, or when this agent has started the server.

use std::time::{Duration, Instant};

use seawall_common::{Error, Result};

use crate::{
    engine::{DataState, Health, Source},
    job::lead,
    journal::{Goal, OperationState},
    shard::Shard,
    tablet::Tablet,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
const GOAL_LIMIT: Duration = Duration::from_secs(3);
/// Long enough to see that a goal is reached, short enough not to be in anybody's way.
const WAIT_LIMIT: Duration = Duration::from_millis(200);
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(15);

#[derive(Default)]
pub struct Reconciler {
    goal: Option<Goal>,
    /// The epoch that this process has opened the database in.
    led: u64,
    was_up: Option<bool>,
}

/// Runs for ever.
pub async fn run(tablet: &Tablet) {
    let mut reconciler = Reconciler::default();
    let mut backoff = BACKOFF_MIN;
    let mut next_try = Instant::now();
    let mut changes = tablet.shard.subscribe();
    loop {
        // News of the shard is acted on at once, a failure is not repeated too often.
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            changed = changes.changed() => match changed {
                Ok(()) => next_try = Instant::now(),
                Err(_) => return,
            },
        }
        if Instant::now() < next_try {
            continue;
        }
        match reconciler.look(tablet).await {
            Ok(()) => backoff = BACKOFF_MIN,
            Err(error) => {
                tablet.live.set_trouble(&error.to_string());
                next_try = Instant::now() + backoff;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

impl Reconciler {
    /// One look, and what follows from it.
    pub async fn look(&mut self, tablet: &Tablet) -> Result<()> {
        let Some(_database) = tablet.try_lock_database() else {
            return Ok(());
        };
        self.end_demotion(tablet).await?;
        let contents = tablet.journal.read();
        if let Some(demotion) = contents.open_demotion()
            && !tablet.engine.is_running().await?
        {
            // Nobody else starts it; closed, as it comes up, is as it should be.
            tracing::warn!(operation = %demotion.id, "starting the database, which has gone down");
            tablet.start_database().await?;
        }
        if contents.owner().is_some() {
            self.goal = None;
            self.led = 0;
            self.was_up = None;
            return Ok(());
        }
        if !tablet.engine.is_running().await? {
            self.was_up = Some(false);
            self.goal = None;
            self.led = 0;
            return bring_up(tablet).await;
        }
        let incarnation = tablet.engine.incarnation().await?;
        let was_down = self.was_up.replace(true) == Some(false);
        if was_down || tablet.awaits_reinstatement(incarnation.as_ref()) {
            tablet.await_reinstatement().await?;
        }
        if !tablet.engine.replicates() {
            tablet.live.set_trouble("");
            return tablet.set_reinstated(incarnation).await;
        }
        let health = tablet.engine.health().await?;
        let shard = tablet.shard.now();
        if shard.is_led_by(&tablet.alias) {
            self.be_primary(tablet, &shard, &health, incarnation).await
        } else {
            self.be_replica(tablet, &shard, &health, incarnation).await
        }
    }

    /// A tablet that was closed for a change of primary is no longer at it once another leads.
    async fn end_demotion(&self, tablet: &Tablet) -> Result<()> {
        let shard = tablet.shard.now();
        if !shard.confirmed || shard.is_led_by(&tablet.alias) {
            return Ok(());
        }
        let contents = tablet.journal.read();
        let Some(id) = contents.open_demotion().map(|operation| operation.id) else {
            return Ok(());
        };
        tablet
            .journal
            .update(move |contents| {
                contents.operation_mut(id)?.state = OperationState::Done;
                Ok(())
            })
            .await
    }

    async fn be_primary(
        &mut self,
        tablet: &Tablet,
        shard: &Shard,
        health: &Health,
        incarnation: Option<String>,
    ) -> Result<()> {
        if !shard.confirmed {
            return Ok(());
        }
        if health.read_only || health.replication.configured || self.led != shard.epoch {
            tracing::info!("primary of epoch {}: open for writes", shard.epoch);
            lead(tablet).await?;
            self.led = shard.epoch;
        }
        tablet.live.reach_goal();
        tablet.live.set_trouble("");
        tablet.set_reinstated(incarnation).await
    }

    async fn be_replica(
        &mut self,
        tablet: &Tablet,
        shard: &Shard,
        health: &Health,
        incarnation: Option<String>,
    ) -> Result<()> {
        self.led = 0;
        if shard.confirmed && !health.read_only {
            tracing::warn!("not the primary, and open for writes: closing");
            tablet.live.lose_goal();
            tablet.engine.close_for_writes().await?;
        }
        let Some(primary) = &shard.primary else {
            tablet.live.set_trouble("");
            return Ok(());
        };
        let replication = &health.replication;
        let awaits = tablet.journal.read().awaits_reinstatement;
        let is_elsewhere = replication.source.as_ref() != Some(primary);
        if awaits || !replication.configured || is_elsewhere {
            let run = awaits || !replication.configured || replication.wanted;
            // What it had reached was another's goal.
            tablet.live.lose_goal();
            if run {
                // Broken off in the middle it stands still, which nobody has wished.
                tablet.await_reinstatement().await?;
            }
            tablet.engine.replicate_from(primary, run).await?;
        }
        tablet.set_reinstated(incarnation).await?;
        tablet.live.set_trouble("");
        if tablet.live.has_caught_up() {
            self.goal = None;
            return Ok(());
        }
        self.catch_up(tablet, shard, primary).await
    }

    async fn catch_up(&mut self, tablet: &Tablet, shard: &Shard, primary: &Source) -> Result<()> {
        let goal = match self.goal.take().filter(|goal| goal.epoch == shard.epoch) {
            Some(goal) => goal,
            None => {
                let position = tokio::time::timeout(GOAL_LIMIT, tablet.engine.position_of(primary))
                    .await
                    .map_err(|_| {
                        Error::timeout(format!(
                            "the primary {} does not tell its position",
                            shard.alias
                        ))
                    })??;
                Goal {
                    epoch: shard.epoch,
                    position,
                }
            }
        };
        let reached = tablet.engine.wait_for(&goal.position, WAIT_LIMIT).await?;
        if reached {
            tracing::info!("caught up with {} to {}", shard.alias, goal.position);
            tablet.live.reach_goal();
        } else {
            self.goal = Some(goal);
        }
        Ok(())
    }
}

async fn bring_up(tablet: &Tablet) -> Result<()> {
    if tablet.engine.data_state().await? == DataState::Empty {
        tablet.live.lose_goal();
        return Err(Error::refused(format!(
            "there is no database yet: nothing to restore, and initialize is {}",
            tablet.settings.initialize
        ))
        .hint("Set restore_from_backup or initialize, or put a data directory there."));
    }
    tracing::info!("starting the database");
    tablet.start_database().await
}

#[cfg(test)]
mod tests;

//! Waits until the database has reached a goal that was read from the primary after it came back.
//!
//! A goal belongs to an epoch: when the epoch changes it is read again from the new primary. With
//! no primary to be reached the tablet waits, not serving, and can still be promoted; once it is,
//! there is nothing left to wait for.

use std::time::Duration;

use seawall_common::Result;

use super::{
    Job, LOOK_AGAIN,
    reinstate::{self, is_wanted},
};
use crate::{
    engine::Source,
    journal::{Goal, Outcome},
    shard::Shard,
};

/// How long the primary may take to tell its position.
const GOAL_LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn run(job: &Job, no_wait: bool) -> Result<Outcome> {
    let tablet = &job.tablet;
    if !tablet.engine.replicates() {
        return Ok(Outcome::default());
    }
    if no_wait {
        return Ok(Outcome::noted("not waited for, as was asked"));
    }
    let noted = job.record()?.facts.replication;
    if noted.as_ref().is_some_and(|noted| !is_wanted(noted)) {
        return Ok(Outcome::noted(
            "replication was stopped before and stays stopped: nothing is waited for",
        ));
    }
    job.reach("agent.catch_up.middle").await?;
    loop {
        job.check_cancelled()?;
        let shard = tablet.shard.now();
        if shard.is_led_by(&tablet.alias) {
            return Ok(Outcome::noted("it has become the primary meanwhile"));
        }
        let Some(primary) = shard.primary.clone() else {
            if shard.epoch == 0 && shard.confirmed {
                return Ok(Outcome::noted("the shard has no primary yet"));
            }
            job.progress.say("waiting for a primary");
            job.sleep(LOOK_AGAIN).await?;
            continue;
        };
        match look(job, &shard, &primary).await {
            Ok(Some(outcome)) => return Ok(outcome),
            Ok(None) => {}
            Err(error) => {
                job.progress.say(format!("cannot catch up yet: {error}"));
                tracing::warn!("cannot catch up with {} yet: {error}", shard.alias);
                job.sleep(LOOK_AGAIN).await?;
            }
        }
    }
}

/// One look: whether the goal of this epoch is reached.
async fn look(job: &Job, shard: &Shard, primary: &Source) -> Result<Option<Outcome>> {
    let tablet = &job.tablet;
    make_sure_it_follows(job).await?;
    let known = job.record()?.facts.goal;
    let goal = match known.filter(|goal| goal.epoch == shard.epoch) {
        Some(goal) => goal,
        None => {
            point_at(job, shard, primary).await?;
            let position = job
                .or_cancelled(tokio::time::timeout(
                    GOAL_LIMIT,
                    tablet.engine.position_of(primary),
                ))
                .await?
                .map_err(|_| {
                    seawall_common::Error::timeout(format!(
                        "the primary {} does not tell its position",
                        shard.alias
                    ))
                })??;
            let goal = Goal {
                epoch: shard.epoch,
                position,
            };
            let noted = goal.clone();
            job.note(move |facts| facts.goal = Some(noted)).await?;
            goal
        }
    };
    job.progress.say(format!(
        "catching up with {} to {}",
        shard.alias, goal.position
    ));
    let reached = job
        .or_cancelled(tablet.engine.wait_for(&goal.position, LOOK_AGAIN))
        .await??;
    if !reached || tablet.shard.now().epoch != shard.epoch {
        return Ok(None);
    }
    tablet.live.reach_goal();
    Ok(Some(Outcome::at(goal.position)))
}

/// A server that has gone down since it was started comes back, and with it what it followed.
async fn make_sure_it_follows(job: &Job) -> Result<()> {
    let engine = &job.tablet.engine;
    if engine.is_running().await? && engine.health().await?.replication.wanted {
        return Ok(());
    }
    job.note(|facts| facts.goal = None).await?;
    reinstate::make_sure(job).await
}

/// Follows the primary of a new epoch, unless this tablet has become primary in the meantime.
async fn point_at(job: &Job, shard: &Shard, primary: &Source) -> Result<()> {
    let tablet = &job.tablet;
    let _database = tablet.lock_database().await;
    match tablet.shard.now() == *shard {
        true => tablet.engine.replicate_from(primary, true).await,
        false => Ok(()),
    }
}

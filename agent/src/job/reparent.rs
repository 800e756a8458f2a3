//! The steps of a change of primary, as the tablets concerned take them.

use std::time::Duration;

use seawall_common::{Error, Result, position::Position};

use super::{Job, reinstate::lead};
use crate::journal::Outcome;

/// An epoch is recorded with the id of its server: so the coordinator must have been told it.
pub(super) async fn read_position(job: &Job) -> Result<Outcome> {
    check_runs(job).await?;
    if job.tablet.engine.replicates() && job.tablet.live.told_server_id() == 0 {
        return Err(Error::unavailable(format!(
            "the server id of {} has not been registered yet",
            job.tablet.alias
        )));
    }
    Ok(Outcome::at(job.tablet.engine.position().await?))
}

/// Closes the database for writes. It stays closed until the change of primary has ended: the open
/// operation in the journal keeps reconciling from opening it again.
pub(super) async fn demote(job: &Job) -> Result<Outcome> {
    check_runs(job).await?;
    let _database = job.tablet.lock_database().await;
    job.progress.say("closing for writes");
    Ok(Outcome::at(job.tablet.engine.close_for_writes().await?))
}

/// Undo of a demotion. A tablet whose epoch is over stays closed.
pub(super) async fn reopen(job: &Job) -> Result<Outcome> {
    let tablet = &job.tablet;
    let _database = tablet.lock_database().await;
    let shard = tablet.shard.now();
    if !shard.is_led_by(&tablet.alias) {
        return Ok(Outcome::noted(format!(
            "epoch {} is led by {:?}: stays closed",
            shard.epoch, shard.alias
        )));
    }
    // The database may be down, or the epoch not confirmed yet: reconciling opens it in its time.
    if shard.confirmed && tablet.engine.is_running().await? {
        lead(tablet).await?;
    }
    Ok(Outcome::default())
}

pub(super) async fn reach_position(
    job: &Job,
    position: &Position,
    limit: Duration,
) -> Result<Outcome> {
    check_runs(job).await?;
    let tablet = &job.tablet;
    job.progress.say(format!("applying up to {position}"));
    let reached = job
        .or_cancelled(tablet.engine.wait_for(position, limit))
        .await??;
    let now = tablet.engine.position().await?;
    if !reached {
        return Err(Error::timeout(format!(
            "{} has reached {now}, not {position}, within {} s",
            tablet.alias,
            limit.as_secs()
        )));
    }
    Ok(Outcome::at(now))
}

/// Opens the database for writes under the epoch that the command names.
pub(super) async fn promote(job: &Job) -> Result<Outcome> {
    check_runs(job).await?;
    let tablet = &job.tablet;
    let _database = tablet.lock_database().await;
    let shard = tablet.shard.now();
    if !shard.is_led_by(&tablet.alias) {
        return Err(Error::fenced(format!(
            "epoch {} is led by {:?}, not by {}",
            shard.epoch, shard.alias, tablet.alias
        )));
    }
    job.progress
        .say(format!("opening for writes in epoch {}", shard.epoch));
    lead(tablet).await?;
    Ok(Outcome::at(tablet.engine.position().await?))
}

async fn check_runs(job: &Job) -> Result<()> {
    if job.tablet.engine.is_running().await? {
        return Ok(());
    }
    Err(Error::unavailable(format!(
        "the database of {} does not run",
        job.tablet.alias
    )))
}

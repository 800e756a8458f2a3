//! Notes everything about the running database that has to be put back later.

use seawall_common::{Error, Result};

use super::Job;
use crate::journal::Outcome;

pub(super) async fn run(job: &Job) -> Result<Outcome> {
    let engine = &job.tablet.engine;
    if !engine.is_running().await? {
        return Err(Error::refused(format!(
            "the database of {} does not run, so its state cannot be noted",
            job.tablet.alias
        ))
        .hint("Look at the tablet's message in ListTablets."));
    }
    let mut health = engine.health().await?;
    let incarnation = engine.incarnation().await?;
    if job.tablet.awaits_reinstatement(incarnation.as_ref()) {
        // It has just come up and stands still because of that.
        health.replication.wanted = true;
    }
    let flags = engine.flags().await?;
    let copy_set = engine.copy_set().await?;
    job.reach("agent.note.middle").await?;

    let was_stopped =
        engine.replicates() && health.replication.configured && !health.replication.wanted;
    let outcome = Outcome {
        position: Some(health.position.clone()),
        replication_was_stopped: was_stopped,
        ..Outcome::default()
    };
    job.note(move |facts| {
        facts.engine_version = Some(health.version);
        facts.flags = Some(flags);
        facts.replication = Some(health.replication);
        facts.copy_set = Some(copy_set);
    })
    .await?;
    Ok(outcome)
}

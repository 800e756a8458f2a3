//! Stops replication, notes the position, shuts the database down cleanly.

use seawall_common::{Error, Result};

use super::Job;
use crate::{
    engine::Checksums,
    journal::{OperationKind, Outcome},
};

pub(super) async fn run(job: &Job) -> Result<Outcome> {
    let tablet = &job.tablet;
    let engine = &tablet.engine;
    let _database = tablet.lock_database().await;
    tablet.live.lose_goal();
    if engine.is_running().await? {
        if engine.replicates() && engine.health().await?.replication.configured {
            engine.stop_replication().await?;
        }
        // A primary may be backed up by consent: it takes no writes after its position is read.
        let position = match engine.replicates() && tablet.is_primary() {
            true => engine.close_for_writes().await?,
            false => engine.position().await?,
        };
        let checksums = make_checksums(job).await;
        let noted = checksums.noted;
        job.note(move |facts| {
            facts.position = Some(position);
            facts.checksums = noted;
        })
        .await?;
        job.reach("agent.stop.middle").await?;
        job.progress.say("shutting the database down");
        // What lies there after a crash is no cold copy: its own log would have to mend it first.
        if !engine.is_running().await? {
            return Err(Error::refused(format!(
                "the database of {} went down by itself before it was stopped",
                tablet.alias
            )));
        }
        engine.stop().await?;
        drop(checksums.guard);
        job.note(|facts| facts.is_stopped = true).await?;
    }
    let facts = job.record()?.facts;
    let position = facts.position.filter(|_| facts.is_stopped).ok_or_else(|| {
        Error::refused(format!(
            "the database of {} was down before it was stopped",
            tablet.alias
        ))
    })?;
    if engine.is_running().await? {
        return Err(Error::refused(format!(
            "the database of {} was started again by somebody while it was stopped",
            tablet.alias
        )));
    }
    Ok(Outcome::at(position))
}

/// A backup without checksums is a backup: its restore tests have less to compare.
async fn make_checksums(job: &Job) -> Checksums {
    let is_backup = job
        .record()
        .is_ok_and(|operation| operation.kind == OperationKind::Backup);
    if !is_backup {
        return Checksums::default();
    }
    job.progress.say("noting checksums");
    match job.tablet.engine.checksums().await {
        Ok(checksums) => checksums,
        Err(error) => {
            tracing::warn!("no checksums are noted: {error}");
            Checksums::default()
        }
    }
}

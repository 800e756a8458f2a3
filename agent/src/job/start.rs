//! Makes sure that the database runs; after a restore, that the history in it is its own.

use seawall_common::{Result, position::Position};

use super::{Job, install};
use crate::journal::Outcome;

pub(super) async fn run(job: &Job) -> Result<Outcome> {
    {
        let _database = job.tablet.lock_database().await;
        job.progress.say("starting the database");
        job.tablet.start_database().await?;
    }
    job.reach("agent.start.middle").await?;
    make_sure(job).await?;
    Ok(Outcome::default())
}

/// Starts the database if it is down. Read-only and without replication until it is reinstated.
pub(super) async fn make_sure(job: &Job) -> Result<()> {
    let tablet = &job.tablet;
    let _database = tablet.lock_database().await;
    job.progress.say("starting the database");
    tablet.start_database().await?;
    let restore = job.record()?.facts.restore;
    let Some(restore) = restore.filter(|restore| !restore.installing.is_empty()) else {
        return Ok(());
    };
    if !restore.adopted {
        adopt(job, restore.position).await?;
    }
    // The restored data has proved that it starts: what was there before can go.
    install::delete_old(job).await
}

async fn adopt(job: &Job, position: Position) -> Result<()> {
    job.tablet.engine.adopt(&position).await?;
    job.note(|facts| {
        if let Some(restore) = &mut facts.restore {
            restore.adopted = true;
        }
    })
    .await
}

//! Gives the database its place in the shard: flags as noted, replication towards whoever is primary
//! now; or, if this tablet is primary now, open for writes (I3). One that has gone down since it was
//! started is started again.

use seawall_common::Result;

use super::{Job, start};
use crate::{
    engine::Replication,
    journal::{Facts, Outcome},
    shard::Shard,
    tablet::Tablet,
};

pub(super) async fn run(job: &Job) -> Result<Outcome> {
    job.reach("agent.reinstate.middle").await?;
    make_sure(job).await?;
    Ok(Outcome::default())
}

pub(super) async fn make_sure(job: &Job) -> Result<()> {
    start::make_sure(job).await?;
    let tablet = &job.tablet;
    let facts = job.record()?.facts;
    let _database = tablet.lock_database().await;
    job.progress.say("putting flags and replication back");
    let incarnation = tablet.engine.incarnation().await?;
    // Read under the lock: a promotion that came before it has been heard of.
    let shard = tablet.shard.now();
    if shard.is_led_by(&tablet.alias) {
        // Unconfirmed, it stays closed: reconciling opens it at the first heartbeat that confirms.
        // Closed for a change of primary, it stays so until that has ended.
        let is_demoted = tablet.journal.read().open_demotion().is_some();
        if shard.confirmed && !is_demoted {
            if let Some(flags) = &facts.flags {
                tablet.engine.restore_flags(flags).await?;
            }
            lead(tablet).await?;
        }
        return tablet.set_reinstated(incarnation).await;
    }
    if let Some(flags) = &facts.flags {
        tablet.engine.restore_flags(flags).await?;
    }
    if tablet.engine.replicates() {
        follow(tablet, &facts, &shard).await?;
    }
    tablet.set_reinstated(incarnation).await
}

/// Opens the primary for writes, with the user that its replicas come as.
pub async fn lead(tablet: &Tablet) -> Result<()> {
    tablet.engine.open_for_writes().await?;
    tablet.engine.ensure_replication_user().await?;
    tablet.live.reach_goal();
    Ok(())
}

async fn follow(tablet: &Tablet, facts: &Facts, shard: &Shard) -> Result<()> {
    let noted = facts.replication.as_ref();
    match &shard.primary {
        Some(primary) => {
            tablet
                .engine
                .replicate_from(primary, is_wanted(noted))
                .await
        }
        // No primary that the coordinators know of: as it was, if it was anything.
        None => match noted.and_then(|noted| Some((noted.source.as_ref()?, noted.wanted))) {
            Some((source, wanted)) => tablet.engine.replicate_from(source, wanted).await,
            None => Ok(()),
        },
    }
}

/// Replication that somebody had stopped stays stopped; where there was none it begins.
pub(super) fn is_wanted(noted: Option<&Replication>) -> bool {
    noted.is_none_or(|noted| noted.wanted || !noted.configured)
}

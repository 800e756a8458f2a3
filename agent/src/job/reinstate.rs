//! Gives the database its place in the shard: flags as noted, replication towards whoever is primary
//! now; or, if this tablet is primary now, open for writes (I3). One that has gone down since it was
//! started is started again.

use seawall_common::{Error, Result};

use super::{Job, start};
use crate::{engine::Replication, journal::Outcome, shard::Shard, tablet::Tablet};

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
    if let Some(flags) = &facts.flags {
        tablet.engine.restore_flags(flags).await?;
    }
    // Read under the lock: a promotion that came before it has been heard of.
    let shard = tablet.shard.now();
    if shard.is_led_by(&tablet.alias) {
        // Unconfirmed, it stays closed: reconciling opens it at the first heartbeat that confirms.
        // Closed for a change of primary, it stays so until that has ended.
        let is_demoted = tablet.journal.read().open_demotion().is_some();
        if shard.confirmed && !is_demoted {
            lead(tablet).await?;
        }
        return tablet.set_reinstated(incarnation).await;
    }
    if tablet.engine.replicates() {
        let noted = match facts.replication {
            Some(noted) => noted,
            None => as_it_is(tablet, incarnation.as_ref()).await?,
        };
        follow(tablet, &noted, &shard).await?;
    }
    tablet.set_reinstated(incarnation).await
}

/// Opens the primary for writes, with the user that its replicas come as. Not one without the
/// history that its epoch began with: another server, or an older copy, in the primary's place.
pub async fn lead(tablet: &Tablet) -> Result<()> {
    let shard = tablet.shard.now();
    let position = tablet.engine.position().await?;
    if !position.covers(&shard.began_at) {
        return Err(Error::refused(format!(
            "{} is at {position}, and epoch {} began at {}: what lies between is missing here",
            tablet.alias, shard.epoch, shard.began_at
        ))
        .hint("It is not opened for writes. Make a tablet that has the data the primary."));
    }
    tablet.engine.open_for_writes().await?;
    tablet.engine.ensure_replication_user().await?;
    tablet.live.reach_goal();
    Ok(())
}

/// What would have been noted, where an operation ended before it noted anything.
async fn as_it_is(tablet: &Tablet, incarnation: Option<&String>) -> Result<Replication> {
    let mut replication = tablet.engine.health().await?.replication;
    replication.wanted |= tablet.awaits_reinstatement(incarnation);
    Ok(replication)
}

async fn follow(tablet: &Tablet, noted: &Replication, shard: &Shard) -> Result<()> {
    let (source, run) = match (&shard.primary, &noted.source) {
        (Some(primary), _) => (primary, is_wanted(noted)),
        // No primary that the coordinators know of: as it was, if it was anything.
        (None, Some(source)) => (source, noted.wanted),
        (None, None) => return Ok(()),
    };
    tablet.engine.replicate_from(source, run).await
}

/// Replication that somebody had stopped stays stopped; where there was none it begins.
pub(super) fn is_wanted(noted: &Replication) -> bool {
    noted.wanted || !noted.configured
}

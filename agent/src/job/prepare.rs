//! What of a backup can be done while the database still runs: so it is down for the copy only, and
//! a repository that cannot be written is found before anything is stopped.

use seawall_common::{
    Error, Result,
    ids::BackupName,
    repository::{Reference, Repository, Writer},
};

use super::Job;
use crate::journal::Outcome;

pub(super) async fn run(
    job: &Job,
    backup: &BackupName,
    may_refer_to: &[Reference],
) -> Result<Outcome> {
    let tablet = &job.tablet;
    let repository = job.or_cancelled(tablet.repository()).await??;
    check_owner(job, repository).await?;
    let name = backup.clone();
    job.note(move |facts| facts.backup = Some(name)).await?;

    job.progress
        .say(format!("looking at what {} holds", repository.url()));
    job.reach("agent.prepare.middle").await?;
    let writer = Writer::new(repository, &tablet.settings.state_dir);
    let prepared = writer.prepare(&tablet.shard_id, backup, may_refer_to);
    let session = job.or_cancelled(prepared).await??;
    job.note(move |facts| facts.session = Some(session)).await?;
    Ok(Outcome::default())
}

/// Only the group that owns the repository has its agents write there.
pub(super) async fn check_owner(job: &Job, repository: &Repository) -> Result<()> {
    let group_id = job.tablet.journal.read().shard.group_id.clone();
    match group_id.as_str() {
        "" => Err(Error::refused(format!(
            "{} has not registered with a coordinator group yet",
            job.tablet.alias
        ))),
        group_id => job.or_cancelled(repository.check_owner(group_id)).await?,
    }
}

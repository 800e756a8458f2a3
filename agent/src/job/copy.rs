//! Copies the stopped database into the repository.
//!
//! In this order (I2): the backup's name is journaled, packs and parts are put, no server has been
//! on the files meanwhile, the manifest's hash is journaled and announced to the coordinator, which
//! refuses when the hold is gone, and only then the manifest is put.

use seawall_common::{
    Error, Result,
    clock::now_unix_ms,
    fault,
    ids::BackupName,
    repository::{BackupSource, PreparedManifest, Repository, SourceRoot, upload},
};
use seawall_proto::v1;

use super::{Job, LOOK_AGAIN};
use crate::journal::{BackupRecord, Operation, Outcome};

pub(super) async fn run(
    job: &Job,
    backup: &BackupName,
    epoch: u64,
    concurrency: usize,
) -> Result<Outcome> {
    let tablet = &job.tablet;
    let operation = job.record()?;
    let mut source = source(job, &operation, backup, epoch)?;
    let repository = job.or_cancelled(tablet.repository()).await??;
    check_owner(job, repository).await?;
    let guard = tablet.engine.guard_stopped().await?;
    source.page_check = tablet.engine.page_check().await?;
    let name = backup.clone();
    job.note(move |facts| facts.backup = Some(name)).await?;

    job.progress.say(format!("copying to {}", repository.url()));
    let prepared = upload(
        repository,
        &source,
        concurrency,
        &job.progress.transfer,
        &job.cancel,
    )
    .await?;
    guard.check().await?;

    let record = describe(job, &operation, &prepared);
    let announced = record.clone();
    job.note(move |facts| facts.announced = Some(announced))
        .await?;
    announce(job, &operation, &record).await?;
    put(job, repository, &prepared).await?;
    Ok(Outcome {
        position: Some(record.position.clone()),
        backup: Some(Box::new(record)),
        ..Outcome::default()
    })
}

/// Only the group that owns the repository has its agents write there.
async fn check_owner(job: &Job, repository: &Repository) -> Result<()> {
    let group_id = job.tablet.journal.read().shard.group_id.clone();
    match group_id.as_str() {
        "" => Err(Error::refused(format!(
            "{} has not registered with a coordinator group yet",
            job.tablet.alias
        ))),
        group_id => job.or_cancelled(repository.check_owner(group_id)).await?,
    }
}

fn source(
    job: &Job,
    operation: &Operation,
    backup: &BackupName,
    epoch: u64,
) -> Result<BackupSource> {
    let missing = |what: &str| Error::internal(format!("{what} was not noted before the copy"));
    let copy_set = operation
        .facts
        .copy_set
        .clone()
        .ok_or_else(|| missing("the copy set"))?;
    Ok(BackupSource {
        shard: job.tablet.shard_id.clone(),
        name: backup.clone(),
        alias: job.tablet.alias.clone(),
        engine: job.tablet.engine.kind().to_owned(),
        details: [copy_set.details, operation.facts.checksums.clone()].concat(),
        epoch,
        position: operation
            .facts
            .position
            .clone()
            .ok_or_else(|| missing("the position"))?,
        started_unix_ms: now_unix_ms(),
        token: operation.token,
        operation: operation.id.to_string(),
        roots: copy_set
            .roots
            .into_iter()
            .map(|root| SourceRoot {
                name: root.name,
                path: root.path,
                exclude: root.exclude,
            })
            .collect(),
        page_check: None,
    })
}

fn describe(job: &Job, operation: &Operation, prepared: &PreparedManifest) -> BackupRecord {
    let header = prepared.header();
    BackupRecord {
        name: header.name.clone(),
        shard: header.shard.clone(),
        alias: job.tablet.alias.to_string(),
        engine: header.engine.clone(),
        engine_version: operation.facts.engine_version.clone().unwrap_or_default(),
        epoch: header.epoch,
        position: header.position.clone(),
        started_unix_ms: header.started_unix_ms,
        ended_unix_ms: header.ended_unix_ms,
        logical_bytes: header.logical_bytes,
        stored_bytes: header.stored_bytes,
        files: header.files,
        manifest_hash: prepared.hash().to_owned(),
        operation: operation.id,
        encrypted: header.encrypted,
    }
}

/// Tells the coordinator the manifest's hash; tries until one answers or the hold is given up.
async fn announce(job: &Job, operation: &Operation, record: &BackupRecord) -> Result<()> {
    job.reach("agent.announce.begin").await?;
    job.progress.say("announcing the manifest");
    loop {
        job.check_cancelled()?;
        let request = v1::AnnounceManifestRequest {
            operation_id: operation.id.to_string(),
            attempt: operation.attempt,
            token: operation.token,
            backup: Some(record.into()),
        };
        match job
            .or_cancelled(job.tablet.coordinator.announce(request))
            .await?
        {
            Ok(()) => break,
            Err(error) if error.is_retryable() => {
                tracing::warn!("cannot announce the manifest yet: {error}");
                job.sleep(LOOK_AGAIN).await?;
            }
            Err(error) => return Err(error.context("the manifest was not accepted")),
        }
    }
    job.reach("agent.announce.end").await
}

/// The moment in which the backup begins to exist.
async fn put(job: &Job, repository: &Repository, prepared: &PreparedManifest) -> Result<()> {
    check_owner(job, repository).await?;
    job.check_cancelled()?;
    job.progress.say("putting the manifest");
    // Called off, it may arrive all the same: the `removed` that follows beats it.
    job.or_cancelled(prepared.put(repository)).await??;
    fault::reach("agent.manifest.end").await
}

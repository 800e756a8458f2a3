//! Copies the stopped database into the repository.
//!
//! In this order (I2): packs and parts are put, no server has been
//! on the files meanwhile, the manifest's hash is journaled and announced to the coordinator, which
//! refuses when the hold is gone, and only then the manifest is put.

use seawall_common::{
    Error, Result,
    clock::now_unix_ms,
    fault,
    ids::BackupName,
    repository::{BackupSource, MayReferTo, PreparedManifest, Repository, SourceRoot, Writer},
};
use seawall_proto::v1;

use super::{Job, LOOK_AGAIN, prepare::check_owner};
use crate::journal::{BackupRecord, Operation, Outcome};

/// What the coordinator says of it.
pub(super) struct Plan<'a> {
    pub backup: &'a BackupName,
    pub epoch: u64,
    pub concurrency: usize,
    pub may_refer_to: &'a MayReferTo,
}

pub(super) async fn run(job: &Job, plan: &Plan<'_>) -> Result<Outcome> {
    let tablet = &job.tablet;
    let operation = job.record()?;
    let mut source = source(job, &operation, plan.backup, plan.epoch)?;
    let session = operation
        .facts
        .session
        .ok_or_else(|| Error::internal("no session was begun before the copy"))?;
    let repository = job.or_cancelled(tablet.repository()).await??;
    check_owner(job, repository).await?;
    let guard = tablet.engine.guard_stopped().await?;
    source.page_check = tablet.engine.page_check().await?;

    job.progress.say(format!("copying to {}", repository.url()));
    let writer = Writer::new(repository, &tablet.settings.state_dir);
    let uploaded = writer
        .upload(
            &source,
            session,
            plan.may_refer_to,
            plan.concurrency,
            &job.progress.transfer,
            &job.cancel,
        )
        .await;
    tablet
        .metrics
        .count_stages("backup", &job.progress.transfer);
    let uploaded = uploaded?;
    guard.check().await?;
    let prepared = uploaded.manifest.clone();
    let mut notes = page_notes(&prepared);
    // Before the manifest, so that an end in between forgets nothing.
    if let Err(error) = writer.remember(uploaded).await {
        tracing::error!("cannot remember what this backup holds: {error}");
        notes.push(format!(
            "the next backup cannot refer to this one, for its list of chunks was not written: {error}"
        ));
    }

    let record = describe(job, &operation, &prepared);
    let announced = record.clone();
    job.note(move |facts| facts.announced = Some(announced))
        .await?;
    announce(job, &operation, &record).await?;
    put(job, repository, &prepared).await?;
    if let Err(error) = writer.forget_sessions().await {
        tracing::warn!("the next backup tries again: {error}");
    }
    Ok(Outcome {
        position: Some(record.position.clone()),
        backup: Some(Box::new(record)),
        note: notes.join("; "),
        ..Outcome::default()
    })
}

/// What the operator has to know of pages that were damaged before they were copied, and of those
/// of which nobody can tell.
fn page_notes(prepared: &PreparedManifest) -> Vec<String> {
    let count = prepared.header().damaged_pages;
    let first = prepared.damaged_pages().first();
    let damaged = first.map(|page| {
        format!(
            "{count} damaged page{} in the database, the first of them page {} of {}/{}: {}",
            if count == 1 { "" } else { "s" },
            page.page,
            page.root,
            page.path,
            page.what
        )
    });
    let passed_over = prepared.pages_seen().not_checked;
    let not_checked = (passed_over > 0).then(|| {
        format!("{passed_over} pages were not checked: they carry nothing to check them by")
    });
    damaged.into_iter().chain(not_checked).collect()
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
        signer: Some(job.tablet.writer_key.clone()),
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
        damaged_pages: header.damaged_pages,
        writer_key: header.writer_key.clone(),
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

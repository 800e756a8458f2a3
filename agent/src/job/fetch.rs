//! Fetches a backup into directories beside those of the database (I6).
//!
//! Every byte is verified. What is here already, from a restore that was cut off or in the data that
//! is about to be replaced, is not fetched. Whatever fails, nothing starts on what is left.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use seawall_common::{
    Error, Result,
    ids::BackupName,
    repository::{Fetched, Manifest, partial::is_worth_keeping, read_manifest, restore},
    version,
};

use super::{Job, partial};
use crate::{
    journal::{Outcome, RestoreFacts},
    tablet::Tablet,
};

pub(super) async fn run(
    job: &Job,
    backup: &BackupName,
    manifest_hash: &str,
    concurrency: usize,
) -> Result<Outcome> {
    let tablet = &job.tablet;
    let repository = tablet.repository().await?;
    let expected = Some(manifest_hash).filter(|hash| !hash.is_empty());
    job.progress
        .say(format!("reading the manifest of {backup}"));
    let reading = read_manifest(repository, &tablet.shard_id, backup, expected);
    let manifest = job.or_cancelled(reading).await??;
    let roots = tablet.engine.roots().await?;
    check_fits(tablet, &manifest, &roots)?;
    check_version(&manifest, &tablet.engine.program_version().await?)?;
    for (_, path) in &roots {
        check_can_be_exchanged(path)?;
    }

    let facts = RestoreFacts {
        backup: backup.clone(),
        position: manifest.header.position.clone(),
        epoch: manifest.header.epoch,
        adopted: false,
        installing: Vec::new(),
    };
    job.note(move |all| all.restore = Some(facts)).await?;

    let (destinations, locked) = partial::prepare(tablet, &roots, &manifest).await?;
    job.progress.say(format!("fetching {backup}"));
    let fetched = restore(
        repository,
        &manifest,
        &destinations,
        concurrency,
        &job.progress.transfer,
        &job.cancel,
    )
    .await;
    drop(locked);
    tablet
        .metrics
        .count_stages("restore", &job.progress.transfer);
    match fetched {
        Ok(fetched) => {
            tablet.metrics.count_fetched(&fetched);
            Ok(Outcome {
                note: described(&fetched),
                ..Outcome::at(manifest.header.position)
            })
        }
        Err(error) if is_worth_keeping(&error) => Err(error),
        Err(error) => {
            if let Err(other) = partial::discard(tablet).await {
                tracing::error!("{other}");
            }
            Err(error)
        }
    }
}

fn described(fetched: &Fetched) -> String {
    format!(
        "fetched {} bytes in {} requests; {} bytes were here from a restore that was cut off, \
         {} were copied from the data that is replaced",
        fetched.requested_bytes, fetched.requests, fetched.resumed_bytes, fetched.copied_bytes
    )
}

pub(super) fn check_fits(
    tablet: &Tablet,
    manifest: &Manifest,
    roots: &[(String, PathBuf)],
) -> Result<()> {
    check_engine(tablet, manifest)?;
    let header = &manifest.header;
    let mut theirs: Vec<&str> = manifest.roots.iter().map(|r| r.name.as_str()).collect();
    let mut ours: Vec<&str> = roots.iter().map(|(name, _)| name.as_str()).collect();
    theirs.sort_unstable();
    ours.sort_unstable();
    if theirs == ours {
        return Ok(());
    }
    Err(Error::refused(format!(
        "backup {} has the roots {}, this server has {}",
        header.name,
        theirs.join(", "),
        ours.join(", ")
    ))
    .hint("Configure this server with its files in the same kinds of directories."))
}

pub(super) fn check_engine(tablet: &Tablet, manifest: &Manifest) -> Result<()> {
    let kind = tablet.engine.kind();
    let header = &manifest.header;
    if header.engine == kind {
        return Ok(());
    }
    Err(Error::refused(format!(
        "backup {} is of engine {}, this tablet's is {kind}",
        header.name, header.engine
    )))
}

/// What is restored is fetched beside the old and takes its place by renaming: that works within
/// one file system only. Said before anything is fetched.
fn check_can_be_exchanged(root: &Path) -> Result<()> {
    let device = |path: &Path| match std::fs::metadata(path) {
        Ok(data) => Ok(Some(data.dev())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, &e)),
    };
    let parent = root.parent().unwrap_or(root);
    match (device(root)?, device(parent)?) {
        (Some(own), Some(parents)) if own != parents => Err(Error::refused(format!(
            "{} is a file system of its own: it cannot be exchanged as a whole",
            root.display()
        ))
        .hint("Make the database's directory one below the mount point.")),
        _ => Ok(()),
    }
}

pub(super) fn check_version(manifest: &Manifest, ours: &str) -> Result<()> {
    let theirs = manifest.detail("version").unwrap_or_default();
    if version::opens_files_of(ours, theirs) {
        return Ok(());
    }
    Err(Error::refused(format!(
        "backup {} is of a server of version {theirs}, this one is {ours}",
        manifest.header.name
    ))
    .hint("Install a server of the backup's series here; upgrade it after the restore."))
}

//! From directories of files to packs, parts and a manifest.
//!
//! One thread walks the roots and cuts the work into units; `concurrency` threads take units, and
//! each reads, has the engine look at the pages, hashes, and for what storage does not hold yet
//! compresses, seals and packs in buffers of its own; packs are put while they go on; the scribe
//! brings what was written back into order and writes the lists. Memory is bounded by the pool of
//! pack buffers and the number of units in flight. Everything is in the repository before the
//! manifest is (I2).

mod feed;
mod kept;
mod pages;
mod prepared;
mod puts;
mod references;
mod scribe;
mod session;
mod transfer;
mod walk;
mod worker;
mod writer;

use std::{path::PathBuf, sync::Arc};

use tokio_util::sync::CancellationToken;

pub use prepared::PreparedManifest;
pub use writer::{MayReferTo, Uploaded, Writer};

use super::{
    header::Repository, keys::WriterKey, layout, page_check::PageCheck, progress::Progress,
};
use crate::{
    error::{Error, Result},
    ids::{Alias, BackupName, ShardId},
    position::Position,
};
use references::References;
use session::Session;
use transfer::{Transfer, run_cancellable};

pub(super) const CONCURRENCY_MAX: usize = 64;

/// A directory to be backed up under a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRoot {
    pub name: String,
    pub path: PathBuf,
    /// Paths relative to the root that are left out with all below them; a `*` at the end stands
    /// for any rest of the name.
    pub exclude: Vec<String>,
}

/// What is to be backed up, and what is known about it.
#[derive(Clone, Debug)]
pub struct BackupSource {
    pub shard: ShardId,
    pub name: BackupName,
    pub alias: Alias,
    pub engine: String,
    /// What the engine notes for its restore: server version, uuid, ... Sealed.
    pub details: Vec<(String, String)>,
    pub epoch: u64,
    pub position: Position,
    pub started_unix_ms: u64,
    /// The fencing token of the hold under which this backup is written.
    pub token: u64,
    pub operation: String,
    pub roots: Vec<SourceRoot>,
    /// Signs the manifest; `None`: it is not signed.
    pub signer: Option<WriterKey>,
    /// How the engine checks the pages of its files on the way.
    pub page_check: Option<Arc<dyn PageCheck>>,
}

pub(super) fn check_concurrency(concurrency: usize) -> Result<()> {
    if (1..=CONCURRENCY_MAX).contains(&concurrency) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "concurrency {concurrency} is not between 1 and {CONCURRENCY_MAX}"
    )))
}

/// Copies everything but the manifest itself into the repository, by a writer without a memory:
/// it refers to nothing, and nobody can go on from where it was cut off without an identity.
///
/// The name must never have been used: [`crate::ErrorKind::Conflict`]. A file that changes while
/// it is read, and a link that leaves every root, fail the backup. What was put before a failure
/// stays, for [`Repository::abandon`] and [`Repository::collect`].
pub async fn upload(
    repository: &Repository,
    source: &BackupSource,
    concurrency: usize,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<PreparedManifest> {
    check_concurrency(concurrency)?;
    check_name_is_free(repository, &source.shard, &source.name).await?;
    let session = Session::new(repository);
    session
        .begin(repository, &source.shard, &source.name)
        .await?;
    let transfer = Transfer {
        repository,
        source,
        session: Arc::new(session),
        references: Arc::new(References::default()),
        concurrency,
        progress,
    };
    let done = run_cancellable(transfer, None, cancel).await?;
    Ok(done.manifest)
}

/// Names are never used again (I2): not even one of which only a pack or a mark is left.
async fn check_name_is_free(
    repository: &Repository,
    shard: &ShardId,
    name: &BackupName,
) -> Result<()> {
    for prefix in [
        layout::backup(shard, name),
        layout::backup_packs(shard, name),
    ] {
        if repository.store().has_any(&prefix).await? {
            return Err(Error::conflict(format!(
                "the name {name} was used before in {shard}: there are objects under {prefix}"
            )));
        }
    }
    Ok(())
}

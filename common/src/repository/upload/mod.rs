//! From directories of files to packs, parts and a manifest.
//!
//! One thread walks the roots and cuts the work into units; `concurrency` threads take units, and
//! each reads, hashes, compresses, seals and packs in buffers of its own; packs are put while they
//! go on; the scribe brings what was written back into order and writes the lists. Memory is
//! bounded by the pool of pack buffers and the number of units in flight. Everything is in the
//! repository before the manifest is (I2).

mod feed;
mod prepared;
mod puts;
mod scribe;
mod session;
mod walk;
mod worker;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicU32},
};

use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use prepared::PreparedManifest;

use super::{
    header::Repository, layout, pack::PACK_BYTES_MAX, page_check::PageCheck, pool::Pool,
    progress::Progress,
};
use crate::{
    error::{Error, Result},
    ids::{Alias, BackupName, ShardId},
    position::Position,
};
use puts::put_packs;
use scribe::Scribe;
use session::Session;
use walk::Sources;
use worker::{Shared, Worker};

pub(super) const CONCURRENCY_MAX: usize = 64;
/// Units that are cut and not yet in a list. A unit's results are small; its bytes are only in
/// memory while a worker is at it.
const UNITS_IN_FLIGHT: usize = 64;
/// Pack buffers beyond one for each worker, so that a worker need not wait for its own put.
const SPARE_BUFFERS: usize = 1;

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

/// Copies everything but the manifest itself into the repository.
///
/// The name must never have been used: [`crate::ErrorKind::Conflict`]. A file that changes while
/// it is read, and a link that leaves every root, fail the backup. What was put before a failure
/// stays, for [`Repository::abandon`] and [`Repository::sweep`].
pub async fn upload(
    repository: &Repository,
    source: &BackupSource,
    concurrency: usize,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<PreparedManifest> {
    check_concurrency(concurrency)?;
    let stop = cancel.child_token();
    let _stop_on_drop = stop.clone().drop_guard();
    let transfer = transfer(repository, source, concurrency, progress, &stop);
    let cancelled = Error::cancelled(format!("backup {} was cancelled", source.name));
    tokio::select! {
        prepared = transfer => match prepared {
            Err(_) if cancel.is_cancelled() => Err(cancelled),
            other => other,
        },
        // The threads look at `stop`, which is cancelled as well.
        () = cancel.cancelled() => Err(cancelled),
    }
}

async fn transfer(
    repository: &Repository,
    source: &BackupSource,
    concurrency: usize,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<PreparedManifest> {
    check_name_is_free(repository, source).await?;
    let roots = source.roots.clone();
    let sources = tokio::task::spawn_blocking(move || Sources::survey(&roots))
        .await
        .map_err(|e| Error::internal(format!("the thread that surveys the roots died: {e}")))??;
    let sources = Arc::new(sources);
    progress.begin(sources.bytes, sources.files);
    let session = Arc::new(Session::begin(repository, source).await?);

    let places = Pool::new((0..UNITS_IN_FLIGHT).map(drop));
    let buffers = Pool::new((0..concurrency + SPARE_BUFFERS).map(|_| vec![0; PACK_BYTES_MAX]));
    // Threads that wait for a place or a buffer go when these are closed, whatever happens.
    let _places_guard = places.close_on_drop();
    let _buffers_guard = buffers.close_on_drop();
    let (packs_out, packs_in) = mpsc::channel(concurrency);
    let (written_out, written_in) = mpsc::channel(UNITS_IN_FLIGHT);
    let (units_out, units_in) = std::sync::mpsc::channel();
    let shared = Arc::new(Shared {
        stop: stop.clone(),
        session: Arc::clone(&session),
        buffers,
        next_pack: AtomicU32::new(0),
        progress: progress.clone(),
        throttle: repository.throttle().clone(),
        units: Mutex::new(units_in),
        packs: packs_out,
        written: written_out,
    });

    let mut threads = JoinSet::new();
    let feeder_sources = Arc::clone(&sources);
    threads.spawn_blocking(move || feed::feed(&feeder_sources, &places, &units_out));
    for _ in 0..concurrency {
        let worker = Worker::new(Arc::clone(&shared))?;
        threads.spawn_blocking(move || worker.run());
    }
    drop(shared);
    let mut scribe = Scribe::new(repository, source, &session, progress);
    let outcome = tokio::try_join!(
        join_all(&mut threads),
        put_packs(repository, source, &session, concurrency, packs_in),
        scribe.write(written_in),
    );
    let packs = match outcome {
        Ok(((), packs, ())) => puts::in_order(packs)?,
        Err(error) => {
            stop.cancel();
            return Err(error);
        }
    };
    let lists = scribe.finish(&packs).await?;
    if lists.files != sources.files || lists.logical_bytes != sources.bytes {
        return Err(Error::refused(format!(
            "the directories changed while they were read: {} files of {} bytes became {} files of {} bytes",
            sources.files, sources.bytes, lists.files, lists.logical_bytes
        ))
        .hint("Something writes to them although the database is stopped."));
    }
    prepared::prepare(source, &session, &sources, &packs, lists)
}

async fn join_all(threads: &mut JoinSet<Result<()>>) -> Result<()> {
    while let Some(ended) = threads.join_next().await {
        ended.map_err(|e| Error::internal(format!("a thread of the backup died: {e}")))??;
    }
    Ok(())
}

/// Names are never used again (I2): not even one of which only a pack or a mark is left.
async fn check_name_is_free(repository: &Repository, source: &BackupSource) -> Result<()> {
    let (shard, name) = (&source.shard, &source.name);
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

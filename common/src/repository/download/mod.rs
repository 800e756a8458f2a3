//! From a manifest back to directories of files.
//!
//! A planner reads the lists again, makes directories and links, and gathers chunks that lie side
//! by side in a pack into runs; `concurrency` fetchers get a run, open and check every chunk of it,
//! and write it to its place. Every byte is verified before it is written, and everything is
//! synced before this ends (I6). Only what the checks of [`super::check`] let through gets here.

mod fetch;
mod plan;
mod prepare;
mod target;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
};

use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    header::Repository, manifest::Manifest, progress::Progress, upload::check_concurrency,
};
use crate::error::{Error, ErrorKind, Result};
use fetch::Fetcher;
use plan::{Plan, Planner};
use target::Targets;

/// Runs that are planned and not yet fetched, for each fetcher.
const RUNS_WAITING: usize = 2;

/// What the tasks of one restore have in common.
struct Shared {
    repository: Repository,
    manifest: Manifest,
    targets: Targets,
    progress: Progress,
    files_done: AtomicU64,
    stop: CancellationToken,
}

impl Shared {
    fn file_is_done(&self) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
        self.progress.add_file();
    }
}

/// Writes the files of a backup into `targets`: for each of its roots a directory that is empty or
/// not there yet. When this fails or is cancelled, what was written so far is left, and nothing
/// writes to it any more.
pub async fn download(
    repository: &Repository,
    manifest: &Manifest,
    targets: &BTreeMap<String, PathBuf>,
    concurrency: usize,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<()> {
    check_concurrency(concurrency)?;
    let header = &manifest.header;
    progress.begin(header.logical_bytes, header.files);
    prepare::check_packs(repository, manifest).await?;
    let owned = (manifest.clone(), targets.clone());
    let targets = on_thread(move || {
        let (manifest, targets) = owned;
        prepare::check_space(&manifest, &targets)?;
        Targets::prepare(&manifest, &targets)
    })
    .await?;
    let stop = cancel.child_token();
    let _stop_on_drop = stop.clone().drop_guard();
    let shared = Arc::new(Shared {
        repository: repository.clone(),
        manifest: manifest.clone(),
        targets,
        progress: progress.clone(),
        files_done: AtomicU64::new(0),
        stop: stop.clone(),
    });
    let ended = transfer(&shared, concurrency).await;
    let cancelled = || Error::cancelled(format!("the restore of {} was cancelled", header.name));
    let plan = match ended {
        Err(_) if cancel.is_cancelled() => return Err(cancelled()),
        other => other?,
    };
    let files_done = shared.files_done.load(Ordering::Relaxed);
    if files_done != header.files {
        return Err(Error::internal(format!(
            "{files_done} of {} files were restored",
            header.files
        )));
    }
    on_thread(move || shared.targets.finish(&plan.directories)).await
}

/// Runs planner and fetchers; when one fails the others are stopped, and all of them have ended
/// when this returns.
async fn transfer(shared: &Arc<Shared>, concurrency: usize) -> Result<Plan> {
    let (runs_out, runs_in) = mpsc::channel(concurrency * RUNS_WAITING);
    let runs_in = Arc::new(Mutex::new(runs_in));
    let mut tasks: JoinSet<Result<Option<Plan>>> = JoinSet::new();
    tasks.spawn(Planner::run(Arc::clone(shared), runs_out));
    for _ in 0..concurrency {
        let fetcher = Fetcher::new(Arc::clone(shared), Arc::clone(&runs_in))?;
        tasks.spawn(fetcher.run());
    }
    drop(runs_in);
    let mut plan = None;
    let mut failure: Option<Error> = None;
    while let Some(ended) = tasks.join_next().await {
        let ended = ended
            .map_err(|e| Error::internal(format!("a task of the restore died: {e}")))
            .flatten();
        match ended {
            Ok(Some(made)) => plan = Some(made),
            Ok(None) => {}
            Err(error) => {
                shared.stop.cancel();
                // The first failure is the reason; those stopped by it only say so.
                let is_reason = failure
                    .as_ref()
                    .is_none_or(|first| first.kind() == ErrorKind::Cancelled);
                if is_reason {
                    failure = Some(error);
                }
            }
        }
    }
    match (failure, plan) {
        (Some(error), _) => Err(error),
        (None, Some(plan)) => Ok(plan),
        (None, None) => Err(Error::internal("the restore ended without a plan")),
    }
}

/// Runs what blocks on a thread that may.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(format!("a thread of the restore died: {e}")))?
}

fn stopped() -> Error {
    Error::cancelled("the restore was stopped")
}

//! From a manifest back to directories of files.
//!
//! A planner reads the lists again, makes directories and links, and hands on windows of chunks, in
//! the order of the lists. Seekers look for each chunk in what lies here already: in the file that a
//! restore of the same backup left behind, and in the file that is about to be replaced. What is
//! missing they gather into runs; fetchers get a run, open and check every chunk of it, and write
//! it to its place. Every byte is verified before it counts, and everything is synced before this
//! ends (I6). Only what the checks of [`super::check`] let through gets here.
//!
//! A plan is the same without its effects: what is here is read, nothing is written or fetched.

mod fetch;
mod plan;
mod prepare;
mod runs;
mod seek;
mod space;
mod tally;
mod target;
mod target_file;
mod tidy;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock, atomic::AtomicU64, atomic::Ordering},
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
use seek::Seeker;
use tally::Tally;
use target::Targets;

pub use space::{Space, check_room_aside};
pub use tally::Fetched;

/// Windows that no seeker has taken yet, and runs that no fetcher has, for each of them.
const WAITING: usize = 2;

/// Where a root of a backup goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub directory: PathBuf,
    /// What lies in `directory` was left by a restore of this very backup: what is right in it stays,
    /// the rest of it goes. Otherwise it must be empty, or not be there.
    pub resume: bool,
    /// What is about to be replaced. Read where it holds the same chunks, never written, and nothing
    /// is lost when it changes meanwhile.
    pub old: Option<PathBuf>,
}

impl Destination {
    /// A directory that is empty or not there, and nothing to take chunks from.
    pub fn fresh(directory: PathBuf) -> Self {
        Self {
            directory,
            resume: false,
            old: None,
        }
    }
}

/// For each root of a backup, by its name.
pub type Destinations = BTreeMap<String, Destination>;

/// What a restore would fetch and need, found out by looking at everything that is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchPlan {
    /// Of the files, without their holes.
    pub data_bytes: u64,
    pub fetched: Fetched,
    /// For each file system that is written to.
    pub space: Vec<Space>,
    /// The time was over before everything had been looked at: what was not counts as missing.
    pub is_upper_bound: bool,
}

/// What the tasks of one restore have in common.
struct Shared {
    repository: Repository,
    manifest: Manifest,
    targets: Targets,
    progress: Progress,
    tally: Tally,
    files_done: AtomicU64,
    /// Nothing is written or fetched, only counted.
    is_plan: bool,
    /// Nothing is looked for any more: what has not been found is fetched.
    enough: CancellationToken,
    stop: CancellationToken,
    /// The first thing that went wrong with a file or directory of the restore.
    disk: OnceLock<Error>,
}

impl Shared {
    fn file_is_done(&self) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
        self.progress.add_file();
    }

    /// Work on the files of the restore, on a thread that may block. The store is not asked there:
    /// whatever else goes wrong than a stop and damage, the disk does.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        on_thread(work).await.inspect_err(|error| {
            let is_other = matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Corrupt);
            if !is_other {
                // Only the first one counts.
                let _ = self.disk.set(error.clone());
            }
        })
    }

    /// An error of the disk goes before every other one: what was written before it may be in memory
    /// only, and look well.
    fn disk_first(&self, error: Error) -> Error {
        match self.disk.get() {
            None => error,
            Some(disk) if disk.kind() == ErrorKind::Exhausted => disk.clone(),
            Some(disk) => {
                let failed = Error::internal(disk.message());
                match disk.hint_text() {
                    Some(hint) => failed.hint(hint),
                    None => failed,
                }
            }
        }
    }
}

/// Writes the files of a backup into `targets`: for each of its roots a directory that is empty or
/// not there yet. See [`restore`].
pub async fn download(
    repository: &Repository,
    manifest: &Manifest,
    targets: &BTreeMap<String, PathBuf>,
    concurrency: usize,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<()> {
    let destinations = fresh(targets);
    let restored = restore(
        repository,
        manifest,
        &destinations,
        concurrency,
        progress,
        cancel,
    );
    restored.await.map(drop)
}

fn fresh(targets: &BTreeMap<String, PathBuf>) -> Destinations {
    let fresh =
        |(name, path): (&String, &PathBuf)| (name.clone(), Destination::fresh(path.clone()));
    targets.iter().map(fresh).collect()
}

/// Makes each root of a backup at its destination, from what lies here already and from the
/// repository. When this fails or is cancelled, what was written so far is left, and nothing writes
/// to it any more. With [`ErrorKind::Internal`] it must not be gone on with: the disk has failed, and
/// what is read from memory need not lie on it.
pub async fn restore(
    repository: &Repository,
    manifest: &Manifest,
    destinations: &Destinations,
    concurrency: usize,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Fetched> {
    check_concurrency(concurrency)?;
    let header = &manifest.header;
    progress.begin(header.logical_bytes, header.files);
    prepare::check_packs(repository, manifest).await?;
    let owned = (manifest.clone(), destinations.clone());
    let targets = on_thread(move || {
        let (manifest, destinations) = owned;
        space::check(&manifest, &destinations)?;
        Targets::prepare(&manifest, &destinations)
    });
    let targets = targets.await?;
    let ended = run(repository, manifest, targets, concurrency, progress, cancel).await;
    match ended {
        Err(error) if cancel.is_cancelled() && error.kind() != ErrorKind::Internal => Err(
            Error::cancelled(format!("the restore of {} was cancelled", header.name)),
        ),
        Err(error) if error.kind() == ErrorKind::Exhausted => {
            let owned = (manifest.clone(), destinations.clone());
            on_thread(move || Err(space::explain(error, &owned.0, &owned.1))).await
        }
        other => other,
    }
}

async fn run(
    repository: &Repository,
    manifest: &Manifest,
    targets: Targets,
    concurrency: usize,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Fetched> {
    let stop = cancel.child_token();
    let _stop_on_drop = stop.clone().drop_guard();
    let shared = Arc::new(Shared {
        repository: repository.clone(),
        manifest: manifest.clone(),
        targets,
        progress: progress.clone(),
        tally: Tally::default(),
        files_done: AtomicU64::new(0),
        is_plan: false,
        enough: CancellationToken::new(),
        stop,
        disk: OnceLock::new(),
    });
    let ended = write(&shared, concurrency).await;
    ended.map_err(|error| shared.disk_first(error))
}

async fn write(shared: &Arc<Shared>, concurrency: usize) -> Result<Fetched> {
    let plan = transfer(shared, concurrency).await?;
    let files_done = shared.files_done.load(Ordering::Relaxed);
    let files = shared.manifest.header.files;
    if files_done != files {
        return Err(Error::internal(format!(
            "{files_done} of {files} files were restored"
        )));
    }
    let work = Arc::clone(shared);
    shared
        .on_disk(move || {
            work.targets.finish(&plan.directories)?;
            Ok(work.tally.sums())
        })
        .await
}

/// What [`restore`] would do now. Everything that is here is read for at most `limit`.
pub async fn plan_restore(
    repository: &Repository,
    manifest: &Manifest,
    destinations: &Destinations,
    concurrency: usize,
    limit: std::time::Duration,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<FetchPlan> {
    check_concurrency(concurrency)?;
    progress.begin(manifest.header.logical_bytes, manifest.header.files);
    let owned = (manifest.clone(), destinations.clone());
    let (space, targets) = on_thread(move || {
        let (manifest, destinations) = owned;
        let space = space::look(&manifest, &destinations)?;
        Ok((space, Targets::of(&manifest, &destinations)?))
    })
    .await?;
    let stop = cancel.child_token();
    let _stop_on_drop = stop.clone().drop_guard();
    let shared = Arc::new(Shared {
        repository: repository.clone(),
        manifest: manifest.clone(),
        targets,
        progress: progress.clone(),
        tally: Tally::default(),
        files_done: AtomicU64::new(0),
        is_plan: true,
        enough: CancellationToken::new(),
        stop,
        disk: OnceLock::new(),
    });
    let transfer = transfer(&shared, concurrency);
    tokio::pin!(transfer);
    let ended = tokio::select! {
        ended = &mut transfer => ended,
        () = tokio::time::sleep(limit) => {
            shared.enough.cancel();
            transfer.await
        }
    };
    ended?;
    Ok(FetchPlan {
        data_bytes: manifest.seen.iter().map(|root| root.data_bytes).sum(),
        fetched: shared.tally.sums(),
        space,
        is_upper_bound: shared.enough.is_cancelled(),
    })
}

/// Runs planner, seekers and fetchers; when one fails the others are stopped, and all of them have
/// ended when this returns.
async fn transfer(shared: &Arc<Shared>, concurrency: usize) -> Result<Plan> {
    let (windows_out, windows_in) = mpsc::channel(concurrency * WAITING);
    let (runs_out, runs_in) = mpsc::channel(concurrency * WAITING);
    let windows_in = Arc::new(Mutex::new(windows_in));
    let runs_in = Arc::new(Mutex::new(runs_in));
    let mut tasks: JoinSet<Result<Option<Plan>>> = JoinSet::new();
    tasks.spawn(Planner::run(Arc::clone(shared), windows_out));
    for _ in 0..concurrency {
        let seeker = Seeker::new(
            Arc::clone(shared),
            Arc::clone(&windows_in),
            runs_out.clone(),
        );
        tasks.spawn(seeker.run());
        let fetcher = Fetcher::new(Arc::clone(shared), Arc::clone(&runs_in))?;
        tasks.spawn(fetcher.run());
    }
    drop((windows_in, runs_in, runs_out));
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

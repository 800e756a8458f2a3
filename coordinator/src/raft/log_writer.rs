//! Writes to the log in the order in which they are asked for; those that wait at the same moment
//! share one sync. Who must know when something is on disk asks here.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use seawall_common::{Error, Result};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::durable_log::{DurableLog, Write};
use crate::platform::{die, worker};

const WAITING_MAX: usize = 64;

#[derive(Clone)]
pub struct LogWriter {
    queue: mpsc::Sender<Job>,
    on_disk: OnDisk,
}

struct Job {
    writes: Vec<Write>,
    done: oneshot::Sender<()>,
}

/// What of the log is on disk.
#[derive(Clone)]
pub struct OnDisk {
    waiting: Arc<Mutex<Waiting>>,
    /// Changes when some of it is.
    synced: watch::Receiver<()>,
}

#[derive(Default)]
struct Waiting {
    /// The first index of each append that is not on disk, oldest first.
    appends: VecDeque<u64>,
    /// When the writes began that are under way.
    writing_since: Option<Instant>,
}

impl LogWriter {
    pub fn start(log: Arc<DurableLog>) -> Result<Self> {
        let (queue, jobs) = mpsc::channel(WAITING_MAX);
        let (tell, synced) = watch::channel(());
        let on_disk = OnDisk {
            waiting: Arc::default(),
            synced,
        };
        let (waiting, begun) = (on_disk.waiting.clone(), on_disk.waiting.clone());
        let begin = move || lock(&begun).writing_since = Some(Instant::now());
        worker("log", jobs, WAITING_MAX, begin, move |jobs| {
            write(&log, jobs, &waiting, &tell);
        })?;
        Ok(Self { queue, on_disk })
    }

    pub fn on_disk(&self) -> &OnDisk {
        &self.on_disk
    }

    /// Done, and on disk, when this returns.
    pub async fn write(&self, writes: Vec<Write>) -> Result<()> {
        self.enqueue(writes).await?.await.map_err(|_| ended())
    }

    /// Answers when it is known that `writes` come next, and then with what tells when they are on
    /// disk. One caller at a time.
    pub async fn enqueue(&self, writes: Vec<Write>) -> Result<oneshot::Receiver<()>> {
        let place = self.queue.reserve().await.map_err(|_| ended())?;
        for write in &writes {
            if let Write::Append(records) = write {
                let first = records.first().map_or(u64::MAX, |(index, _)| *index);
                self.on_disk.waiting().appends.push_back(first);
            }
        }
        let (done, is_done) = oneshot::channel();
        place.send(Job { writes, done });
        Ok(is_done)
    }
}

fn ended() -> Error {
    Error::internal("nothing is written to the log any more")
}

/// Does what was asked for, all of it with one sync at the end.
fn write(log: &DurableLog, jobs: Vec<Job>, waiting: &Mutex<Waiting>, tell: &watch::Sender<()>) {
    let (writes, dones): (Vec<_>, Vec<_>) =
        jobs.into_iter().map(|job| (job.writes, job.done)).unzip();
    let writes: Vec<Write> = writes.into_iter().flatten().collect();
    let is_append = |write: &&Write| matches!(write, Write::Append(_));
    let appends = writes.iter().filter(is_append).count();
    if let Err(e) = log.write(&writes) {
        die("cannot write the log", &e);
    }
    {
        let mut waiting = lock(waiting);
        waiting.appends.drain(..appends);
        waiting.writing_since = None;
    }
    tell.send_replace(());
    for done in dones {
        // Whoever does not wait for it does not care.
        let _ = done.send(());
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OnDisk {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }

    /// The first entry that may not be on disk.
    pub fn first_unsynced(&self) -> Option<u64> {
        self.waiting().appends.iter().min().copied()
    }

    /// Waits until the entry of this index is on disk, if it is in the log, and all before it.
    pub async fn reaches(&self, index: u64) -> Result<()> {
        self.wait_until(|| {
            let first_unsynced = self.first_unsynced();
            first_unsynced.is_none_or(|first| index < first)
        })
        .await
    }

    /// Waits while the disk takes longer than this for what is being written.
    pub async fn is_in_time(&self, limit: Duration) -> Result<()> {
        self.wait_until(|| {
            let since = self.waiting().writing_since;
            since.is_none_or(|since| since.elapsed() <= limit)
        })
        .await
    }

    async fn wait_until(&self, is_so: impl Fn() -> bool) -> Result<()> {
        let mut synced = self.synced.clone();
        loop {
            synced.mark_unchanged();
            if is_so() {
                return Ok(());
            }
            synced.changed().await.map_err(|_| ended())?;
        }
    }
}

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
use crate::platform::{blocking, die};

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
    /// The appends that are not, oldest first.
    unsynced: Arc<Mutex<VecDeque<Unsynced>>>,
    /// Changes when some of them are.
    synced: watch::Receiver<()>,
}

struct Unsynced {
    first_index: u64,
    since: Instant,
}

impl LogWriter {
    pub fn start(log: Arc<DurableLog>) -> Self {
        let (queue, jobs) = mpsc::channel(WAITING_MAX);
        let (tell, synced) = watch::channel(());
        let on_disk = OnDisk {
            unsynced: Arc::default(),
            synced,
        };
        tokio::spawn(run(log, jobs, on_disk.unsynced.clone(), tell));
        Self { queue, on_disk }
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
                self.on_disk.unsynced().push_back(Unsynced {
                    first_index: records.first().map_or(u64::MAX, |(index, _)| *index),
                    since: Instant::now(),
                });
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

async fn run(
    log: Arc<DurableLog>,
    mut queue: mpsc::Receiver<Job>,
    unsynced: Arc<Mutex<VecDeque<Unsynced>>>,
    tell: watch::Sender<()>,
) {
    let mut jobs = Vec::new();
    while queue.recv_many(&mut jobs, WAITING_MAX).await > 0 {
        let (writes, waiting): (Vec<_>, Vec<_>) =
            jobs.drain(..).map(|job| (job.writes, job.done)).unzip();
        let writes: Vec<Write> = writes.into_iter().flatten().collect();
        let is_append = |write: &&Write| matches!(write, Write::Append(_));
        let appends = writes.iter().filter(is_append).count();
        let log = log.clone();
        if let Err(e) = blocking(move || log.write(&writes)).await {
            die("cannot write the log", &e);
        }
        lock(&unsynced).drain(..appends);
        tell.send_replace(());
        for done in waiting {
            // Whoever does not wait for it does not care.
            let _ = done.send(());
        }
    }
}

fn lock(unsynced: &Mutex<VecDeque<Unsynced>>) -> MutexGuard<'_, VecDeque<Unsynced>> {
    unsynced.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OnDisk {
    fn unsynced(&self) -> MutexGuard<'_, VecDeque<Unsynced>> {
        lock(&self.unsynced)
    }

    /// The first entry that may not be on disk.
    pub fn first_unsynced(&self) -> Option<u64> {
        self.unsynced()
            .iter()
            .map(|append| append.first_index)
            .min()
    }

    /// Waits until the entry of this index is on disk, if it is in the log, and all before it.
    pub async fn reaches(&self, index: u64) -> Result<()> {
        self.wait_until(|first_unsynced| index < first_unsynced)
            .await
    }

    /// Waits until all that was appended is on disk.
    pub async fn reaches_end(&self) -> Result<()> {
        self.wait_until(|_| false).await
    }

    async fn wait_until(&self, will_do: impl Fn(u64) -> bool) -> Result<()> {
        let mut synced = self.synced.clone();
        loop {
            synced.mark_unchanged();
            if self.first_unsynced().is_none_or(&will_do) {
                return Ok(());
            }
            synced.changed().await.map_err(|_| ended())?;
        }
    }

    /// The disk has not answered for longer than this.
    pub fn is_overdue(&self, limit: Duration) -> bool {
        let unsynced = self.unsynced();
        let oldest = unsynced.front();
        oldest.is_some_and(|oldest| oldest.since.elapsed() > limit)
    }
}

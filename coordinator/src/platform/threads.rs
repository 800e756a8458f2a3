//! Threads for what must neither wait for the rest of the program nor hold it up. In a simulation,
//! which has one thread, tasks.

use std::{future::Future, time::Duration};

use seawall_common::{Error, Result};
use tokio::{
    runtime::{Builder, Handle},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

/// How long blocking work that is under way may take when the thread ends.
const END_GRACE: Duration = Duration::from_secs(3);

/// A thread that runs tasks; in a simulation, where tasks run anyway.
pub struct TaskThread {
    handle: Handle,
    stop: CancellationToken,
    /// What is waited for at its end; nothing in a simulation.
    ended: CancellationToken,
}

impl TaskThread {
    pub fn start(name: &str) -> Result<Self> {
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        #[cfg(feature = "sim")]
        if turmoil::in_simulation() {
            ended.cancel();
            let handle = Handle::current();
            return Ok(Self {
                handle,
                stop,
                ended,
            });
        }
        let failed = |e| Error::internal(format!("cannot start the thread {name:?}: {e}"));
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stopped, has_ended) = (stop.clone(), ended.clone().drop_guard());
        spawn(name, move || {
            runtime.block_on(stopped.cancelled());
            runtime.shutdown_timeout(END_GRACE);
            drop(has_ended);
        })?;
        Ok(Self {
            handle,
            stop,
            ended,
        })
    }

    /// Runs `work` there, and what it spawns.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let done = self.handle.spawn(work).await;
        done.map_err(|e| Error::internal(format!("a task ended early: {e}")))?
    }

    /// Runs `task` there until it, or the thread, ends.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.handle.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// All its tasks have ended when this returns.
    pub async fn end(&self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }
}

impl Drop for TaskThread {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A thread that works off what comes through `queue`, as many at a time as are waiting, `most` at
/// most. `begin` is called before what may take long.
pub fn worker<J: Send + 'static>(
    name: &str,
    mut queue: mpsc::Receiver<J>,
    most: usize,
    mut begin: impl FnMut() + Send + 'static,
    mut work: impl FnMut(Vec<J>) + Send + 'static,
) -> Result<()> {
    #[cfg(feature = "sim")]
    if turmoil::in_simulation() {
        tokio::spawn(async move {
            let mut jobs = Vec::new();
            while queue.recv_many(&mut jobs, most).await > 0 {
                begin();
                crate::sim::disk::passes().await;
                work(std::mem::take(&mut jobs));
            }
        });
        return Ok(());
    }
    spawn(name, move || {
        let mut jobs = Vec::new();
        while queue.blocking_recv_many(&mut jobs, most) > 0 {
            begin();
            work(std::mem::take(&mut jobs));
        }
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|e| Error::internal(format!("cannot start the thread {name:?}: {e}")))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as channel;

    use tokio::{sync::oneshot, time::timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn name() -> Option<String> {
        std::thread::current().name().map(str::to_owned)
    }

    #[tokio::test]
    async fn work_and_what_it_spawns_run_there_until_it_ends() {
        let thread = TaskThread::start("elsewhere").unwrap();
        let (held, released) = oneshot::channel::<()>();
        let spawned = thread.run(async {
            tokio::spawn(async {
                let _held = held;
                std::future::pending::<()>().await;
            });
            Ok(tokio::spawn(async { name() }).await.unwrap())
        });
        assert_eq!(spawned.await.unwrap().as_deref(), Some("elsewhere"));
        timeout(PATIENCE, thread.end()).await.unwrap();
        assert!(released.await.is_err(), "a task has outlived its thread");
    }

    #[tokio::test]
    async fn what_panics_there_is_an_error_here() {
        let thread = TaskThread::start("panics").unwrap();
        let panicked = thread.run::<()>(async { panic!("on purpose") }).await;
        assert!(panicked.unwrap_err().message().contains("ended early"));
        thread.run(async { Ok(()) }).await.unwrap();
    }

    #[tokio::test]
    async fn a_worker_takes_what_waits_and_ends_with_its_queue() {
        let (jobs, queue) = mpsc::channel(8);
        for job in 0..8 {
            jobs.send(job).await.unwrap();
        }
        let (done, taken) = channel::channel();
        let begun = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let begins = begun.clone();
        let begin = move || {
            begins.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        };
        worker("takes", queue, 5, begin, move |jobs| {
            done.send(jobs).unwrap()
        })
        .unwrap();
        assert_eq!(taken.recv_timeout(PATIENCE).unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(taken.recv_timeout(PATIENCE).unwrap(), [5, 6, 7]);
        drop(jobs);
        let ended = taken.recv_timeout(PATIENCE);
        assert_eq!(ended, Err(channel::RecvTimeoutError::Disconnected));
        assert_eq!(begun.load(std::sync::atomic::Ordering::SeqCst), 2);
    }
}

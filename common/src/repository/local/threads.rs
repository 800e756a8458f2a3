//! Threads of a local store's own: a file system that hangs in the kernel, such as a network mount
//! whose server is gone, takes these and no others. Their number is bounded; when every one of them
//! hangs, whoever comes next is told so at once.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{clock, repository::failure::NotAnswering};

/// A thread with nothing to do goes after this time.
const IDLE: Duration = Duration::from_secs(10);

struct Job {
    work: Box<dyn FnOnce() + Send>,
    /// Dead when nobody waits for it any more.
    wanted: Weak<()>,
}

struct Running {
    began: Instant,
    wanted: Weak<()>,
}

#[derive(Debug)]
pub(super) struct Threads(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    more: Condvar,
    threads_max: usize,
    /// A job that took longer, and was given up by its caller, hangs.
    patience: Duration,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// By number: the oldest first.
    running: BTreeMap<u64, Running>,
    next: u64,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Threads {
    pub fn new(threads_max: usize, patience: Duration) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State::default()),
            more: Condvar::new(),
            threads_max,
            patience,
        }))
    }

    /// Runs `work` on one of the threads. When the caller goes away, what has begun goes on, and
    /// what has not never begins.
    pub async fn run<T, F>(&self, work: F) -> Result<T, NotAnswering>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let wanted = Arc::new(());
        let (answer, answered) = oneshot::channel();
        self.submit(Job {
            // Nobody may be waiting any more by then.
            work: Box::new(move || drop(answer.send(work()))),
            wanted: Arc::downgrade(&wanted),
        })?;
        answered
            .await
            .map_err(|_| NotAnswering("the thread of a request to the store died".to_owned()))
    }

    fn submit(&self, job: Job) -> Result<(), NotAnswering> {
        let mut state = self.0.lock();
        if state.idle <= state.waiting.len() {
            if state.threads < self.0.threads_max {
                Shared::start_thread(&self.0, &mut state)?;
            } else if let Some(hangs) = state.all_hang(self.0.patience) {
                return Err(hangs);
            }
        }
        state.waiting.push_back(job);
        self.0.more.notify_one();
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.more.notify_all();
    }
}

impl State {
    fn all_hang(&self, patience: Duration) -> Option<NotAnswering> {
        let hangs =
            |job: &Running| job.wanted.strong_count() == 0 && job.began.elapsed() > patience;
        let oldest = self.running.values().next()?;
        if self.running.len() < self.threads || !self.running.values().all(hangs) {
            return None;
        }
        let for_ms = u64::try_from(oldest.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let since = clock::now_unix_ms().saturating_sub(for_ms);
        let since = jiff::Timestamp::from_millisecond(i64::try_from(since).ok()?).ok()?;
        Some(NotAnswering(format!(
            "the store does not answer: {} requests hang since {since:.0}",
            self.running.len()
        )))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_thread(this: &Arc<Self>, state: &mut State) -> Result<(), NotAnswering> {
        let mut thread = Thread {
            shared: Arc::clone(this),
            job: None,
        };
        std::thread::Builder::new()
            .name("seawall-store".to_owned())
            .spawn(move || thread.live())
            .map_err(|e| NotAnswering(format!("cannot start a thread for the store: {e}")))?;
        state.threads += 1;
        Ok(())
    }
}

/// One of the threads.
struct Thread {
    shared: Arc<Shared>,
    /// Number of the job that runs.
    job: Option<u64>,
}

impl Thread {
    fn live(&mut self) {
        while let Some(job) = self.next() {
            // Whoever waits for one that panicked is told so, since its answer is gone.
            let _ = catch_unwind(AssertUnwindSafe(job.work));
        }
    }

    /// `None`: the thread is not counted any more, and must end.
    fn next(&mut self) -> Option<Job> {
        let mut state = self.shared.lock();
        if let Some(ended) = self.job.take() {
            state.running.remove(&ended);
        }
        let began = Instant::now();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                if job.wanted.strong_count() == 0 {
                    continue;
                }
                let number = state.next;
                state.next += 1;
                let running = Running {
                    began: Instant::now(),
                    wanted: Weak::clone(&job.wanted),
                };
                state.running.insert(number, running);
                self.job = Some(number);
                return Some(job);
            }
            if state.closed || began.elapsed() >= IDLE {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            let (woken, _) = self
                .shared
                .more
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    /// A job that runs until the sender is dropped.
    fn hanging() -> (std::sync::mpsc::Sender<()>, impl FnOnce() + Send + 'static) {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        (hold, move || {
            let _ = held.recv();
        })
    }

    #[tokio::test]
    async fn when_every_thread_hangs_the_next_request_is_told_so_at_once() {
        let threads = Threads::new(2, PATIENCE);
        let (first, second) = (hanging(), hanging());
        for job in [first.1, second.1] {
            let gave_up = tokio::time::timeout(PATIENCE * 2, threads.run(job)).await;
            assert!(gave_up.is_err());
        }
        let error = threads.run(|| 7).await.unwrap_err();
        assert!(error.0.contains("2 requests hang since 2"), "{error}");
        // The store answers again.
        drop(first.0);
        let back = async {
            while threads.run(|| 7).await.ok() != Some(7) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), back)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn busy_threads_are_waited_for_and_what_nobody_waits_for_is_not_begun() {
        let threads = Arc::new(Threads::new(1, Duration::from_secs(60)));
        let (hold, job) = hanging();
        let busy = tokio::spawn({
            let threads = Arc::clone(&threads);
            async move { threads.run(job).await }
        });
        while threads.0.lock().running.is_empty() {
            tokio::task::yield_now().await;
        }
        let (begun, has_begun) = std::sync::mpsc::channel::<()>();
        let unwanted = threads.run(move || begun.send(()));
        assert!(tokio::time::timeout(PATIENCE, unwanted).await.is_err());
        let wanted = threads.run(|| 7);
        drop(hold);
        assert_eq!(wanted.await.unwrap(), 7);
        busy.await.unwrap().unwrap();
        assert!(has_begun.recv().is_err());
    }

    #[tokio::test]
    async fn a_request_that_panics_costs_no_thread() {
        let threads = Threads::new(1, Duration::from_secs(60));
        for _ in 0..3 {
            let error: Result<(), _> = threads.run(|| panic!("a test")).await;
            assert!(error.unwrap_err().0.contains("died"));
        }
        assert_eq!(threads.run(|| 7).await.unwrap(), 7);
    }
}

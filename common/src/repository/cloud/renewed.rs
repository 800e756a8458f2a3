//! Credentials that are got anew some time before they expire.
//!
//! One load at a time, as a task of its own: it neither ends with the request that wanted it nor
//! after some time. A load may have started a program, which would go on, and the next load would
//! start another one. What comes of it is for all who wait.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use object_store::{CredentialProvider, aws::AwsCredential};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use crate::error::{Error, ErrorKind, Result};

/// So long before they expire they are got anew.
const BEFORE_EXPIRY: Duration = Duration::from_secs(5 * 60);
/// So long before they expire they are not used any more: a request takes its time to the store.
const MARGIN: Duration = Duration::from_secs(10);
/// Those that never expire may have been replaced: a file is edited, a program gives other ones.
const NEVER_EXPIRING: Duration = Duration::from_secs(15 * 60);
/// Between two tries while those that are held are still good.
const BETWEEN_TRIES: Duration = Duration::from_secs(30);

/// Credentials, and when they expire.
pub(super) type Loaded = (AwsCredential, Option<SystemTime>);

type Outcome = Result<Arc<AwsCredential>>;

/// When they were asked for, and what comes of it.
type Coming = (Instant, watch::Receiver<Option<Outcome>>);

/// Where credentials come from.
#[async_trait]
pub(super) trait Source: Send + Sync + 'static {
    async fn load(&self) -> Result<Loaded>;
}

struct Held {
    credential: Arc<AwsCredential>,
    expires: Option<SystemTime>,
    renew_at: SystemTime,
}

impl Held {
    fn is_good(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|at| now < at - MARGIN)
    }

    /// Some programs give what they have until it expires, and others then.
    fn outlives(&self, expires: Option<SystemTime>) -> bool {
        matches!((self.expires, expires), (Some(held), Some(other)) if other < held)
    }
}

struct Load {
    began: Instant,
    task: JoinHandle<()>,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Load {
    fn is_under_way(&self) -> bool {
        self.outcome.borrow().is_none() && !self.task.is_finished()
    }
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    load: Option<Load>,
}

/// Requests wait for credentials only while there are none that are good.
pub(super) struct Renewed<S>(Arc<Shared<S>>);

struct Shared<S> {
    source: S,
    now: Box<dyn Fn() -> SystemTime + Send + Sync>,
    /// So long a request waits: less than it has, so that it is said what took so long.
    patience: Duration,
    state: Mutex<State>,
}

impl<S: Source> Renewed<S> {
    pub fn new(source: S, request_timeout: Duration) -> Self {
        Self::with_clock(source, request_timeout, SystemTime::now)
    }

    fn with_clock(
        source: S,
        request_timeout: Duration,
        now: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            source,
            now: Box::new(now),
            patience: request_timeout * 5 / 6,
            state: Mutex::default(),
        }))
    }

    async fn get(&self) -> Outcome {
        let (began, outcome) = match self.0.held_or_load() {
            Ok(good) => return Ok(good),
            Err(load) => load,
        };
        let waited = tokio::time::timeout(self.0.patience, end_of(outcome)).await;
        waited.unwrap_or_else(|_| {
            let asked = humantime::format_duration(whole_seconds(began.elapsed()));
            Err(Error::timeout(format!(
                "cannot get credentials: they were asked for {asked} ago, and have not come yet"
            ))
            .hint("Where a credential_process hangs, end it: it is not started again before."))
        })
    }
}

async fn end_of(mut outcome: watch::Receiver<Option<Outcome>>) -> Outcome {
    let ended = outcome.wait_for(Option::is_some).await;
    let ended = ended.ok().and_then(|ended| ended.clone());
    ended.unwrap_or_else(|| {
        Err(Error::internal(
            "cannot get credentials: the task broke off",
        ))
    })
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

impl<S: Source> Shared<S> {
    /// Those that are held, if they are good: when it is time, others are got in the background.
    /// Otherwise what gets some, and when it began.
    fn held_or_load(self: &Arc<Self>) -> Result<Arc<AwsCredential>, Coming> {
        let now = (self.now)();
        let mut state = self.lock();
        let State { held, load } = &mut *state;
        let Some(held) = held.as_mut().filter(|held| held.is_good(now)) else {
            let load = self.begin(load);
            return Err((load.began, load.outcome.clone()));
        };
        if held.renew_at <= now {
            held.renew_at = now + BETWEEN_TRIES;
            let asked = whole_seconds(self.begin(load).began.elapsed());
            if asked >= BETWEEN_TRIES {
                tracing::warn!(
                    ?asked,
                    "new credentials of the repository do not come: those that are held go on"
                );
            }
        }
        Ok(Arc::clone(&held.credential))
    }

    /// The load that is under way, or a new one.
    fn begin<'a>(self: &Arc<Self>, load: &'a mut Option<Load>) -> &'a Load {
        let under_way = load.take().filter(Load::is_under_way);
        load.insert(under_way.unwrap_or_else(|| {
            let (sender, outcome) = watch::channel(None);
            let shared = Arc::clone(self);
            let task = tokio::spawn(async move {
                let loaded = shared.source.load().await;
                sender.send_replace(Some(shared.end(loaded)));
            });
            Load {
                began: Instant::now(),
                task,
                outcome,
            }
        }))
    }

    fn end(&self, loaded: Result<Loaded>) -> Outcome {
        let now = (self.now)();
        let mut state = self.lock();
        let error = match loaded.and_then(|loaded| keep(&mut state.held, loaded, now)) {
            Ok(credential) => return Ok(credential),
            Err(error) => error,
        };
        match &state.held {
            None => Err(error),
            Some(held) => {
                if held.is_good(now) {
                    tracing::warn!(%error, "cannot renew the credentials of the repository: those that are held go on");
                }
                // There have been some, so it is not about what is configured.
                Err(error.with_kind(ErrorKind::Unavailable))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(held: &mut Option<Held>, (credential, expires): Loaded, now: SystemTime) -> Outcome {
    if expires.is_some_and(|at| at <= now) {
        return Err(
            Error::refused("cannot get credentials: those that are there have expired")
                .hint("Renew them, or set the clock of this machine."),
        );
    }
    if let Some(held) = held.as_ref().filter(|held| held.outlives(expires)) {
        return Ok(Arc::clone(&held.credential));
    }
    let renew_at = match expires {
        // What lives shorter than that is not got for every single request.
        Some(at) => (at - BEFORE_EXPIRY).max(now + BETWEEN_TRIES),
        None => now + NEVER_EXPIRING,
    };
    let credential = Arc::new(credential);
    *held = Some(Held {
        credential: Arc::clone(&credential),
        expires,
        renew_at,
    });
    Ok(credential)
}

impl<S> fmt::Debug for Renewed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewed")
    }
}

#[async_trait]
impl<S: Source> CredentialProvider for Renewed<S> {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.get().await.map_err(|e| object_store::Error::Generic {
            store: "S3",
            source: Box::new(e),
        })
    }
}

#[cfg(test)]
#[path = "renewed_tests.rs"]
mod tests;

//! Credentials that are got anew some time before they expire.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use object_store::{CredentialProvider, aws::AwsCredential};

use crate::error::{Error, Result};

/// So long before they expire they are got anew.
const BEFORE_EXPIRY: Duration = Duration::from_secs(5 * 60);
/// So long before they expire they are not used any more: a request takes its time to the store.
const MARGIN: Duration = Duration::from_secs(10);
/// Those that never expire may have been replaced: a file is edited, a program gives other ones.
const NEVER_EXPIRING: Duration = Duration::from_secs(15 * 60);
/// Between two tries while those that are held are still good.
const BETWEEN_TRIES: Duration = Duration::from_secs(30);
/// To get them. Less than a request has, so that it is said what took so long.
const LOAD_LIMIT: Duration = Duration::from_secs(25);

/// Credentials, and when they expire.
pub(super) type Loaded = (AwsCredential, Option<SystemTime>);

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

/// Requests wait for credentials only while there are none that are good.
pub(super) struct Renewed<S>(Arc<Shared<S>>);

struct Shared<S> {
    source: S,
    now: Box<dyn Fn() -> SystemTime + Send + Sync>,
    held: Mutex<Option<Held>>,
    /// One request at a time gets some, the others wait for what it gets.
    getting: tokio::sync::Mutex<()>,
}

impl<S: Source> Renewed<S> {
    pub fn new(source: S) -> Self {
        Self::with_clock(source, SystemTime::now)
    }

    fn with_clock(source: S, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            source,
            now: Box::new(now),
            held: Mutex::new(None),
            getting: tokio::sync::Mutex::new(()),
        }))
    }

    async fn get(&self) -> Result<Arc<AwsCredential>> {
        if let Some(good) = self.held() {
            return Ok(good);
        }
        let _turn = self.0.getting.lock().await;
        match self.held() {
            Some(good) => Ok(good),
            None => self.0.load().await,
        }
    }

    /// Those that are held, if they are good. When it is time, others are got in the background.
    fn held(&self) -> Option<Arc<AwsCredential>> {
        let now = (self.0.now)();
        let mut held = self.0.lock();
        let held = held.as_mut().filter(|held| {
            let good_until = held.expires.map(|at| at - MARGIN);
            good_until.is_none_or(|at| now < at)
        })?;
        if held.renew_at <= now {
            held.renew_at = now + BETWEEN_TRIES;
            let shared = Arc::clone(&self.0);
            tokio::spawn(async move {
                if let Err(error) = shared.load().await {
                    tracing::warn!(%error, "cannot renew the credentials of the repository: those that are held go on");
                }
            });
        }
        Some(Arc::clone(&held.credential))
    }
}

impl<S: Source> Shared<S> {
    async fn load(&self) -> Result<Arc<AwsCredential>> {
        let loaded = tokio::time::timeout(LOAD_LIMIT, self.source.load()).await;
        let loaded = loaded.unwrap_or_else(|_| {
            let limit = humantime::format_duration(LOAD_LIMIT);
            Err(Error::timeout(format!(
                "cannot get credentials: no answer within {limit}"
            )))
        });
        match loaded.and_then(|loaded| self.keep(loaded)) {
            // There have been some, so it is not about what is configured.
            Err(error) if self.lock().is_some() => Err(Error::unavailable(error.message())),
            other => other,
        }
    }

    fn keep(&self, (credential, expires): Loaded) -> Result<Arc<AwsCredential>> {
        let now = (self.now)();
        let renew_at = match expires {
            Some(at) if at <= now => {
                return Err(Error::refused(
                    "cannot get credentials: those that are there have expired",
                )
                .hint("Renew them, or set the clock of this machine."));
            }
            // What lives shorter than that is not got for every single request.
            Some(at) => (at - BEFORE_EXPIRY).max(now + BETWEEN_TRIES),
            None => now + NEVER_EXPIRING,
        };
        let credential = Arc::new(credential);
        *self.lock() = Some(Held {
            credential: Arc::clone(&credential),
            expires,
            renew_at,
        });
        Ok(credential)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::*;
    use crate::error::ErrorKind;

    const GIVES: u64 = 0;
    const FAILS: u64 = 1;
    const HANGS: u64 = 2;
    const TAKES_A_WHILE: u64 = 3;

    /// The clock and the source, which numbers what it gives.
    #[derive(Clone)]
    struct World {
        second: Arc<AtomicU64>,
        loads: Arc<AtomicU64>,
        mood: Arc<AtomicU64>,
        lives: Option<u64>,
    }

    impl World {
        fn new(lives: Option<u64>) -> (Self, Renewed<Self>) {
            let world = Self {
                second: Arc::default(),
                loads: Arc::default(),
                mood: Arc::default(),
                lives,
            };
            let (source, clock) = (world.clone(), world.clone());
            let renewed = Renewed::with_clock(source, move || clock.now());
            (world, renewed)
        }

        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_secs(self.second.load(SeqCst))
        }

        fn set(&self, second: u64, mood: u64) {
            self.second.store(second, SeqCst);
            self.mood.store(mood, SeqCst);
        }
    }

    #[async_trait]
    impl Source for World {
        async fn load(&self) -> Result<Loaded> {
            let number = self.loads.fetch_add(1, SeqCst) + 1;
            match self.mood.load(SeqCst) {
                FAILS => return Err(Error::refused("the door is shut")),
                HANGS => std::future::pending().await,
                TAKES_A_WHILE => tokio::task::yield_now().await,
                _ => {}
            }
            let credential = AwsCredential {
                key_id: number.to_string(),
                secret_key: "geheim".into(),
                token: None,
            };
            let expires = self
                .lives
                .map(|lives| self.now() + Duration::from_secs(lives));
            Ok((credential, expires))
        }
    }

    impl Renewed<World> {
        /// The number of those that a request is given, which has not waited for them.
        async fn given(&self) -> String {
            let given = tokio::time::timeout(Duration::ZERO, self.get()).await;
            given.expect("it waited").unwrap().key_id.clone()
        }
    }

    /// Lets what was begun in the background end, if it can.
    async fn in_the_background() {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn they_are_got_once_until_shortly_before_they_expire() {
        let (world, renewed) = World::new(Some(3600));
        for (second, given, next) in [
            (0, "1", "1"),
            (3299, "1", "1"),
            (3300, "1", "2"),
            (6000, "2", "2"),
            // Nobody asked in time.
            (6890, "3", "3"),
        ] {
            world.set(second, GIVES);
            assert_eq!(renewed.given().await, given, "at {second}");
            in_the_background().await;
            assert_eq!(renewed.given().await, next, "after {second}");
        }
    }

    #[tokio::test]
    async fn those_that_never_expire_are_looked_for_again_now_and_then() {
        let (world, renewed) = World::new(None);
        for (second, next) in [(0, "1"), (899, "1"), (900, "2")] {
            world.set(second, GIVES);
            renewed.given().await;
            in_the_background().await;
            assert_eq!(renewed.given().await, next, "after {second}");
        }
    }

    #[tokio::test]
    async fn many_requests_get_them_once() {
        let (world, renewed) = World::new(Some(3600));
        for second in [0, 3300, 10_000] {
            world.set(second, TAKES_A_WHILE);
            let all = futures::future::join_all((0..9).map(|_| renewed.get())).await;
            assert!(all.iter().all(Result::is_ok));
            in_the_background().await;
        }
        assert_eq!(world.loads.load(SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn while_no_new_ones_come_the_old_ones_serve_until_they_expire() {
        for mood in [FAILS, HANGS] {
            let (world, renewed) = World::new(Some(3600));
            assert_eq!(renewed.given().await, "1");
            for second in [3300, 3301, 3330, 3589] {
                world.set(second, mood);
                assert_eq!(renewed.given().await, "1", "at {second}");
                in_the_background().await;
            }
            assert_eq!(world.loads.load(SeqCst), 4, "not for every request");
            world.set(3590, mood);
            let error = renewed.get().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            world.set(3640, GIVES);
            renewed.given().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_never_were_any_it_is_said_at_once() {
        let (world, renewed) = World::new(Some(3600));
        world.set(0, FAILS);
        let error = renewed.get().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        world.set(0, HANGS);
        let error = renewed.get().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let (_, renewed) = World::new(Some(0));
        let error = renewed.get().await.unwrap_err();
        assert!(error.message().contains("have expired"), "{error}");
    }

    #[tokio::test]
    async fn no_secret_is_shown() {
        let (_, renewed) = World::new(None);
        renewed.given().await;
        let shown = format!("{renewed:?}");
        assert!(!shown.contains("geheim"), "{shown}");
    }
}

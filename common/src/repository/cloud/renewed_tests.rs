use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use futures::FutureExt as _;
use tokio::sync::Notify;

use super::*;
use crate::repository::retry::Retry;

const GIVES: u64 = 0;
const FAILS: u64 = 1;
/// Until it is woken; then it gives.
const HANGS: u64 = 2;
/// These take twelve seconds.
const SLOWLY_GIVES: u64 = 3;
const SLOWLY_FAILS: u64 = 4;
const BREAKS_OFF: u64 = 5;

const FOR_EVER: u64 = u64::MAX;
const SLOW: Duration = Duration::from_secs(12);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The clock and the source, which numbers what it gives.
#[derive(Clone)]
struct World {
    second: Arc<AtomicU64>,
    loads: Arc<AtomicU64>,
    mood: Arc<AtomicU64>,
    lives: Arc<AtomicU64>,
    wake: Arc<Notify>,
}

impl World {
    fn new(lives: u64) -> (Self, Renewed<Self>) {
        let world = Self {
            second: Arc::default(),
            loads: Arc::default(),
            mood: Arc::default(),
            lives: Arc::new(lives.into()),
            wake: Arc::default(),
        };
        let (source, clock) = (world.clone(), world.clone());
        let renewed = Renewed::with_clock(source, REQUEST_TIMEOUT, move || clock.now());
        (world, renewed)
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.second.load(SeqCst))
    }

    fn set(&self, second: u64, mood: u64) {
        self.second.store(second, SeqCst);
        self.mood.store(mood, SeqCst);
    }

    fn loads(&self) -> u64 {
        self.loads.load(SeqCst)
    }
}

#[async_trait]
impl Source for World {
    async fn load(&self) -> Result<Loaded> {
        let number = self.loads.fetch_add(1, SeqCst) + 1;
        let mood = self.mood.load(SeqCst);
        match mood {
            HANGS => self.wake.notified().await,
            SLOWLY_GIVES | SLOWLY_FAILS => tokio::time::sleep(SLOW).await,
            BREAKS_OFF => panic!("as it is meant to"),
            _ => {}
        }
        if matches!(mood, FAILS | SLOWLY_FAILS) {
            return Err(Error::refused("the door is shut").hint("Open it."));
        }
        let credential = AwsCredential {
            key_id: number.to_string(),
            secret_key: "geheim".into(),
            token: None,
        };
        let expires = match self.lives.load(SeqCst) {
            FOR_EVER => None,
            lives => Some(self.now() + Duration::from_secs(lives)),
        };
        Ok((credential, expires))
    }
}

impl Renewed<World> {
    /// The number of those that a request is given.
    async fn given(&self) -> String {
        self.get().await.unwrap().key_id.clone()
    }

    /// The same of a request that does not wait.
    fn given_at_once(&self) -> String {
        let given = self.get().now_or_never().expect("it waits");
        given.unwrap().key_id.clone()
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
    let (world, renewed) = World::new(3600);
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
        assert_eq!(renewed.given_at_once(), next, "after {second}");
    }
}

#[tokio::test]
async fn those_that_never_expire_are_looked_for_again_now_and_then() {
    let (world, renewed) = World::new(FOR_EVER);
    for (second, next) in [(0, "1"), (899, "1"), (900, "2")] {
        world.set(second, GIVES);
        renewed.given().await;
        in_the_background().await;
        assert_eq!(renewed.given_at_once(), next, "after {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_of_one_load_is_for_all_that_wait_be_it_a_failure() {
    let (world, renewed) = World::new(3600);
    for (second, mood) in [(0, SLOWLY_FAILS), (1, SLOWLY_GIVES), (10_000, SLOWLY_FAILS)] {
        world.set(second, mood);
        let (began, before) = (Instant::now(), world.loads());
        let all = futures::future::join_all((0..9).map(|_| renewed.get())).await;
        assert!(all.iter().all(|one| one.is_ok() == (mood == SLOWLY_GIVES)));
        assert_eq!(began.elapsed(), SLOW);
        assert_eq!(world.loads(), before + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn while_no_new_ones_come_the_old_ones_serve_until_they_expire() {
    for (mood, loads) in [(FAILS, 4), (HANGS, 2)] {
        let (world, renewed) = World::new(3600);
        assert_eq!(renewed.given().await, "1");
        for second in [3300, 3301, 3330, 3589] {
            world.set(second, mood);
            assert_eq!(renewed.given_at_once(), "1", "at {second}");
            in_the_background().await;
        }
        assert_eq!(world.loads(), loads, "not for every request");
        world.set(3590, mood);
        let error = renewed.get().await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        world.set(3640, GIVES);
        world.wake.notify_one();
        renewed.given().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_hangs_is_neither_begun_again_nor_abandoned() {
    let (world, renewed) = World::new(3600);
    world.set(0, HANGS);
    for waited in ["25s", "50s", "1m 15s"] {
        let error = renewed.get().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(
            error.message().contains(&format!("{waited} ago")),
            "{error}"
        );
        assert!(error.hint_text().unwrap().contains("credential_process"));
    }
    assert_eq!(world.loads(), 1);
    world.wake.notify_one();
    assert_eq!(renewed.given().await, "1");
}

#[tokio::test(start_paused = true)]
async fn a_load_may_take_longer_than_a_request_may() {
    let (world, renewed) = World::new(3600);
    world.set(0, SLOWLY_GIVES);
    let retry = Retry {
        request_timeout: Duration::from_secs(10),
        retry_limit: Duration::from_secs(120),
    };
    let given = retry.run("put a", || renewed.get()).await.unwrap();
    assert_eq!(given.key_id, "1");
    assert_eq!(world.loads(), 1);
}

#[tokio::test]
async fn a_load_that_breaks_off_is_not_waited_for() {
    let (world, renewed) = World::new(3600);
    world.set(0, BREAKS_OFF);
    let error = renewed.get().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    world.set(0, GIVES);
    assert_eq!(renewed.given().await, "2");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_comes_late_is_the_newest_there_is() {
    let (world, renewed) = World::new(3600);
    renewed.given().await;
    world.set(3300, HANGS);
    assert_eq!(renewed.given_at_once(), "1");
    in_the_background().await;
    world.set(3590, GIVES);
    assert!(renewed.get().now_or_never().is_none(), "it waits for it");
    world.wake.notify_one();
    assert_eq!(renewed.given().await, "2");
    in_the_background().await;
    assert_eq!(renewed.given_at_once(), "2");
}

#[tokio::test]
async fn those_that_expire_sooner_do_not_replace_those_that_are_held() {
    let (world, renewed) = World::new(3600);
    renewed.given().await;
    for (second, lives, next) in [(3300, 60, "1"), (3330, 270, "3")] {
        world.set(second, GIVES);
        world.lives.store(lives, SeqCst);
        assert_eq!(renewed.given_at_once(), "1");
        in_the_background().await;
        assert_eq!(renewed.given_at_once(), next, "after {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_there_never_were_any_it_is_said_at_once() {
    let (world, renewed) = World::new(3600);
    world.set(0, FAILS);
    let error = renewed.get().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let (_, renewed) = World::new(0);
    let error = renewed.get().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.message().contains("have expired"), "{error}");
}

#[tokio::test]
async fn where_there_were_some_the_way_out_is_still_told() {
    let (world, renewed) = World::new(3600);
    renewed.given().await;
    world.set(3600, FAILS);
    let error = renewed.get().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.to_string(), "the door is shut. Open it.");
}

#[tokio::test]
async fn no_secret_is_shown() {
    let (_, renewed) = World::new(FOR_EVER);
    renewed.given().await;
    let shown = format!("{renewed:?}");
    assert!(!shown.contains("geheim"), "{shown}");
}

//! Time is tokio's own here, and passes only when everybody waits for it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Takes `bytes` again and again, for ever, and counts what it was given.
fn taker(throttle: &Throttle, bytes: u64) -> Arc<AtomicU64> {
    let taken = Arc::new(AtomicU64::new(0));
    let (throttle, counter) = (throttle.clone(), Arc::clone(&taken));
    tokio::spawn(async move {
        loop {
            throttle.take(bytes).await.unwrap();
            counter.fetch_add(bytes, Ordering::Relaxed);
            // Without a limit it would never let go of the thread.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    taken
}

/// What was taken within `time` from now.
async fn taken_within(time: Duration, taken: &AtomicU64) -> u64 {
    let before = taken.load(Ordering::Relaxed);
    tokio::time::sleep(time).await;
    taken.load(Ordering::Relaxed) - before
}

fn assert_about(bytes: u64, expected: u64) {
    let few = expected * 3 / 100;
    assert!(
        (expected - few..=expected + few).contains(&bytes),
        "{bytes} is not about {expected}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_the_limit_for_small_and_for_large_requests() {
    for (rate, bytes) in [
        (1_000_000, 10_000),
        (1_000_000, 999_983),
        (7_777, 13),
        (3, 1),
        (100 << 20, 8 << 20),
        (10 << 30, 34 << 20),
    ] {
        let throttle = Throttle::new();
        throttle.set_limit(Some(rate));
        let taken = taker(&throttle, bytes);
        assert_about(taken_within(SECOND * 100, &taken).await, rate * 100);
    }
}

#[tokio::test(start_paused = true)]
async fn another_limit_is_in_force_within_a_second() {
    let throttle = Throttle::new();
    throttle.set_limit(Some(1_000));
    // One that waits for ten seconds' worth when the limit changes.
    let taken = taker(&throttle, 10_000);
    assert_eq!(taken_within(SECOND, &taken).await, 0);
    throttle.set_limit(Some(1_000_000));
    assert_about(taken_within(SECOND, &taken).await, 1_009_000);
    throttle.set_limit(Some(20_000));
    assert_about(taken_within(SECOND * 10, &taken).await, 200_000);
}

#[tokio::test(start_paused = true)]
async fn zero_pauses_at_once_and_nothing_is_saved_up_meanwhile() {
    let throttle = Throttle::new();
    throttle.set_limit(Some(1_000_000));
    let taken = taker(&throttle, 10_000);
    taken_within(SECOND, &taken).await;
    throttle.set_limit(Some(0));
    assert_eq!(taken_within(SECOND * 3600, &taken).await, 0);
    throttle.set_limit(Some(1_000_000));
    assert_about(taken_within(SECOND, &taken).await, 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn an_idle_time_saves_up_a_quarter_of_a_second_and_no_more() {
    let throttle = Throttle::new();
    throttle.set_limit(Some(1_000_000));
    tokio::time::sleep(SECOND * 3600).await;
    let taken = taker(&throttle, 10_000);
    assert_about(taken_within(SECOND, &taken).await, 1_250_000);
    assert_about(taken_within(SECOND, &taken).await, 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn unlimited_lets_everybody_go_at_once() {
    let throttle = Throttle::new();
    throttle.set_limit(Some(0));
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let throttle = throttle.clone();
            tokio::spawn(async move { throttle.take(1 << 40).await })
        })
        .collect();
    tokio::time::sleep(SECOND).await;
    assert!(waiting.iter().all(|w| !w.is_finished()));
    let lifted = Instant::now();
    throttle.set_limit(None);
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    assert_eq!(lifted.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_gets_its_turn_however_much_others_want() {
    let throttle = Throttle::new();
    throttle.set_limit(Some(1_000_000));
    let equal: Vec<_> = (0..5).map(|_| taker(&throttle, 10_000)).collect();
    let small = taker(&throttle, 100);
    tokio::time::sleep(SECOND * 20).await;
    let turns: Vec<u64> = equal
        .iter()
        .map(|taken| taken.load(Ordering::Relaxed) / 10_000)
        .chain([small.load(Ordering::Relaxed) / 100])
        .collect();
    let (least, most) = (turns.iter().min().unwrap(), turns.iter().max().unwrap());
    assert!(most - least <= 1 && *least >= 390, "{turns:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_gave_up_waiting_is_in_nobodys_way() {
    let throttle = Throttle::new();
    throttle.set_limit(Some(1_000));
    let first = tokio::time::timeout(SECOND, throttle.take(1 << 40)).await;
    assert!(first.is_err());
    let began = Instant::now();
    throttle.take(2_000).await.unwrap();
    assert!(began.elapsed() <= SECOND * 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_has_about_a_seconds_worth_and_at_least_a_chunk() {
    let throttle = Throttle::new();
    assert_eq!(throttle.burst_bytes(), u64::MAX);
    for (limit, burst) in [(0, 1 << 20), (5_000, 1 << 20), (20 << 20, 20 << 20)] {
        throttle.set_limit(Some(limit));
        assert_eq!(throttle.burst_bytes(), burst);
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_shown_is_what_was_counted() {
    let throttle = Throttle::new();
    throttle.set_limit(Some(1_000_000));
    for _ in 0..100 {
        throttle.take(100_000).await.unwrap();
        throttle.count(Direction::ToRepository, 100_000);
    }
    assert_about(throttle.rate(), 1_000_000);
    throttle.set_limit(Some(0));
    tokio::time::sleep(SECOND * 6).await;
    assert_eq!(throttle.rate(), 0);
}

/// A request that takes an hour: how many such are under way, and how often one was begun.
#[derive(Default)]
struct Hours {
    under_way: AtomicU64,
    begun: AtomicU64,
}

impl Hours {
    async fn run(&self) -> Result<()> {
        struct UnderWay<'a>(&'a AtomicU64);
        impl Drop for UnderWay<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let _under_way = UnderWay(&self.under_way);
        tokio::time::sleep(SECOND * 3600).await;
        Ok(())
    }

    fn seen(&self) -> (u64, u64) {
        let (under_way, begun) = (&self.under_way, &self.begun);
        (
            under_way.load(Ordering::Relaxed),
            begun.load(Ordering::Relaxed),
        )
    }
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_calls_off_what_is_under_way_and_a_higher_one_does_not() {
    let throttle = Throttle::new();
    let hours = Arc::new(Hours::default());
    let (of_task, seen_by_task) = (throttle.clone(), Arc::clone(&hours));
    let task = tokio::spawn(async move {
        let request = || seen_by_task.run();
        of_task.run(Direction::ToRepository, 1_000, request).await
    });
    let second = || tokio::time::sleep(SECOND);
    second().await;
    assert_eq!(hours.seen(), (1, 1));
    throttle.set_limit(Some(0));
    second().await;
    assert_eq!(hours.seen(), (0, 1), "it goes on in the pause");
    throttle.set_limit(Some(1_000));
    tokio::time::sleep(SECOND / 2).await;
    assert_eq!(hours.seen(), (0, 1), "it was begun without tokens");
    second().await;
    assert_eq!(hours.seen(), (1, 2));
    throttle.set_limit(Some(2_000));
    throttle.set_limit(None);
    second().await;
    assert_eq!(hours.seen(), (1, 2), "it was called off without need");
    assert_eq!(throttle.transferred().to_repository, 0);
    task.await.unwrap().unwrap();
    assert_eq!(throttle.transferred().to_repository, 1_000);
}

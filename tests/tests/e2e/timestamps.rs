//! Timestamps from several clients, whose callers share requests, while leaders die: whoever asks
//! after somebody was answered gets a greater one (I1).

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use seawall_common::{
    timestamps::Timestamps,
    tls::{Dialer, Tls},
};
use seawall_tests::harness::{ClusterPlan, wait::PATIENCE};
use tokio::task::JoinSet;

const CLIENTS: usize = 3;
const CALLERS: u32 = 8;
/// Between two kills.
const CALM: Duration = Duration::from_secs(2);
const KILLS: usize = 2;

/// One call that was answered.
struct Given {
    began: Instant,
    ended: Instant,
    range: RangeInclusive<u64>,
}

/// Asks again and again. A call that fails has been given nothing.
async fn call(timestamps: Timestamps, count: u32, stop: Arc<AtomicBool>) -> Vec<Given> {
    let mut all = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        if let Ok(range) = timestamps.fetch_range(count).await {
            let ended = Instant::now();
            all.push(Given {
                began,
                ended,
                range,
            });
        }
    }
    all
}

/// Whether each range lies above all those that were given before it was asked for, and no number
/// was given twice.
fn check(mut all: Vec<Given>) -> Result<()> {
    let mut ended: Vec<(Instant, u64)> = all.iter().map(|g| (g.ended, *g.range.end())).collect();
    ended.sort_unstable();
    all.sort_unstable_by_key(|given| given.began);
    let mut ended = ended.into_iter().peekable();
    let mut greatest = 0;
    for given in &all {
        while let Some((_, value)) = ended.next_if(|(at, _)| *at < given.began) {
            greatest = greatest.max(value);
        }
        let range = &given.range;
        ensure!(*range.start() > greatest, "{range:?} after {greatest}");
    }
    all.sort_unstable_by_key(|given| *given.range.start());
    for two in all.windows(2) {
        let (one, next) = (&two[0].range, &two[1].range);
        ensure!(one.end() < next.start(), "{one:?} and {next:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_whoever_asks_later_gets_a_greater_timestamp_though_leaders_die() -> Result<()> {
    let mut cluster = ClusterPlan::new("timestamps")
        .coordinators(3)
        .start()
        .await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    let mut urls = cluster.coordinator_urls();
    let dialer = Dialer::new(Tls::off()?);
    for _ in 0..CLIENTS {
        // Each asks another member first.
        urls.rotate_left(1);
        let client = Timestamps::of_coordinators(&urls, &dialer, PATIENCE)?;
        for count in 1..=CALLERS {
            callers.spawn(call(client.clone(), count, stop.clone()));
        }
    }
    let fresh = Timestamps::of_coordinators(&urls, &dialer, PATIENCE)?;
    for _ in 0..KILLS {
        tokio::time::sleep(CALM).await;
        let leader = cluster.leader().await?;
        cluster.coordinators[leader].kill()?;
        fresh.fetch().await?;
        cluster.coordinators[leader].start()?;
        cluster.coordinators[leader].wait_ready().await?;
        // What a fast-forward has passed over is given to nobody.
        let bound = fresh.fetch().await? + 1_000_000;
        let forward = [
            "timestamp",
            "fast-forward",
            "--timestamp",
            &bound.to_string(),
        ];
        cluster.ctl(&forward).await?.done()?;
        let given = fresh.fetch().await?;
        ensure!(given > bound, "{given} after a fast-forward to {bound}");
    }
    tokio::time::sleep(CALM).await;
    stop.store(true, Ordering::Relaxed);
    let all: Vec<Given> = callers.join_all().await.into_iter().flatten().collect();
    ensure!(all.len() > 1000, "only {} calls were answered", all.len());
    check(all)?;
    let at = ["timestamp", "fetch", "--at", "1795230900"];
    let unknown = cluster.ctl(&at).await?;
    unknown.refused(1, &["by 2026-11-21T03:15:00.000Z is not known"])?;
    cluster.finish().await
}

#[test]
fn the_check_notices_what_goes_back_and_what_is_given_twice() {
    let start = Instant::now();
    let given = |began, ended, range| Given {
        began: start + Duration::from_millis(began),
        ended: start + Duration::from_millis(ended),
        range,
    };
    check(vec![
        given(0, 9, 4..=6),
        given(1, 3, 1..=3),
        given(4, 5, 7..=7),
    ])
    .unwrap();
    // Asked for after 4 was given.
    assert!(check(vec![given(0, 1, 4..=4), given(2, 3, 3..=3)]).is_err());
    assert!(check(vec![given(0, 5, 1..=3), given(1, 3, 3..=4)]).is_err());
}

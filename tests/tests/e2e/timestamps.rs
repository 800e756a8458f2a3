//! I1: timestamps grow strictly, over many clients at once and over the deaths of leaders.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use seawall_proto::v1::{FetchTimestampRequest, timestamps_client::TimestampsClient};
use seawall_tests::harness::{ClusterPlan, coordinator::connect};

const CLIENTS: usize = 64;
const FETCHES: usize = 100_000;
const KILLS: usize = 3;

/// Fetches one at a time from whichever member answers, until all clients together have enough.
async fn fetch_many(urls: Vec<String>, first: usize, done: Arc<AtomicUsize>) -> Result<Vec<u64>> {
    let mut given = Vec::new();
    let mut member = first;
    while done.load(Ordering::Relaxed) < FETCHES {
        let Ok(channel) = connect(&urls[member % urls.len()]).await else {
            member += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut client = TimestampsClient::new(channel);
        while done.load(Ordering::Relaxed) < FETCHES {
            let Ok(answer) = client.fetch(FetchTimestampRequest { count: 1 }).await else {
                member += 1;
                break;
            };
            let value = answer.into_inner().first;
            // Within one client each request begins after the answer to the one before.
            if let Some(last) = given.last() {
                ensure!(value > *last, "{value} was given after {last}");
            }
            given.push(value);
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(given)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_hundred_thousand_timestamps_grow_strictly_over_the_deaths_of_leaders() -> Result<()> {
    let mut cluster = ClusterPlan::new("timestamps")
        .coordinators(3)
        .start()
        .await?;
    let done = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (urls, done) = (cluster.coordinator_urls(), done.clone());
            tokio::spawn(fetch_many(urls, client, done))
        })
        .collect();
    for kill in 1..=KILLS {
        while done.load(Ordering::Relaxed) < kill * FETCHES / (KILLS + 1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            ensure!(
                !clients.iter().any(|client| client.is_finished()),
                "a client gave up"
            );
        }
        let leader = cluster.leader().await?;
        cluster.coordinators[leader].kill()?;
        cluster.leader().await?;
        cluster.coordinators[leader].start()?;
        cluster.coordinators[leader].wait_ready().await?;
    }
    let mut all = BTreeSet::new();
    let mut count = 0;
    for client in clients {
        for value in client.await?? {
            ensure!(all.insert(value), "{value} was given twice");
            count += 1;
        }
    }
    ensure!(count >= FETCHES);
    let printed = cluster.ctl(&["timestamp", "fetch"]).await?.done()?;
    let next: u64 = printed.trim().parse()?;
    ensure!(all.last().is_some_and(|last| next > *last));
    cluster.finish().await
}

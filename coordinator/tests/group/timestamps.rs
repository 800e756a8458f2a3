//! I1 over processes: several clients, leaders that are killed, fast-forwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use seawall_proto::v1::{
    FastForwardRequest, FetchTimestampRequest, timestamps_client::TimestampsClient,
};
use tonic::{Code, transport::Channel};

use super::harness::{Group, eventually};

const FETCHES: u64 = 100_000;
const CLIENTS: usize = 64;
const KILLS: usize = 3;

/// What the clients have seen together. `greatest` is the greatest timestamp that any has been
/// answered: whoever begins after reading it must be given more.
#[derive(Default)]
pub struct Seen {
    pub greatest: AtomicU64,
    pub given: AtomicU64,
    pub failed: AtomicU64,
    pub stop: AtomicBool,
}

/// Fetches one timestamp after another, from any member, and keeps all that it was given.
pub async fn fetch_all(channels: Vec<Channel>, seen: Arc<Seen>) -> Vec<u64> {
    let mut mine = Vec::new();
    let mut turn = mine.len();
    while !seen.stop.load(Ordering::Relaxed) {
        let floor = seen.greatest.load(Ordering::SeqCst);
        let channel = channels[turn % channels.len()].clone();
        let request = FetchTimestampRequest { count: 1 };
        match TimestampsClient::new(channel).fetch(request).await {
            Ok(answer) => {
                let timestamp = answer.into_inner().first;
                assert!(timestamp > floor, "{timestamp} after {floor} was answered");
                seen.greatest.fetch_max(timestamp, Ordering::SeqCst);
                seen.given.fetch_add(1, Ordering::Relaxed);
                mine.push(timestamp);
            }
            Err(_) => {
                seen.failed.fetch_add(1, Ordering::Relaxed);
                turn += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    mine
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_timestamps_strictly_increase_for_many_clients_while_leaders_are_killed() {
    let mut group = Group::start(3).await;
    let seen = Arc::<Seen>::default();
    let channels: Vec<Channel> = group.members.iter().map(|m| m.channel()).collect();
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let mut channels = channels.clone();
            channels.rotate_left(client % 3);
            tokio::spawn(fetch_all(channels, seen.clone()))
        })
        .collect();
    for kill in 1..=KILLS + 1 {
        let goal = FETCHES * kill as u64 / (KILLS as u64 + 1);
        while seen.given.load(Ordering::Relaxed) < goal {
            assert!(began.elapsed() < Duration::from_secs(300), "too slow");
            assert!(clients.iter().all(|client| !client.is_finished()));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if kill <= KILLS {
            let leader = group.leader().await;
            group.members[leader].kill();
            group.leader().await;
            group.members[leader].start(&[]);
        }
    }
    seen.stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for client in clients {
        let mine = client.await.unwrap();
        assert!(mine.windows(2).all(|two| two[0] < two[1]));
        all.extend(mine);
    }
    let elapsed = began.elapsed();
    let given = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), given, "a value was given twice");
    println!(
        "{given} timestamps to {CLIENTS} clients in {elapsed:.1?} over {KILLS} kills of the leader: {:.0}/s, {} calls failed meanwhile",
        given as f64 / elapsed.as_secs_f64(),
        seen.failed.load(Ordering::Relaxed),
    );
}

async fn fast_forward(channel: Channel, timestamp: u64) -> Result<u64, tonic::Status> {
    let mut client = TimestampsClient::new(channel);
    let answer = client
        .fast_forward(FastForwardRequest { timestamp })
        .await?;
    Ok(answer.into_inner().bound)
}

#[tokio::test]
async fn i1_a_fast_forward_takes_the_maximum_also_over_a_change_of_leader() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let other = group.other_than(leader);
    let first = group.members[other].fetch(1).await.unwrap();
    assert!(first < 1_000_000);
    let bound = fast_forward(group.members[other].channel(), 5_000_000)
        .await
        .unwrap();
    assert!(bound >= 5_000_000);
    let next = group.members[leader].fetch(7).await.unwrap();
    assert!(next > bound);
    // Backwards, but above what has been given: the numbers in between are passed over too.
    let bound = fast_forward(group.members[other].channel(), next + 10)
        .await
        .unwrap();
    assert!(group.members[leader].fetch(1).await.unwrap() > bound.max(next + 10));
    let lower = fast_forward(group.members[other].channel(), 1)
        .await
        .unwrap();
    assert!(lower >= bound);
    let refused = fast_forward(group.members[other].channel(), u64::MAX)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let last = group.members[leader].fetch(1).await.unwrap();
    group.members[leader].kill();
    group.leader().await;
    let after = eventually("the new leader answers", || async {
        group.members[other].fetch(1).await.ok()
    });
    assert!(after.await > last);
}

#[tokio::test]
async fn i1_a_range_is_contiguous_and_a_too_long_one_is_refused() {
    let group = Group::start(1).await;
    let member = &group.members[0];
    let mut floor = 0;
    for count in [1, 49_999, 1_000_000, 3, 50_001, 0] {
        let first = member.fetch(count).await.unwrap();
        assert!(first > floor);
        floor = first + u64::from(count.max(1)) - 1;
    }
    assert_eq!(
        member.fetch(1_000_001).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

/// Bounds that the repository holds.
fn bounds(repository: &std::path::Path) -> Vec<u64> {
    let names = std::fs::read_dir(repository.join("coordinator/bounds")).unwrap();
    let mut bounds: Vec<u64> = names
        .filter_map(|name| name.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    bounds.sort_unstable();
    bounds
}

#[tokio::test]
async fn i1_the_repository_has_a_bound_of_whatever_is_given_and_without_it_nothing_above_is() {
    let mut group = Group::start(3).await;
    let repository = group.repository_directory();
    let leader = group.leader().await;
    let member = &group.members[leader];
    let first = member.fetch(1).await.unwrap();
    let known = bounds(&repository);
    assert!(known.last().unwrap() >= &first, "{known:?}");
    let target = known.last().unwrap() + 5_000_000_000;
    let forwarded = fast_forward(member.channel(), target).await.unwrap();
    let known = bounds(&repository);
    let bound = *known.last().unwrap();
    assert!(bound >= forwarded && known.len() <= 3, "{known:?}");

    // Away, also from the next leader, which finds the bound in the state.
    let hidden = repository.with_extension("away");
    std::fs::rename(&repository, &hidden).unwrap();
    let last = member.fetch(1).await.unwrap();
    group.members[leader].kill();
    let leader = group.leader().await;
    let member = &group.members[leader];
    let next = eventually("the next leader answers", || async {
        member.fetch(1).await.ok()
    });
    assert!(next.await > last);
    let refused = fast_forward(member.channel(), bound + 1).await.unwrap_err();
    let expected = format!("no timestamp above {bound} is given out");
    assert!(refused.message().contains(&expected), "{refused}");
    assert!(!repository.exists(), "made anew");
    std::fs::rename(&hidden, &repository).unwrap();
    eventually("it is written again", || async {
        fast_forward(member.channel(), bound + 1).await.ok()
    })
    .await;
    assert!(*bounds(&repository).last().unwrap() > bound);
}

//! Three nodes in one process, over real connections.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::{
    Node,
    places::{group, group_of, leader, reserve, until, until_equal},
};
use crate::state::{Command, Response, timestamps::Granted};

/// Proposes, and leaves the answer to come.
fn proposed(node: &Node, count: u64) -> JoinHandle<seawall_common::Result<Response>> {
    let node = node.clone();
    tokio::spawn(async move { node.propose(reserve(count)).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_wait_together_share_entries_and_each_gets_its_own_answer() {
    let places = group().await;
    let leader = places[leader(&places).await].node().clone();
    let before = leader.last_applied();
    let waiting = (1..=200).map(|count| {
        let leader = leader.clone();
        async move { (count, leader.propose(reserve(count)).await.unwrap()) }
    });
    let mut granted = Vec::new();
    for (count, response) in futures::future::join_all(waiting).await {
        let Response::TimestampsGranted(Granted { first, last }) = response else {
            panic!("{response:?}");
        };
        assert_eq!(last - first + 1, count, "somebody else's answer");
        granted.push((first, last));
    }
    granted.sort_unstable();
    assert!(granted.windows(2).all(|two| two[0].1 < two[1].0));
    let entries = leader.last_applied() - before;
    assert!(entries <= 20, "200 commands took {entries} entries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_too_far_behind_is_brought_up_by_a_snapshot() {
    let mut places = group().await;
    let at = leader(&places).await;
    let behind = (at + 1) % 3;
    places[behind].stop().await;
    let node = places[at].node().clone();
    for _ in 0..50 {
        node.propose(reserve(7)).await.unwrap();
    }
    let upto = node.last_applied();
    node.compact(upto).await;
    node.propose(reserve(7)).await.unwrap();
    let expected = node.look(Clone::clone);

    places[behind].start(None).await;
    until_equal(places[behind].node(), &expected).await;

    // What it was sent is durable: it comes back with it, and goes on from there.
    places[behind].stop().await;
    places[behind].start(None).await;
    until_equal(places[behind].node(), &expected).await;
    node.propose(reserve(7)).await.unwrap();
    until_equal(places[behind].node(), &node.look(Clone::clone)).await;
    assert_eq!(places[behind].id, behind as u64 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_no_entry_can_hold_is_refused() {
    let places = group().await;
    let leader = places[leader(&places).await].node().clone();
    let group_id = "x".repeat(super::durable_log::VALUE_BYTES_MAX);
    let refused = leader
        .propose(Command::NameGroup {
            group_id,
            repository_id: String::new(),
        })
        .await;
    assert!(refused.unwrap_err().message().contains("larger than"));
    leader.propose(reserve(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_others_have_counts_when_it_is_on_the_leaders_disk() {
    // Nobody stands for election while the leader's disk is waited for.
    let places = group_of(3, Duration::from_secs(10)).await;
    let at = leader(&places).await;
    let leader = places[at].node();
    let others = || {
        (0..3)
            .filter(|other| *other != at)
            .map(|other| places[other].node())
    };
    let before = leader.look(Clone::clone);
    for node in others() {
        until_equal(node, &before).await;
    }
    let held = places[at].hold_disk();
    let last = leader.last_log_index();
    let answer = proposed(leader, 7);
    until("the others have the entry", || {
        others().all(|node| node.last_log_index() > last)
    })
    .await;
    // Long enough for their answers to arrive.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!answer.is_finished(), "answered from memory");
    let counted =
        |member: super::Member| member.id == leader.id() || member.matched_index == Some(last);
    assert!(leader.members().into_iter().all(counted), "counted");
    for place in &places {
        assert!(place.node().look(|state| *state == before), "applied");
    }
    drop(held);
    answer.await.unwrap().unwrap();
    let after = leader.look(Clone::clone);
    assert_ne!(after, before);
    leader.propose(reserve(1)).await.unwrap();
    for node in others() {
        until_equal(node, &leader.look(Clone::clone)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_stands_still_is_replaced_and_follows_when_it_goes_on() {
    let places = group().await;
    let at = leader(&places).await;
    let old = places[at].node();
    let held = places[at].hold_disk();
    let answer = proposed(old, 7);
    let others = || {
        (0..3)
            .filter(|other| *other != at)
            .map(|other| places[other].node())
    };
    until("another leads", || {
        others().any(|node| node.leadership().borrow().is_ours)
    })
    .await;
    let new = others().find(|node| node.leadership().borrow().is_ours);
    let new = new.unwrap();
    new.propose(reserve(1)).await.unwrap();
    drop(held);
    // It was sent before: whoever leads now has it, and the old leader hears of that or gives up.
    let _ = answer.await.unwrap();
    until_equal(old, &new.look(Clone::clone)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_alone_answers_when_it_is_on_its_disk() {
    let places = group_of(1, Duration::from_millis(500)).await;
    leader(&places).await;
    let node = places[0].node();
    let before = node.look(Clone::clone);
    let held = places[0].hold_disk();
    let answer = proposed(node, 7);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!answer.is_finished(), "answered from memory");
    assert!(node.look(|state| *state == before), "applied");
    drop(held);
    answer.await.unwrap().unwrap();
}

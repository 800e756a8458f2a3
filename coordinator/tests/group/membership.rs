//! Three members: they elect, survive the loss of one, and do not take a wiped one back.

use std::time::Duration;

use seawall_proto::v1::{FetchTimestampRequest, timestamps_client::TimestampsClient};
use tonic::{Code, Request};

use super::harness::{Group, eventually};

#[tokio::test]
async fn three_members_elect_a_leader_and_another_when_it_is_killed() {
    let mut group = Group::start(3).await;
    let first = group.leader().await;
    let before = group.members[group.other_than(first)]
        .fetch(1)
        .await
        .unwrap();
    let group_id = group.members[first].status().await.unwrap().group_id;
    group.members[first].kill();
    let second = group.leader().await;
    assert_ne!(first, second);
    let after = eventually("the new leader answers", || async {
        group.members[second].fetch(1).await.ok()
    });
    assert!(after.await > before);

    group.members[first].start(&[]);
    let leader = group.leader().await;
    let status = &group.members[first].status().await.unwrap();
    assert_eq!(status.leader, group.members[leader].id);
    assert_eq!(status.group_id, group_id);
}

#[tokio::test]
async fn a_follower_passes_calls_on_unless_a_stale_answer_will_do() {
    let group = Group::start(3).await;
    let leader = group.leader().await;
    let follower = &group.members[group.other_than(leader)];
    follower.fetch(1).await.unwrap();

    let stale = |key: &'static str| {
        let mut request = Request::new(FetchTimestampRequest { count: 1 });
        request.metadata_mut().insert(key, "true".parse().unwrap());
        let mut client = TimestampsClient::new(follower.channel());
        async move { client.fetch(request).await }
    };
    let refused = stale("seawall-stale").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("does not lead"), "{refused}");
    let refused = stale("seawall-forwarded-by").await.unwrap_err();
    assert!(
        refused.message().contains("taken for the leader"),
        "{refused}"
    );
}

#[tokio::test]
async fn without_a_quorum_nothing_is_given() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    for member in 0..3 {
        if member != leader {
            group.members[member].kill();
        }
    }
    let refused = group.members[leader].fetch(1).await.unwrap_err();
    let expected = [Code::Unavailable, Code::DeadlineExceeded];
    assert!(expected.contains(&refused.code()), "{refused}");
    eventually("it says that it is not ready", || async {
        let ready = group.members[leader].http("/readyz").await.ok()?;
        ready.contains("503").then_some(())
    })
    .await;
    let alive = group.members[leader].http("/healthz").await.unwrap();
    assert!(alive.contains("200"), "{alive}");
}

#[tokio::test]
async fn a_wiped_member_is_refused_and_ends_and_the_others_go_on() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let wiped = group.other_than(leader);
    let id = group.members[wiped].id;
    group.members[wiped].kill();
    std::fs::remove_dir_all(&group.members[wiped].data_dir).unwrap();
    let made = group.members[wiped].init(&group.peers());
    assert!(made.status.success());
    group.members[wiped].start(&[]);
    assert_eq!(group.members[wiped].wait_for_end(), 1);
    let log = group.members[wiped].log();
    let expected = format!("the data directory of member {id} is not the one that the group knows");
    assert!(log.contains(&expected), "{log}");
    assert!(log.contains("add it under a new id"), "{log}");
    group.members[leader].fetch(1).await.unwrap();
}

/// The case that matters: with the wiped member's vote a stale member could lead.
#[tokio::test]
async fn a_wiped_member_does_not_vote_even_when_the_others_cannot_lead_without_it() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let wiped = group.other_than(leader);
    let left = group.other_than(wiped);
    group.members[wiped].kill();
    group.members[leader].kill();
    std::fs::remove_dir_all(&group.members[wiped].data_dir).unwrap();
    group.members[wiped].init(&group.peers());
    group.members[wiped].start(&[]);
    assert_eq!(group.members[wiped].wait_for_end(), 1);
    eventually("the one that is left misses its leader", || async {
        let status = group.members[left].status().await?;
        (status.leader == 0).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(group.members[left].status().await.unwrap().leader, 0);
    assert!(group.members[left].fetch(1).await.is_err());
    group.members[leader].start(&[]);
    group.leader().await;
    eventually("the two good ones go on", || async {
        group.members[left].fetch(1).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_member_without_init_is_a_stranger_to_the_group() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let wiped = group.other_than(leader);
    group.members[wiped].kill();
    std::fs::remove_dir_all(&group.members[wiped].data_dir).unwrap();
    let peers = group.peers();
    group.members[wiped].start(&["--peers", &peers]);
    assert_eq!(group.members[wiped].wait_for_end(), 1);
    assert!(group.members[wiped].log().contains("is empty"));
    group.members[leader].fetch(1).await.unwrap();
}

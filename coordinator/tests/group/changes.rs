//! Changes of the group: members that are added, replaced, removed and that return.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use nix::sys::signal::Signal;
use tonic::{Code, transport::Channel};

use super::{
    harness::{Group, eventually},
    timestamps::{Seen, fetch_all},
};

async fn until_voters(group: &Group, member: usize, expected: &[u64]) {
    eventually("the members are as expected", || async {
        let status = group.members[member].status().await?;
        let voters = status.members.iter().filter(|member| member.voter);
        let voters: Vec<u64> = voters.map(|member| member.id).collect();
        (voters == expected && status.members.len() == expected.len()).then_some(())
    })
    .await;
}

/// One that was started again after it was removed ends with a line that says so.
fn assert_ends_as_removed(group: &mut Group, member: usize) {
    let id = group.members[member].id;
    assert_eq!(group.members[member].wait_for_end(), 1);
    let log = group.members[member].log();
    let last = log.lines().last().unwrap_or_default();
    let expected = format!("member {id} was removed from the group");
    assert!(last.contains(&expected), "{log}");
    assert!(last.contains("seawall-coordinator join"), "{log}");
}

/// Goes on until `more` timestamps have been given.
async fn until_given(seen: &Seen, more: u64) {
    let goal = seen.given.load(Ordering::Relaxed) + more;
    eventually("the clients get on", || async {
        (seen.given.load(Ordering::Relaxed) >= goal).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_timestamps_strictly_increase_while_all_members_are_exchanged_one_by_one() {
    let mut group = Group::start(3).await;
    let seen = Arc::<Seen>::default();
    // Two that stay for the whole test: 4 and 5 are known from the beginning, by their address.
    let places = [group.plan_another(4), group.plan_another(5)];
    let channels: Vec<Channel> = group.members.iter().map(|m| m.channel()).collect();
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let mut channels = channels.clone();
            channels.rotate_left(client % 5);
            tokio::spawn(fetch_all(channels, seen.clone()))
        })
        .collect();
    until_given(&seen, 500).await;
    let peers = (0..3).map(|at| group.members[at].address.clone());
    let peers = peers.collect::<Vec<_>>().join(",");
    for at in places {
        assert!(group.members[at].join(&peers).status.success());
        group.members[at].start(&[]);
        let (id, address) = (group.members[at].id, group.members[at].address.clone());
        eventually("it is added", || async {
            group.members[0].add(id, &address).await.ok()
        })
        .await;
        until_given(&seen, 500).await;
    }
    until_voters(&group, places[1], &[1, 2, 3, 4, 5]).await;
    // Whoever leads goes first, as long as it is one of the old ones.
    for _ in 0..3 {
        let old = (0..3).find(|at| group.members[*at].runs()).unwrap();
        let leader = group.leader().await;
        let gone = if leader < 3 { leader } else { old };
        let id = group.members[gone].id;
        group.members[places[0]].remove(id).await.unwrap();
        assert_ends_as_removed(&mut group, gone);
        until_given(&seen, 500).await;
    }
    until_voters(&group, places[0], &[4, 5]).await;
    seen.stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for client in clients {
        let mine = client.await.unwrap();
        assert!(mine.windows(2).all(|two| two[0] < two[1]));
        all.extend(mine);
    }
    let given = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), given, "a value was given twice");
}

#[tokio::test]
async fn a_dead_member_is_replaced_and_does_not_come_back() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let dead = group.other_than(leader);
    let (dead_id, other) = (group.members[dead].id, 3 - leader - dead);
    group.members[dead].kill();
    group.add_another(leader, 4).await;
    let refused = group.members[other].remove(9).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    group.members[other].remove(dead_id).await.unwrap();
    let refused = group.members[other].remove(dead_id).await.unwrap_err();
    assert!(refused.message().contains("removed already"), "{refused}");
    let mut expected = vec![group.members[leader].id, group.members[other].id, 4];
    expected.sort_unstable();
    until_voters(&group, other, &expected).await;

    // The new one counts: with it, the group does without another.
    let before = group.members[other].fetch(1).await.unwrap();
    group.members[leader].kill();
    let after = eventually("the others go on", || async {
        group.members[other].fetch(1).await.ok()
    });
    assert!(after.await > before);
    group.members[leader].start(&[]);
    group.leader().await;

    group.members[dead].start(&[]);
    assert_ends_as_removed(&mut group, dead);
    let term = group.members[other].status().await.unwrap().term;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let later = group.members[other].status().await.unwrap().term;
    assert_eq!(term, later, "the one that was removed forced an election");
}

#[tokio::test]
async fn an_id_is_never_used_again_and_belongs_to_one_directory() {
    let mut group = Group::start(1).await;
    let four = group.add_another(0, 4).await;
    let five = group.add_another(0, 5).await;
    group.add_another(0, 6).await;
    until_voters(&group, five, &[1, 4, 5, 6]).await;
    group.members[0].remove(5).await.unwrap();
    assert_ends_as_removed(&mut group, five);
    let removed = group.members[five].data_dir.clone();
    std::fs::remove_dir_all(&removed).unwrap();
    let peers = group.members[0].address.clone();
    assert!(group.members[five].join(&peers).status.success());
    group.members[five].start(&[]);
    let address = group.members[five].address.clone();
    let refused = group.members[0].add(5, &address).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("ids are not used again"));
    group.members[five].kill();

    // A wiped disk under a number that is in use.
    group.members[four].kill();
    std::fs::remove_dir_all(&group.members[four].data_dir).unwrap();
    assert!(group.members[four].join(&peers).status.success());
    group.members[four].start(&[]);
    let address = group.members[four].address.clone();
    eventually("the wiped one is refused as such", || async {
        let refused = group.members[0].add(4, &address).await.unwrap_err();
        refused.message().contains("it was wiped").then_some(())
    })
    .await;
    group.members[0].fetch(1).await.unwrap();
}

#[tokio::test]
async fn a_member_that_was_away_while_all_others_were_exchanged_finds_them() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let away = group.other_than(leader);
    let other = 3 - leader - away;
    group.members[away].kill();
    let four = group.add_another(leader, 4).await;
    group.add_another(leader, 5).await;
    for gone in [other, leader] {
        let id = group.members[gone].id;
        group.members[four].remove(id).await.unwrap();
        assert_ends_as_removed(&mut group, gone);
        group.leader().await;
    }
    let before = group.members[four].fetch(1).await.unwrap();
    group.members[away].start(&[]);
    let expected = [group.members[away].id, 4, 5];
    until_voters(&group, away, &expected).await;
    let after = eventually("it passes calls on to the new ones", || async {
        group.members[away].fetch(1).await.ok()
    });
    assert!(after.await > before);
}

#[tokio::test]
async fn a_change_that_would_leave_no_quorum_is_refused_and_changes_nothing() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let dead = group.other_than(leader);
    let other = 3 - leader - dead;
    group.members[dead].kill();
    let id = group.members[other].id;
    let refused = group.members[leader].remove(id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("must answer"), "{refused}");
    assert_eq!(group.members[leader].voters().await, [1, 2, 3]);

    let alone = Group::start(1).await;
    let refused = alone.members[0].remove(1).await.unwrap_err();
    assert!(refused.message().contains("the last one"), "{refused}");
}

#[tokio::test]
async fn a_minority_adds_nobody() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let four = group.start_another(4).await;
    let address = group.members[four].address.clone();
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    for at in &others {
        group.members[*at].signal(Signal::SIGSTOP);
    }
    let refused = group.members[leader].add(4, &address).await.unwrap_err();
    let expected = [Code::Unavailable, Code::DeadlineExceeded];
    assert!(expected.contains(&refused.code()), "{refused}");
    for at in &others {
        group.members[*at].signal(Signal::SIGCONT);
    }
    group.members[four].kill();
    let leader = group.leader().await;
    assert_eq!(group.members[leader].voters().await, [1, 2, 3]);
    assert_eq!(
        group.members[leader].status().await.unwrap().members.len(),
        3
    );
}

#[tokio::test]
async fn a_member_that_moved_is_given_its_new_address() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let moved = group.other_than(leader);
    let id = group.members[moved].id;
    group.members[moved].terminate();
    group.members[moved].move_elsewhere();
    group.members[moved].start(&[]);
    let address = group.members[moved].address.clone();
    eventually("it has its new address", || async {
        group.members[leader].add(id, &address).await.ok()
    })
    .await;
    // It hears the leader there, and passes calls on to it.
    eventually("it knows a leader", || async {
        let status = group.members[moved].status().await?;
        let own = status.members.iter().find(|member| member.id == id)?;
        (status.leader != 0 && own.address == address).then_some(())
    })
    .await;
    group.members[moved].fetch(1).await.unwrap();
    assert_eq!(group.members[leader].voters().await, [1, 2, 3]);

    let taken = group.members[leader].address.clone();
    let refused = group.members[leader].add(id, &taken).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
}

#[tokio::test]
async fn who_joins_another_group_is_not_taken() {
    let theirs = Group::start(1).await;
    let mut ours = Group::start(1).await;
    let stranger = ours.plan_another(2);
    let peers = theirs.members[0].address.clone();
    assert!(ours.members[stranger].join(&peers).status.success());
    ours.members[stranger].start(&[]);
    let address = ours.members[stranger].address.clone();
    eventually("it is refused as another group's", || async {
        let refused = ours.members[0].add(2, &address).await.unwrap_err();
        let expected = "belongs to group";
        refused.message().contains(expected).then_some(())
    })
    .await;
    // Nobody is there.
    ours.members[stranger].kill();
    let refused = ours.members[0].add(2, &address).await.unwrap_err();
    assert!(refused.message().contains("member 2 at"), "{refused}");
    assert_eq!(ours.members[0].status().await.unwrap().members.len(), 1);
}

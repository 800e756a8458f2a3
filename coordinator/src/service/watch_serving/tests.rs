use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt as _;
use seawall_common::serving::ServingSet;
use seawall_proto::v1::topology_server::Topology as _;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request};

use super::*;
use crate::{
    agents::heartbeats::{Heard, SEEN_WITHIN},
    operation::testing::Stage,
    service::topology::TopologyService,
    state::{
        Command,
        testing::{Cluster, alias, registration},
        topology::{self, TabletType},
    },
};

async fn watch(stage: &Stage, keyspace: &str) -> Updates {
    let service = TopologyService {
        context: stage.context.clone(),
    };
    let request = v1::WatchServingRequest {
        keyspace: keyspace.into(),
        ..v1::WatchServingRequest::default()
    };
    let answer = service.watch_serving(Request::new(request)).await;
    answer.unwrap().into_inner()
}

/// Takes updates until nothing is told for a while; whether the set was told anew on the way.
async fn follow(updates: &mut Updates, set: &mut ServingSet) -> bool {
    let mut has_begun = false;
    let quiet = Duration::from_millis(500);
    while let Ok(update) = timeout(quiet, updates.next()).await {
        let update = update.unwrap().unwrap();
        let count = update.changed.len() + update.gone.len();
        assert!(count <= PAGE_MAX, "{count} in one message");
        has_begun |= update.begins;
        set.take(update);
    }
    has_begun
}

fn known(set: &ServingSet) -> BTreeMap<String, v1::ServingTablet> {
    set.tablets().cloned().unwrap_or_default()
}

/// What a watcher that comes now is told.
async fn afresh(stage: &Stage) -> BTreeMap<String, v1::ServingTablet> {
    let mut set = ServingSet::default();
    assert!(follow(&mut watch(stage, "").await, &mut set).await);
    known(&set)
}

fn say(stage: &Stage, number: usize, serving: bool) {
    let text = format!("zone1-{number}");
    let heard = Heard {
        instance: format!("instance of {text}"),
        at: Instant::now(),
        at_unix_ms: 0,
        status: v1::TabletStatus {
            serving,
            ..v1::TabletStatus::default()
        },
    };
    stage.context.heartbeats.record(&alias(&text), heard);
}

/// A stage with so many tablets that serve, from 1000 on.
async fn with_tablets(count: usize) -> Stage {
    let stage = Stage::silent(Cluster::with_primary());
    sleep(SEEN_WITHIN + Duration::from_secs(1)).await;
    for number in 1000..1000 + count {
        let text = format!("zone1-{number}");
        let register = topology::Command::Register(registration(&text));
        stage.propose(Command::Topology(register)).await;
        say(&stage, number, true);
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.context.serving.count(), count);
    stage
}

async fn set_type(stage: &Stage, number: usize, tablet_type: TabletType) {
    let change = topology::Command::ChangeType {
        alias: alias(&format!("zone1-{number}")),
        tablet_type,
    };
    stage.propose(Command::Topology(change)).await;
}

#[tokio::test(start_paused = true)]
async fn the_whole_set_comes_in_pages_and_then_only_what_changes() {
    let count = 2 * PAGE_MAX + 10;
    let stage = with_tablets(count).await;
    let mut updates = watch(&stage, "").await;
    let first = updates.next().await.unwrap().unwrap();
    assert!(first.begins && !first.complete);
    assert_eq!(first.changed.len(), PAGE_MAX);
    let mut set = ServingSet::default();
    set.take(first);
    assert!(!follow(&mut updates, &mut set).await);
    assert_eq!(known(&set).len(), count);

    say(&stage, 1000, false);
    let update = updates.next().await.unwrap().unwrap();
    assert_eq!(update.gone, ["zone1-1000"]);
    assert!(!update.begins && update.changed.is_empty());
    set_type(&stage, 1001, TabletType::Rdonly).await;
    let update = updates.next().await.unwrap().unwrap();
    assert_eq!(update.changed.len(), 1);
    assert_eq!(update.changed[0].r#type(), v1::TabletType::Rdonly);
    // And a sign that it goes on.
    let update = updates.next().await.unwrap().unwrap();
    assert_eq!(update, complete());
}

#[tokio::test(start_paused = true)]
async fn many_who_begin_at_once_are_told_one_after_the_other() {
    let stage = with_tablets(2 * PAGE_MAX).await;
    let mut all = Vec::new();
    for _ in 0..100 {
        all.push(watch(&stage, "").await);
    }
    let began = Instant::now();
    let whole = all.into_iter().map(|mut updates| async move {
        while !updates.next().await.unwrap().unwrap().complete {}
    });
    futures::future::join_all(whole).await;
    // Two pages each, and no more than two in a millisecond.
    assert!(
        began.elapsed() >= Duration::from_millis(90),
        "{:?}",
        began.elapsed()
    );
    assert!(
        began.elapsed() <= Duration::from_millis(200),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn what_changes_between_two_pages_is_there_when_the_set_is_complete() {
    let count = 3 * PAGE_MAX;
    let stage = with_tablets(count).await;
    let mut updates = watch(&stage, "").await;
    let mut set = ServingSet::default();
    set.take(updates.next().await.unwrap().unwrap());
    // On a page that was told, and on one that comes; both ways.
    for number in [1001, 1000 + 2 * PAGE_MAX] {
        set_type(&stage, number, TabletType::Rdonly).await;
        say(&stage, number + 1, false);
        sleep(Duration::from_millis(300)).await;
    }
    say(&stage, 1002, true);
    sleep(Duration::from_millis(300)).await;
    set.take(updates.next().await.unwrap().unwrap());
    say(&stage, 1004, false);
    sleep(Duration::from_millis(300)).await;
    while set.tablets().is_none() {
        set.take(updates.next().await.unwrap().unwrap());
    }
    assert_eq!(known(&set), afresh(&stage).await);
    assert_eq!(known(&set).len(), count - 2);
}

/// More changes of ten tablets than are kept for a watcher that does not read.
async fn change_more_than_is_kept(stage: &Stage) {
    for turn in 0..400 {
        say(stage, 1000 + turn % 10, turn % 3 == 0);
        sleep(Duration::from_millis(120)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_is_too_slow_is_told_the_whole_set_anew() {
    let stage = with_tablets(10).await;
    let mut updates = watch(&stage, "").await;
    let mut set = ServingSet::default();
    follow(&mut updates, &mut set).await;
    change_more_than_is_kept(&stage).await;
    assert!(follow(&mut updates, &mut set).await, "it was not told anew");
    assert_eq!(known(&set), afresh(&stage).await);
    assert!(!known(&set).is_empty());
    // From here on it follows again.
    say(&stage, 1000, false);
    say(&stage, 1001, true);
    assert!(!follow(&mut updates, &mut set).await);
    assert_eq!(known(&set), afresh(&stage).await);
}

#[tokio::test(start_paused = true)]
async fn the_whole_set_is_told_anew_only_by_one_that_can_prove_that_it_leads() {
    let stage = with_tablets(10).await;
    let mut updates = watch(&stage, "").await;
    follow(&mut updates, &mut ServingSet::default()).await;
    change_more_than_is_kept(&stage).await;
    // Nobody has noticed it yet.
    stage.group.fail_proofs(true);
    let ended = updates.next().await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    assert_eq!(ended.message(), "no quorum");
    assert!(updates.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_watcher_of_a_keyspace_hears_of_no_other_and_a_change_of_many_is_cut() {
    let stage = with_tablets(10).await;
    let mut other = watch(&stage, "elsewhere").await;
    let first = other.next().await.unwrap().unwrap();
    assert!(first.begins && first.complete && first.changed.is_empty());
    let mut own = watch(&stage, "commerce").await;
    let mut set = ServingSet::default();
    follow(&mut own, &mut set).await;

    for number in 2000..2000 + 2 * PAGE_MAX {
        let text = format!("zone1-{number}");
        let register = topology::Command::Register(registration(&text));
        stage.propose(Command::Topology(register)).await;
        say(&stage, number, true);
    }
    assert!(!follow(&mut own, &mut set).await);
    assert_eq!(known(&set).len(), 10 + 2 * PAGE_MAX);
    let next = other.next().await.unwrap().unwrap();
    assert_eq!(next, complete());
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_one_that_cannot_prove_that_it_leads_must_ask_again() {
    let stage = with_tablets(1).await;
    let mut updates = watch(&stage, "").await;
    follow(&mut updates, &mut ServingSet::default()).await;
    stage.group.fail_proofs(true);
    let ended = updates.next().await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(updates.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_young_leader_tells_of_a_shard_when_its_agents_have_been_heard() {
    let stage = Stage::silent(Cluster::with_primary());
    sleep(Duration::from_secs(1)).await;
    let mut updates = watch(&stage, "").await;
    let mut elsewhere = watch(&stage, "elsewhere").await;
    assert!(elsewhere.next().await.unwrap().unwrap().complete);
    for number in [100, 101] {
        say(&stage, number, true);
    }
    let early = timeout(Duration::from_secs(3), updates.next()).await;
    assert!(early.is_err(), "{early:?}");
    say(&stage, 102, true);
    let told = timeout(Duration::from_secs(1), updates.next()).await;
    assert_eq!(told.unwrap().unwrap().unwrap().changed.len(), 3);

    // One that stays away holds it up for its time, and no longer.
    stage.lead(2);
    sleep(Duration::from_secs(1)).await;
    let mut updates = watch(&stage, "").await;
    let began = Instant::now();
    assert!(updates.next().await.unwrap().unwrap().complete);
    assert!(began.elapsed() < SEEN_WITHIN, "{:?}", began.elapsed());
    assert!(began.elapsed() > SEEN_WITHIN - Duration::from_secs(2));
}

//! Retention in the leader: when it is applied, and when it is not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use seawall_common::{
    Error,
    clock::now_unix_ms,
    ids::{BackupName, ShardId},
};

use super::testing::{Does, Stage, keep_in_store};
use crate::{
    group::Group as _,
    state::{
        Command,
        catalogue::{self, Known},
        locks::Scope,
        operations::{OperationState, Spec},
        retention::{Command as Rule, Policy},
        testing::{Cluster, backup_of, restore_of, shard},
    },
};

const HOUR: Duration = Duration::from_secs(3600);
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

fn keep(count: u32) -> Rule {
    Rule::Set {
        scope: Scope::Shard(shard()),
        policy: Some(Policy {
            keep_count: Some(count),
            ..Policy::default()
        }),
    }
}

/// Three complete backups, of which one is to stay.
async fn three(interval: Duration) -> (Stage, Vec<BackupName>) {
    let ahead_ms = Arc::default();
    three_with(interval, &ahead_ms).await
}

/// With a clock that is set by a test.
async fn three_with(interval: Duration, ahead_ms: &Arc<AtomicU64>) -> (Stage, Vec<BackupName>) {
    let mut cluster = Cluster::with_primary();
    let names = (1..=3).map(|n| cluster.backed_up("zone1-101", &format!("0-100-{n}")));
    let names = names.collect();
    let ahead_ms = ahead_ms.clone();
    let stage = Stage::with(cluster, |context| {
        context.patience.retention = interval;
        let wall = move || now_unix_ms() + ahead_ms.load(Ordering::Relaxed);
        context.wall_unix_ms = Box::new(wall);
    });
    keep_in_store(&stage);
    stage
        .group
        .propose(Command::Retention(keep(1)))
        .await
        .unwrap();
    (stage, names)
}

fn known(stage: &Stage) -> Vec<Known> {
    let shard = shard();
    stage.look(|state| {
        let entries = state.catalogue.entries(&shard);
        entries.map(|entry| entry.known).collect()
    })
}

fn complete(stage: &Stage) -> usize {
    let known = known(stage);
    known.iter().filter(|k| **k == Known::Complete).count()
}

#[tokio::test(start_paused = true)]
async fn after_a_backup_what_is_too_much_goes_and_says_by_which_rule() {
    let (stage, names) = three(NEVER).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(complete(&stage), 3, "nothing has happened yet");
    stage.tell("serve", Does::Hang);
    let id = stage.start(backup_of("zone1-101")).await;
    stage.called("serve").await;
    keep_in_store(&stage);
    assert_eq!(complete(&stage), 4);
    stage.untell("serve");
    stage.lead(2);
    stage.ended(id).await;
    stage.until(|| complete(&stage) == 1).await;
    stage.look(|state| {
        let entry = state.catalogue.entry(&shard(), &names[0]).unwrap();
        assert!(entry.note.contains("retention keeps 1"), "{}", entry.note);
    });
    let removals = stage.look(|state| {
        let all = state.operations.iter();
        let removals = all.filter(|o| matches!(o.spec, Spec::RemoveBackup { .. }));
        removals.count()
    });
    assert_eq!(removals, 3);
}

#[tokio::test(start_paused = true)]
async fn each_round_what_could_not_go_before_is_tried_again() {
    let (stage, _) = three(HOUR).await;
    stage.tell("fetch", Does::Hang);
    let restore = stage.start(restore_of("zone1-102")).await;
    stage.called("fetch").await;
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(complete(&stage), 3, "the restore may need them");
    stage.cancel(restore).await;
    stage.ended(restore).await;
    stage.until(|| complete(&stage) == 1).await;
}

/// A store with many shards is not read anew each minute for the sake of one.
#[tokio::test(start_paused = true)]
async fn between_two_rounds_only_the_shard_in_which_something_could_not_go_is_looked_at() {
    let (stage, _) = three(24 * HOUR).await;
    let other: ShardId = "commerce/1".parse().unwrap();
    let import = catalogue::Command::Import {
        shard: other.clone(),
        found: vec![catalogue::Found {
            name: "2026-11-25.210749.zone1-201".parse().unwrap(),
            alias: "zone1-201".into(),
            known: Known::Broken,
            facts: catalogue::Facts::default(),
            note: "its manifest cannot be read".into(),
        }],
        missing: Vec::new(),
    };
    let import = Command::Catalogue(import);
    stage.group.propose(import).await.unwrap();
    stage.tell("fetch", Does::Hang);
    let restore = stage.start(restore_of("zone1-102")).await;
    stage.called("fetch").await;
    let scans = |of: &ShardId| {
        let scans = stage.store.scans.lock().unwrap();
        scans.iter().filter(|shard| *shard == of).count()
    };
    // The first round comes after a sixtieth of the interval.
    tokio::time::sleep(HOUR).await;
    assert_eq!(scans(&other), 1);
    let blocked = scans(&shard());
    assert!((30..=65).contains(&blocked), "{blocked} scans in an hour");
    stage.cancel(restore).await;
    stage.ended(restore).await;
    stage.until(|| complete(&stage) == 1).await;
    let after = scans(&shard());
    tokio::time::sleep(HOUR).await;
    assert_eq!((scans(&other), scans(&shard())), (1, after));
    // The next round looks at all of them.
    tokio::time::sleep(24 * HOUR).await;
    assert_eq!((scans(&other), scans(&shard())), (2, after + 1));
}

#[tokio::test(start_paused = true)]
async fn i5_a_clock_that_jumped_stops_retention_until_an_operator_says_that_it_is_right() {
    let ahead_ms = Arc::new(AtomicU64::new(0));
    let (stage, _) = three_with(24 * HOUR, &ahead_ms).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ahead_ms.store(365 * 24 * 3600 * 1000, Ordering::Relaxed);
    let stopped = || stage.look(|state| state.retention.stopped().map(|stopped| stopped.why));
    stage.until(|| stopped().is_some()).await;
    assert!(stopped().unwrap().contains("jumped ahead"));
    tokio::time::sleep(30 * HOUR).await;
    assert_eq!(complete(&stage), 3);
    // Another leader does not begin again by itself.
    stage.lead(2);
    tokio::time::sleep(30 * HOUR).await;
    assert_eq!(complete(&stage), 3);
    let now_unix_ms = now_unix_ms() + ahead_ms.load(Ordering::Relaxed);
    let resume = Command::Retention(Rule::Resume { now_unix_ms });
    stage.group.propose(resume).await.unwrap();
    stage.until(|| complete(&stage) == 1).await;
    assert_eq!(stopped(), None);
}

#[tokio::test(start_paused = true)]
async fn i5_a_leader_whose_clock_jumped_before_it_took_office_removes_nothing() {
    let ahead_ms = Arc::new(AtomicU64::new(0));
    let (stage, names) = three_with(24 * HOUR, &ahead_ms).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.resign(2);
    let pin = catalogue::Command::Pin {
        shard: shard(),
        name: names[0].clone(),
        pin: Some(catalogue::Pin {
            until_unix_ms: Some(now_unix_ms() + 24 * 3600 * 1000),
        }),
        now_unix_ms: now_unix_ms(),
    };
    stage.group.propose(Command::Catalogue(pin)).await.unwrap();
    ahead_ms.store((3 * 24 * 3600 + 60) * 1000, Ordering::Relaxed);
    stage.lead(3);
    tokio::time::sleep(30 * HOUR).await;
    assert_eq!(complete(&stage), 3);
    let stopped = stage.look(|state| state.retention.stopped().map(|stopped| stopped.why));
    assert!(stopped.unwrap().contains("jumped ahead by 3days"));
}

#[tokio::test(start_paused = true)]
async fn i5_a_jump_that_cannot_be_recorded_at_once_is_not_forgotten() {
    let ahead_ms = Arc::new(AtomicU64::new(0));
    let (stage, _) = three_with(HOUR, &ahead_ms).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.group.fail_stops.store(3, Ordering::Relaxed);
    ahead_ms.store(365 * 24 * 3600 * 1000, Ordering::Relaxed);
    tokio::time::sleep(30 * HOUR).await;
    assert_eq!(stage.group.fail_stops.load(Ordering::Relaxed), 0);
    assert_eq!(complete(&stage), 3);
    assert!(stage.look(|state| state.retention.stopped().is_some()));
}

#[tokio::test(start_paused = true)]
async fn i5_a_backup_that_is_no_longer_there_is_not_counted_as_kept() {
    let (stage, _) = three(HOUR).await;
    // The two newest have lost their manifests, and nobody knows yet.
    stage.store.backups.lock().unwrap().truncate(1);
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(known(&stage)[0], Known::Complete);
    assert_eq!(complete(&stage), 1);
}

#[tokio::test(start_paused = true)]
async fn in_anothers_repository_nothing_is_removed() {
    let (stage, _) = three(HOUR).await;
    *stage.store.owner.lock().unwrap() = Some(Error::refused("it belongs to another group"));
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(complete(&stage), 3);
    let open = stage.look(|state| state.operations.open().count());
    assert_eq!(open, 0);
    let failed = stage.look(|state| {
        let mut all = state.operations.iter();
        all.any(|operation| operation.state == OperationState::Failed)
    });
    assert!(!failed);
}

//! Sweeps and collections: batch by batch, and never beside somebody who may need what they delete.

use std::time::Duration;

use seawall_common::{Error, ids::BackupName, repository::Collected};

use super::{
    Coordination,
    testing::{Does, Stage, keep_in_store},
};
use crate::{
    group::Group as _,
    state::{
        Command,
        catalogue::Known,
        locks,
        operations::{OperationState, Spec},
        retention,
        testing::{Cluster, alias, backup_of, removal_of, restore_of, shard},
        verification,
    },
};

fn batch(objects: u64, more: bool) -> seawall_common::Result<Collected> {
    Ok(Collected {
        objects,
        bytes: objects * 100,
        more,
        ..Collected::default()
    })
}

/// Three complete backups, oldest first.
fn three() -> (Stage, Vec<BackupName>) {
    three_with(|_| {})
}

fn three_with(change: impl FnOnce(&mut Coordination)) -> (Stage, Vec<BackupName>) {
    let mut cluster = Cluster::with_primary();
    let names = (1..=3).map(|n| cluster.backed_up("zone1-101", &format!("0-100-{n}")));
    let names = names.collect();
    let stage = Stage::with(cluster, change);
    keep_in_store(&stage);
    (stage, names)
}

#[tokio::test(start_paused = true)]
async fn what_a_sweep_and_a_second_collection_wait_for_is_said() {
    let (stage, names) = three_with(|context| {
        context.patience.removal_grace = Duration::from_secs(3600);
    });
    let in_time = Duration::from_secs(2);
    let removal = stage.start(removal_of(&names[0], false)).await;
    stage.ended(removal).await;
    let sweep = removal.derived("sweep");
    let grace = "waits: its grace time is not over, until 2";
    stage
        .until_within(in_time, || stage.said(sweep).starts_with(grace))
        .await;

    *stage.store.hang_collecting.lock().unwrap() = true;
    let first = stage.start(Spec::Collect { shard: shard() }).await;
    stage.until(|| collects(&stage) == 1).await;
    assert!(
        stage
            .said(first)
            .starts_with("reading what the shard holds")
    );
    let second = stage.start(Spec::Collect { shard: shard() }).await;
    let other = "waits: another collection of the shard";
    stage
        .until_within(in_time, || stage.said(second).starts_with(other))
        .await;
}

fn collects(stage: &Stage) -> usize {
    stage.store.requests.lock().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn i5_a_collection_lets_go_between_its_batches_and_each_goes_by_what_is_known_then() {
    let (stage, names) = three();
    stage.store.batches.lock().unwrap().extend([
        batch(1000, true),
        batch(1000, true),
        batch(7, false),
    ]);
    let id = stage.start(Spec::Collect { shard: shard() }).await;
    stage.until(|| collects(&stage) == 1).await;
    stage
        .until(|| stage.look(|state| state.locks.holds().count()) == 0)
        .await;
    // A backup comes in between, and is known to the next batch.
    let backup = stage.start(backup_of("zone1-102")).await;
    assert_eq!(stage.ended(backup).await.state, OperationState::Succeeded);
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded);
    assert_eq!(
        ended.result,
        "2007 objects, 200700 bytes deleted of removed backups"
    );
    let requests = stage.store.requests.lock().unwrap().clone();
    let known: Vec<usize> = requests.iter().map(|r| r.expected.len()).collect();
    assert_eq!(known, [3, 4, 4]);
    assert!(requests[0].expected.contains_key(&names[0]));
}

#[tokio::test(start_paused = true)]
async fn i5_what_was_removed_of_late_is_named_to_a_collection_that_comes_before_its_sweep() {
    let (stage, names) = three_with(|context| {
        context.patience.removal_grace = Duration::from_secs(3600);
    });
    let removal = stage.start(removal_of(&names[0], false)).await;
    stage.ended(removal).await;
    let id = stage.start(Spec::Collect { shard: shard() }).await;
    stage.ended(id).await;
    let requests = stage.store.requests.lock().unwrap().clone();
    assert_eq!(requests[0].keep, [names[0].clone()].into());
    assert_eq!(requests[0].expected.len(), 2);
    assert!(requests[0].may_go.is_empty());

    // Its own time has come: its sweep does not name it any more, nor does anybody later.
    stage.ended(removal.derived("sweep")).await;
    let id = stage.start(Spec::Collect { shard: shard() }).await;
    stage.ended(id).await;
    let requests = stage.store.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 3);
    assert!(requests[1..].iter().all(|request| request.keep.is_empty()));
    assert!(
        requests[1..]
            .iter()
            .all(|r| r.may_go == [names[0].clone()].into())
    );
}

#[tokio::test(start_paused = true)]
async fn i5_a_collector_waits_for_backups_and_restores() {
    for (spec, step) in [
        (backup_of("zone1-101"), "copy"),
        (restore_of("zone1-101"), "fetch"),
    ] {
        let (stage, _) = three();
        stage.tell(step, Does::Hang);
        let reader = stage.start(spec).await;
        stage.called(step).await;
        let id = stage.start(Spec::Collect { shard: shard() }).await;
        // Who watches is told at once, and by name.
        let what = match step {
            "copy" => "waits: backup of zone1-101",
            _ => "waits: restore of zone1-101",
        };
        stage
            .until_within(Duration::from_secs(2), || stage.said(id).starts_with(what))
            .await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(collects(&stage), 0, "{step}");
        stage.cancel(reader).await;
        stage.ended(reader).await;
        // On a busy shard there may not be another gap for long.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(stage.operation(id).state, OperationState::Succeeded);
    }
}

#[tokio::test(start_paused = true)]
async fn i5_a_manifest_that_cannot_be_believed_is_shown_and_stops_the_shard_until_it_is_mended() {
    let (stage, _) = three();
    let damaged = || {
        Err(Error::corrupt(
            "nothing is deleted in commerce/0: it is damaged",
        ))
    };
    stage
        .store
        .batches
        .lock()
        .unwrap()
        .extend([damaged(), damaged(), batch(5, false)]);
    let id = stage.start(Spec::Collect { shard: shard() }).await;
    stage.until(|| collects(&stage) == 1).await;
    let shown = || stage.operation(id).result;
    stage.until(|| shown().contains("it is damaged")).await;
    assert_eq!(
        stage.context.collections.stopped()[&shard()],
        "nothing is deleted in commerce/0: it is damaged"
    );
    assert_eq!(stage.look(|state| state.locks.holds().count()), 0);
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);
    assert!(stage.context.collections.stopped().is_empty());
    assert_eq!(stage.context.collections.deleted().objects.get(), 5);
}

#[tokio::test(start_paused = true)]
async fn i5_the_owner_is_looked_up_before_each_batch() {
    let (stage, _) = three();
    stage
        .store
        .batches
        .lock()
        .unwrap()
        .push_back(batch(9, true));
    let id = stage.start(Spec::Collect { shard: shard() }).await;
    stage.until(|| collects(&stage) == 1).await;
    *stage.store.owner.lock().unwrap() = Some(Error::refused("it belongs to another group"));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(collects(&stage), 1);
    let shown = stage.operation(id).result;
    assert!(shown.contains("another group"), "{shown}");
    *stage.store.owner.lock().unwrap() = None;
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn i5_a_collector_whose_hold_is_broken_deletes_no_more() {
    let (stage, _) = three();
    *stage.store.hang_collecting.lock().unwrap() = true;
    let id = stage.start(Spec::Collect { shard: shard() }).await;
    stage.until(|| collects(&stage) == 1).await;
    let broken = locks::Command::Break {
        which: locks::Which {
            id: String::new(),
            scope: locks::Scope::Cluster,
        },
        reason: "test".into(),
        operator: "ana".into(),
        now_unix_ms: 0,
    };
    stage.group.propose(Command::Locks(broken)).await.unwrap();
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    assert!(ended.error.unwrap().message.contains("broken"));
    assert_eq!(collects(&stage), 1);
}

#[tokio::test(start_paused = true)]
async fn i5_a_new_leader_goes_on_with_a_collection_and_remembers_what_was_deleted() {
    let (stage, _) = three();
    stage
        .store
        .batches
        .lock()
        .unwrap()
        .push_back(batch(9, true));
    let id = stage.start(Spec::Collect { shard: shard() }).await;
    stage.until(|| collects(&stage) == 1).await;
    *stage.store.hang_collecting.lock().unwrap() = true;
    stage.until(|| collects(&stage) == 2).await;
    *stage.store.hang_collecting.lock().unwrap() = false;
    stage
        .store
        .batches
        .lock()
        .unwrap()
        .push_back(batch(1, false));
    stage.lead(2);
    let ended = stage.ended(id).await;
    assert_eq!(ended.deleted.objects, 10);
    assert_eq!(stage.look(|state| state.locks.holds().count()), 0);
}

/// A batch that met the mark of a backup that nobody here has removed.
fn met(name: &BackupName) -> seawall_common::Result<Collected> {
    Ok(Collected {
        too_young: [name.clone()].into(),
        ..Collected::default()
    })
}

#[tokio::test(start_paused = true)]
async fn i5_what_others_have_marked_goes_when_this_group_has_known_of_it_for_the_grace_time() {
    let others = BackupName::new(0, &alias("zone1-109"), 0).unwrap();
    for (grace, goes) in [(Duration::ZERO, true), (Duration::from_secs(3600), false)] {
        let (stage, _) = three_with(|context| context.patience.removal_grace = grace);
        stage.store.batches.lock().unwrap().push_back(met(&others));
        for _ in 0..2 {
            let id = stage.start(Spec::Collect { shard: shard() }).await;
            stage.ended(id).await;
        }
        let requests = stage.store.requests.lock().unwrap().clone();
        let may_go: Vec<bool> = requests
            .iter()
            .map(|request| request.may_go.contains(&others))
            .collect();
        assert_eq!(may_go, [false, goes]);
    }
}

#[tokio::test(start_paused = true)]
async fn i5_nothing_is_swept_while_retention_is_stopped() {
    let (stage, names) = three();
    let stop = retention::Command::Stop {
        why: "wall time jumped".into(),
    };
    stage.group.propose(Command::Retention(stop)).await.unwrap();
    let removal = stage.start(removal_of(&names[0], false)).await;
    stage.ended(removal).await;
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(collects(&stage), 0);
    let now_unix_ms = seawall_common::clock::now_unix_ms();
    let resume = retention::Command::Resume { now_unix_ms };
    let resume = Command::Retention(resume);
    stage.group.propose(resume).await.unwrap();
    let sweep = stage.ended(removal.derived("sweep")).await;
    assert_eq!(sweep.state, OperationState::Succeeded);
    assert_eq!(collects(&stage), 1);
}

#[tokio::test(start_paused = true)]
async fn damage_in_what_is_gone_is_forgotten() {
    let (stage, _) = three();
    let packs = ["a", "b"].map(|c| c.repeat(32));
    let damage = verification::Command::Damage {
        shard: shard(),
        packs: packs.to_vec(),
        broken: vec![],
        now_unix_ms: 1,
    };
    let damage = Command::Verification(damage);
    stage.group.propose(damage).await.unwrap();
    stage.store.batches.lock().unwrap().push_back(Ok(Collected {
        objects: 1,
        damaged_gone: [packs[0].parse().unwrap()].into(),
        ..Collected::default()
    }));
    let id = stage.start(Spec::Collect { shard: shard() }).await;
    stage.ended(id).await;
    let left: Vec<String> = stage.look(|state| {
        let shard = shard();
        let damaged = state.catalogue.damaged.of(&shard);
        damaged.map(str::to_owned).collect()
    });
    assert_eq!(left, [packs[1].clone()]);
    let asked = stage.store.requests.lock().unwrap()[0].damaged.clone();
    assert_eq!(asked, packs.iter().map(|id| id.parse().unwrap()).collect());
}

#[tokio::test(start_paused = true)]
async fn i5_a_sweep_waits_until_the_mark_of_its_backup_is_old_enough() {
    let (stage, names) = three();
    let young = Ok(Collected {
        too_young: [names[0].clone()].into(),
        ..Collected::default()
    });
    stage.store.batches.lock().unwrap().push_back(young);
    let removal = stage.start(removal_of(&names[0], false)).await;
    let sweep = removal.derived("sweep");
    stage.ended(removal).await;
    assert_eq!(stage.ended(sweep).await.state, OperationState::Succeeded);
    assert_eq!(collects(&stage), 2);
    let known = stage.look(|state| state.catalogue.entry(&shard(), &names[0]).unwrap().known);
    assert_eq!(known, Known::Removed);
}

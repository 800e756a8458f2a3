use std::time::Duration;

use seawall_common::{
    Error,
    ids::BackupName,
    repository::{StoredBackup, StoredState},
};

use super::{
    refresh,
    restore::STARTS_EMPTY,
    testing::{Does, Stage, keep_in_store},
};
use crate::{
    group::Group as _,
    state::{
        Command,
        catalogue::Known,
        locks,
        operations::{self, OperationState, Spec},
        testing::{Cluster, alias, backup_of, removal_of, restore_of, shard},
        topology::TabletType,
    },
};

const BACKUP_STEPS: [&str; 9] = [
    "prepare",
    "drain",
    "note",
    "stop",
    "copy",
    "start",
    "reinstate",
    "catch_up",
    "serve",
];

fn type_of(stage: &Stage, text: &str) -> TabletType {
    stage.look(|state| state.topology.tablet(&alias(text)).unwrap().tablet_type)
}

fn holds(stage: &Stage) -> usize {
    stage.look(|state| state.locks.holds().count())
}

fn known(stage: &Stage) -> Vec<Known> {
    stage.look(|state| state.catalogue.entries(&shard()).map(|e| e.known).collect())
}

fn done(stage: &Stage) -> Vec<String> {
    stage.store.done.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_backup_goes_through_its_steps_in_order_and_leaves_nothing_held() {
    let stage = Stage::new(Cluster::with_primary());
    let id = stage.start(backup_of("zone1-101")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    assert_eq!(stage.steps_called(), BACKUP_STEPS);
    let recorded: Vec<_> = ended.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(recorded[0], "grant");
    assert_eq!(recorded[1..], BACKUP_STEPS);
    assert_eq!(known(&stage), [Known::Complete]);
    assert_eq!(holds(&stage), 0);
    assert_eq!(type_of(&stage, "zone1-101"), TabletType::Replica);
    assert!(done(&stage).is_empty(), "nothing was given up");
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_repeats_the_step_under_way_in_the_same_attempt_with_a_higher_term() {
    for step in BACKUP_STEPS {
        let stage = Stage::new(Cluster::with_primary());
        stage.tell(step, Does::Hang);
        let id = stage.start(backup_of("zone1-101")).await;
        stage.called(step).await;
        stage.untell(step);
        stage.lead(2);
        let ended = stage.ended(id).await;
        assert_eq!(ended.state, OperationState::Succeeded, "{step}: {ended:?}");
        let calls = stage.calls();
        let of_step: Vec<_> = calls.iter().filter(|call| call.step == step).collect();
        let terms: Vec<u64> = of_step.iter().map(|call| call.term).collect();
        assert_eq!(terms, [1, 2], "{step}");
        assert!(of_step.iter().all(|call| call.attempt == 1), "{step}");
        assert_eq!(
            calls.len(),
            BACKUP_STEPS.len() + 1,
            "{step}: no other was repeated"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn i2_a_backup_cancelled_in_mid_copy_is_marked_before_its_hold_goes() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("copy", Does::Hang);
    let id = stage.start(backup_of("zone1-101")).await;
    stage.called("copy").await;
    *stage.store.failures.lock().unwrap() = 3;
    stage.cancel(id).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Cancelled);
    assert_eq!(done(&stage)[0], "removed while 1 held");
    assert!(stage.steps_called().contains(&"put_back".to_owned()));
    assert_eq!(known(&stage), [Known::Removed]);
    assert_eq!(type_of(&stage, "zone1-101"), TabletType::Replica);
    stage.until(|| done(&stage).len() == 2).await;
    assert_eq!(done(&stage)[1], "swept while 1 held", "what it left goes");
    stage.until(|| holds(&stage) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_backup_whose_agent_is_gone_is_undone_when_its_lease_is_over() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("copy", Does::Vanish);
    stage.tell("put_back", Does::Hang);
    let begun = tokio::time::Instant::now();
    let id = stage.start(backup_of("zone1-101")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    let error = ended.error.unwrap().message;
    assert!(
        error.contains("zone1-101 has not been heard for 6"),
        "{error}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(90),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(done(&stage)[0], "removed while 1 held");
    assert_eq!(known(&stage), [Known::Removed]);
    assert_eq!(type_of(&stage, "zone1-101"), TabletType::Replica);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_or_was_undone_before_the_copy_is_complete_fails_the_backup() {
    for (step, does) in [
        ("stop", Does::Fail),
        ("copy", Does::Fail),
        ("copy", Does::Undone),
    ] {
        let stage = Stage::new(Cluster::with_primary());
        stage.tell(step, does);
        let id = stage.start(backup_of("zone1-101")).await;
        let ended = stage.ended(id).await;
        assert_eq!(ended.state, OperationState::Failed);
        let error = ended.error.unwrap().message;
        assert!(error.contains(&format!("{step} went wrong")), "{error}");
        assert_eq!(known(&stage), [Known::Removed]);
        stage.start(backup_of("zone1-102")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn past_the_copy_a_backup_stands_and_the_way_back_is_tried_until_the_deadline() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("start", Does::FailTimes(5));
    let id = stage.start(backup_of("zone1-101")).await;
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);

    stage.tell("start", Does::Fail);
    let hour = Duration::from_secs(3600);
    let id = stage.start_within(backup_of("zone1-101"), hour).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    let error = ended.error.unwrap().message;
    assert!(
        error.contains("is complete, but zone1-101 does not serve again"),
        "{error}"
    );
    assert!(error.contains("start went wrong"), "{error}");
    assert_eq!(known(&stage), [Known::Complete, Known::Complete]);
    assert!(done(&stage).is_empty(), "nothing was given up");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_in_mid_copy_undoes_the_backup() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("copy", Does::Hang);
    let minutes = Duration::from_secs(300);
    let id = stage.start_within(backup_of("zone1-101"), minutes).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    assert_eq!(
        ended.error.unwrap().message,
        "the operation did not end before its deadline, in step copy"
    );
    assert_eq!(known(&stage), [Known::Removed]);
}

#[tokio::test(start_paused = true)]
async fn a_backup_whose_hold_is_broken_is_undone() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("copy", Does::Hang);
    let id = stage.start(backup_of("zone1-101")).await;
    stage.called("copy").await;
    let which = locks::Which {
        id: id.to_string(),
        scope: locks::Scope::Cluster,
    };
    let break_it = locks::Command::Break {
        which,
        reason: "it hangs".into(),
        operator: "ana".into(),
        now_unix_ms: 0,
    };
    stage.group.propose(Command::Locks(break_it)).await.unwrap();
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    assert!(ended.error.unwrap().message.contains("was broken"));
    assert_eq!(known(&stage), [Known::Removed]);
}

#[tokio::test(start_paused = true)]
async fn i3_a_tablet_promoted_in_mid_backup_keeps_its_type() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("catch_up", Does::Hang);
    let backup = stage.start(backup_of("zone1-101")).await;
    stage.called("catch_up").await;
    let reparent = stage
        .start(Spec::PlannedReparent {
            shard: shard(),
            new_primary: alias("zone1-101"),
        })
        .await;
    assert_eq!(stage.ended(reparent).await.state, OperationState::Succeeded);
    stage.untell("catch_up");
    stage.lead(2);
    assert_eq!(stage.ended(backup).await.state, OperationState::Succeeded);
    assert_eq!(type_of(&stage, "zone1-101"), TabletType::Primary);
    assert_eq!(type_of(&stage, "zone1-100"), TabletType::Replica);
}

#[tokio::test(start_paused = true)]
async fn a_planned_reparenting_closes_the_old_primary_before_it_opens_the_new_one() {
    let stage = Stage::new(Cluster::with_primary());
    let id = stage
        .start(Spec::PlannedReparent {
            shard: shard(),
            new_primary: alias("zone1-102"),
        })
        .await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    let calls: Vec<_> = stage
        .calls()
        .into_iter()
        .map(|call| format!("{} {}", call.tablet, call.step))
        .collect();
    assert_eq!(
        calls,
        [
            "zone1-102 read_position",
            "zone1-100 demote",
            "zone1-102 reach_position",
            "zone1-102 promote",
            "zone1-100 put_back"
        ]
    );
    assert_eq!(done(&stage), ["epoch 2 of zone1-102"]);
    assert_eq!(
        ended.result,
        "zone1-102 is the primary of commerce/0, epoch 2"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reparenting_that_fails_before_the_new_epoch_opens_the_old_primary_again() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("reach_position", Does::Fail);
    let id = stage
        .start(Spec::PlannedReparent {
            shard: shard(),
            new_primary: alias("zone1-102"),
        })
        .await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    let last = stage.calls().pop().unwrap();
    assert_eq!(
        (last.tablet.as_str(), last.step.as_str()),
        ("zone1-100", "reopen")
    );
    assert_eq!(type_of(&stage, "zone1-100"), TabletType::Primary);
    assert_eq!(stage.look(|s| s.topology.line(&shard()).len()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_keeps_no_primary_from_opening() {
    let stage = Stage::new(Cluster::with_primary());
    *stage.store.failures.lock().unwrap() = 5;
    let id = stage
        .start(Spec::PlannedReparent {
            shard: shard(),
            new_primary: alias("zone1-102"),
        })
        .await;
    stage.called("promote").await;
    assert!(done(&stage).is_empty());
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);
    assert_eq!(done(&stage), ["epoch 2 of zone1-102"]);
}

#[tokio::test(start_paused = true)]
async fn a_restore_at_an_empty_start_starts_empty_only_when_there_is_no_backup_at_all() {
    let stage = Stage::new(Cluster::with_primary());
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded);
    assert_eq!(ended.result, STARTS_EMPTY);
    assert!(stage.calls().is_empty());
    assert_eq!(type_of(&stage, "zone1-102"), TabletType::Replica);

    *stage.store.backups.lock().unwrap() = vec![StoredBackup {
        name: "2026-11-21.031500.zone1-101".parse().unwrap(),
        state: StoredState::Incomplete,
    }];
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    let error = ended.error.unwrap().message;
    assert!(error.contains("none that can be restored"), "{error}");
    assert!(stage.calls().is_empty(), "the tablet was not touched");
}

#[tokio::test(start_paused = true)]
async fn a_restore_takes_the_newest_backup_and_brings_the_tablet_back() {
    let mut cluster = Cluster::with_primary();
    cluster.backed_up("zone1-101", "0-100-1");
    let newest = cluster.backed_up("zone1-101", "0-100-9");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    assert_eq!(ended.backup, Some(newest));
    assert_eq!(
        stage.steps_called(),
        [
            "drain",
            "fetch",
            "install",
            "start",
            "reinstate",
            "catch_up",
            "serve"
        ]
    );
    assert_eq!(holds(&stage), 0);
}

#[tokio::test(start_paused = true)]
async fn i6_a_restore_that_fails_before_the_install_is_undone_by_its_agent() {
    let mut cluster = Cluster::with_primary();
    cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    stage.tell("fetch", Does::Fail);
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    assert_eq!(stage.steps_called(), ["drain", "fetch", "put_back"]);
    assert_eq!(type_of(&stage, "zone1-102"), TabletType::Replica);
    assert_eq!(stage.discards(), [false], "the next try goes on with it");
}

#[tokio::test(start_paused = true)]
async fn what_was_fetched_goes_when_an_operator_cancels_the_restore() {
    let mut cluster = Cluster::with_primary();
    cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    stage.tell("fetch", Does::Hang);
    let id = stage.start(restore_of("zone1-102")).await;
    stage.called("fetch").await;
    stage.cancel(id).await;
    assert_eq!(stage.ended(id).await.state, OperationState::Cancelled);
    assert_eq!(stage.discards(), [true]);
}

#[tokio::test(start_paused = true)]
async fn i5_a_removed_backup_is_swept_under_the_delete_side_of_the_lock() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    let id = stage.start(removal_of(&old, true)).await;
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);
    stage.until(|| done(&stage).len() == 2).await;
    assert_eq!(done(&stage), ["removed while 1 held", "swept while 1 held"]);
    assert_eq!(
        stage.ended(id.derived("sweep")).await.state,
        OperationState::Succeeded
    );
    assert_eq!(holds(&stage), 0);
}

#[tokio::test(start_paused = true)]
async fn a_removal_in_anothers_repository_fails_and_changes_nothing() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    *stage.store.owner.lock().unwrap() = Some(Error::refused("another group owns it"));
    let id = stage.start(removal_of(&old, true)).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    assert!(ended.error.unwrap().message.contains("another group"));
    assert_eq!(known(&stage), [Known::Complete]);
    assert!(done(&stage).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_decided_removal_is_neither_cancelled_nor_overdue_until_its_mark_is_put() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    *stage.store.failures.lock().unwrap() = u32::MAX;
    let minute = Duration::from_secs(60);
    let id = stage.start_within(removal_of(&old, true), minute).await;
    stage
        .until(|| {
            let operation = stage.operation(id);
            let step = operation.step("remove");
            step.is_some_and(|step| step.error.is_some())
        })
        .await;
    let reason = String::new();
    let cancel = operations::Command::Cancel { id, reason };
    let refused = stage.group.propose(Command::Operations(cancel)).await;
    assert!(refused.unwrap_err().message().contains("only goes forward"));
    tokio::time::sleep(minute * 2).await;
    assert!(stage.operation(id).state.is_open(), "it is not marked");
    assert_eq!(known(&stage), [Known::Complete]);
    *stage.store.failures.lock().unwrap() = 0;
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);
    assert_eq!(known(&stage), [Known::Removed]);
    stage.until(|| done(&stage).len() == 2).await;
    assert_eq!(done(&stage), ["removed while 1 held", "swept while 1 held"]);
}

#[tokio::test(start_paused = true)]
async fn a_removal_whose_mark_cannot_be_put_keeps_nobody_from_his_work() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    *stage.store.failures.lock().unwrap() = u32::MAX;
    let removal = stage.start(removal_of(&old, true)).await;
    let step = || stage.operation(removal).step("remove").cloned();
    stage
        .until(|| step().is_some_and(|step| step.error.is_some()))
        .await;
    stage.until(|| holds(&stage) == 0).await;
    assert!(stage.operation(removal).result.contains("store is away"));
    let backup = stage.start(backup_of("zone1-101")).await;
    let referred = stage.operation(backup).references;
    assert!(referred.is_empty(), "{referred:?}");
    assert_eq!(stage.ended(backup).await.state, OperationState::Succeeded);
    *stage.store.failures.lock().unwrap() = 0;
    // It waits for a turn of its own.
    stage.tell("copy", Does::Hang);
    let backup = stage.start(backup_of("zone1-101")).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(known(&stage)[0], Known::Complete);
    stage.untell("copy");
    stage.cancel(backup).await;
    assert_eq!(stage.ended(removal).await.state, OperationState::Succeeded);
    assert_eq!(known(&stage)[0], Known::Removed);
    stage.until(|| holds(&stage) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_panics_is_not_followed_by_another_at_once() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("note", Does::PanicTimes(3));
    let begun = tokio::time::Instant::now();
    let id = stage.start(backup_of("zone1-101")).await;
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(15), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn i5_a_backup_that_lost_its_manifest_is_broken_and_not_counted_as_complete() {
    let mut cluster = Cluster::with_primary();
    let kept = cluster.backed_up("zone1-101", "0-100-1");
    let lost = cluster.backed_up("zone1-101", "0-100-9");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    for stored in stage.store.backups.lock().unwrap().iter_mut() {
        if stored.name == lost {
            stored.state = StoredState::Incomplete;
        }
    }
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.backup, Some(kept), "{ended:?}");
    assert_eq!(known(&stage), [Known::Complete, Known::Broken]);
}

#[tokio::test(start_paused = true)]
async fn a_repository_full_of_backups_is_read_in_commands_that_the_log_takes() {
    let mut cluster = Cluster::with_primary();
    for second in 0..800 {
        cluster.now_unix_ms += 1_000 * second;
        cluster.backed_up("zone1-101", "0-100-1");
    }
    let stage = Stage::new(cluster);
    let stored = |index: u64, state: StoredState| StoredBackup {
        name: BackupName::new(index * 1_000, &alias("zone1-109"), 0).unwrap(),
        state,
    };
    let reason = "\u{e9}\n".repeat(20_000);
    let broken = || StoredState::Broken {
        reason: reason.clone(),
    };
    let removed = || StoredState::Removed {
        reason: reason.clone(),
    };
    *stage.store.backups.lock().unwrap() = (0..300)
        .map(|index| stored(index, broken()))
        .chain((300..600).map(|index| stored(index, removed())))
        .collect();
    refresh::refresh(&stage.context, &shard()).await.unwrap();
    assert_eq!(known(&stage), vec![Known::Broken; 1_100]);
}

/// Each connection lives longer than an agent may be out of reach.
#[tokio::test(start_paused = true)]
async fn a_copy_whose_connection_breaks_now_and_then_is_not_given_up() {
    let stage = Stage::new(Cluster::with_primary());
    let hour = Duration::from_secs(3_600);
    stage.tell("copy", Does::BreakTimes(4, hour));
    let id = stage.start_within(backup_of("zone1-101"), hour * 10).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restore_on_whose_data_no_server_comes_up_is_taken_back() {
    let mut cluster = Cluster::with_primary();
    cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    stage.tell("start", Does::Fail);
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed, "{ended:?}");
    assert!(stage.steps_called().contains(&"put_back".to_owned()));
    let starts = stage.calls().iter().filter(|c| c.step == "start").count();
    assert_eq!(starts, 1);
}

#[tokio::test(start_paused = true)]
async fn i4_a_backup_that_ran_into_another_epoch_fails() {
    let stage = Stage::new(Cluster::with_primary());
    stage.tell("note", Does::Hang);
    let id = stage.start(backup_of("zone1-101")).await;
    stage.called("note").await;
    let reparent = stage
        .start(Spec::PlannedReparent {
            shard: shard(),
            new_primary: alias("zone1-102"),
        })
        .await;
    assert_eq!(stage.ended(reparent).await.state, OperationState::Succeeded);
    // The replica stops beyond the point where the new epoch began.
    stage.stop_at("0-102-9");
    stage.untell("note");
    stage.lead(2);
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed, "{ended:?}");
    let error = ended.error.unwrap().message;
    assert!(
        error.contains("the primary of commerce/0 changed"),
        "{error}"
    );
    assert!(!stage.steps_called().contains(&"copy".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn i5_a_backup_that_is_found_again_is_complete_again() {
    let mut cluster = Cluster::with_primary();
    cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    let there = std::mem::take(&mut *stage.store.backups.lock().unwrap());
    refresh::refresh(&stage.context, &shard()).await.unwrap();
    assert_eq!(known(&stage), [Known::Broken]);
    *stage.store.backups.lock().unwrap() = there;
    refresh::refresh(&stage.context, &shard()).await.unwrap();
    assert_eq!(known(&stage), [Known::Complete]);
}

#[tokio::test(start_paused = true)]
async fn i5_in_another_repository_than_the_groups_nothing_is_written() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    cluster.state.repository_id = Some("the group's".into());
    let stage = Stage::new(cluster);
    let id = stage.start(removal_of(&old, true)).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    assert!(done(&stage).is_empty());
    assert_eq!(known(&stage), [Known::Complete]);
}

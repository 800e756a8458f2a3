use seawall_common::ErrorKind;

use super::*;
use crate::state::{
    locks,
    testing::{Cluster, GRACE_MS, alias, backup_of, removal_of, restore_of, shard},
    topology::TabletType,
};

#[test]
fn a_second_backup_of_a_shard_is_refused_and_told_the_first_ones_id() {
    let mut cluster = Cluster::with_primary();
    let first = cluster.start(backup_of("zone1-102")).unwrap();
    let refused = cluster.start(backup_of("zone1-101")).unwrap_err();
    assert_eq!(
        refused.message,
        format!(
            "commerce/0 is being backed up by operation {} (zone1-102)",
            first.id
        )
    );
}

#[test]
fn a_primary_is_backed_up_only_when_that_is_allowed() {
    let mut cluster = Cluster::with_primary();
    let refused = cluster.start(backup_of("zone1-100")).unwrap_err();
    assert_eq!(refused.message, "zone1-100 is the primary of commerce/0");
    assert!(refused.hint.unwrap().contains("--allow-primary"));
    let allowed = Spec::Backup {
        alias: alias("zone1-100"),
        concurrency: 4,
        no_wait: false,
        allow_primary: true,
    };
    let operation = cluster.start(allowed).unwrap();
    cluster.complete_copy(operation.id, "0-100-1").unwrap();
    cluster.finish(operation.id).unwrap();
    assert_eq!(cluster.type_of("zone1-100"), TabletType::Primary);
}

#[test]
fn a_repeated_start_finds_the_operation_and_another_one_of_that_id_is_refused() {
    let mut cluster = Cluster::with_primary();
    let first = cluster.start(backup_of("zone1-101")).unwrap();
    let mut start = Start {
        id: first.id,
        spec: first.spec.clone(),
        now_unix_ms: 1,
        deadline_unix_ms: 2,
    };
    let again = cluster.operate(Command::Start(start.clone())).unwrap();
    assert_eq!(again, Response::Operation(Box::new(first)));
    start.spec = restore_of("zone1-102");
    assert!(cluster.operate(Command::Start(start)).is_err());
}

#[test]
fn i2_a_cancelled_backup_lets_go_of_its_hold_only_after_its_removed_mark() {
    let mut cluster = Cluster::with_primary();
    let operation = cluster.start(backup_of("zone1-101")).unwrap();
    cluster.cancel(operation.id).unwrap();
    assert!(cluster.finish(operation.id).is_err(), "no mark yet");
    let hold = operation.hold_id();
    assert!(cluster.state.locks.is_valid(&hold, operation.token));
    cluster.abandon(operation.id).unwrap();
    cluster.finish(operation.id).unwrap();
    assert!(!cluster.state.locks.is_valid(&hold, operation.token));
    let ended = cluster.state.operations.get(&operation.id).unwrap();
    assert_eq!(ended.state, OperationState::Cancelled);
    assert_eq!(cluster.type_of("zone1-101"), TabletType::Replica);
    cluster.start(backup_of("zone1-102")).unwrap();
}

#[test]
fn past_its_point_of_no_return_an_operation_is_neither_cancelled_nor_undone() {
    let mut cluster = Cluster::with_primary();
    let operation = cluster.start(backup_of("zone1-101")).unwrap();
    let error: Refusal = Error::timeout("the database does not start").into();
    assert!(
        cluster
            .finish_with(operation.id, Some(error.clone()))
            .is_err()
    );
    cluster.complete_copy(operation.id, "0-100-1").unwrap();
    assert!(cluster.cancel(operation.id).is_err());
    let fail = Command::Fail {
        id: operation.id,
        error: error.clone(),
    };
    assert!(cluster.operate(fail).is_err());
    cluster.finish_with(operation.id, Some(error)).unwrap();
    let ended = cluster.state.operations.get(&operation.id).unwrap();
    assert_eq!(ended.state, OperationState::Failed);
    assert_eq!(
        cluster.state.catalogue.complete_ones(&shard()).count(),
        1,
        "the backup stands"
    );
}

#[test]
fn a_cancelled_backup_cannot_complete_any_more() {
    let mut cluster = Cluster::with_primary();
    let operation = cluster.start(backup_of("zone1-101")).unwrap();
    cluster.cancel(operation.id).unwrap();
    let refused = cluster.complete_copy(operation.id, "0-100-1").unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Cancelled.name());
}

#[test]
fn i3_a_tablet_promoted_while_it_is_backed_up_keeps_its_type() {
    let mut cluster = Cluster::with_primary();
    let operation = cluster.start(backup_of("zone1-101")).unwrap();
    cluster.promote("zone1-101", "0-100-5");
    cluster.complete_copy(operation.id, "0-100-5").unwrap();
    cluster.finish(operation.id).unwrap();
    assert_eq!(cluster.type_of("zone1-101"), TabletType::Primary);
    assert_eq!(cluster.type_of("zone1-100"), TabletType::Replica);
}

#[test]
fn removals_are_refused_while_a_backup_may_need_what_they_delete() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    cluster.backed_up("zone1-101", "0-100-2");
    let running = cluster.start(backup_of("zone1-102")).unwrap();
    let refused = cluster.start(removal_of(&old, false)).unwrap_err();
    assert!(refused.message.contains(&running.id.to_string()));
    let written = running.backup.unwrap();
    let refused = cluster.start(removal_of(&written, true)).unwrap_err();
    assert_eq!(
        refused.message,
        format!(
            "backup {written} of commerce/0 is being written by operation {}",
            running.id
        )
    );
}

#[test]
fn the_last_complete_backup_is_removed_only_by_force_and_then_swept_after_the_grace_time() {
    let mut cluster = Cluster::with_primary();
    let only = cluster.backed_up("zone1-101", "0-100-1");
    let unknown = "2026-01-01.000000.zone1-101".parse().unwrap();
    let refused = cluster.start(removal_of(&unknown, true)).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound.name());
    let refused = cluster.start(removal_of(&only, false)).unwrap_err();
    assert!(refused.hint.unwrap().contains("--force"));
    let removal = cluster.start(removal_of(&only, true)).unwrap();
    cluster.abandon(removal.id).unwrap();
    cluster.finish(removal.id).unwrap();
    assert_eq!(cluster.state.catalogue.complete_ones(&shard()).count(), 0);

    let sweep = removal.id.derived("sweep");
    let operation = cluster.state.operations.get(&sweep).unwrap();
    let Spec::Sweep {
        not_before_unix_ms, ..
    } = operation.spec
    else {
        panic!("{operation:?}");
    };
    assert_eq!(not_before_unix_ms, cluster.now_unix_ms + GRACE_MS);
    let backup = cluster.start(backup_of("zone1-101")).unwrap();
    let take = Command::TakeDeleteSide {
        id: sweep,
        now_unix_ms: 0,
    };
    assert!(cluster.operate(take.clone()).is_err(), "a backup holds it");
    cluster.complete_copy(backup.id, "0-100-3").unwrap();
    cluster.finish(backup.id).unwrap();
    cluster.operate(take).unwrap();
    let refused = cluster.start(backup_of("zone1-101")).unwrap_err();
    assert!(refused.message.contains("is deleting in commerce/0"));
    cluster.finish(sweep).unwrap();
    cluster.start(backup_of("zone1-101")).unwrap();
}

#[test]
fn a_hold_by_hand_keeps_deleters_out() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    let acquire = locks::Command::Acquire {
        id: "hand".into(),
        side: locks::Side::Backup,
        scope: locks::Scope::Cluster,
        owner: "ana".into(),
        reason: "r".into(),
        now_unix_ms: 0,
        duration_ms: 1,
        lease_ms: None,
    };
    cluster
        .apply(crate::state::Command::Locks(acquire))
        .unwrap();
    let refused = cluster.start(removal_of(&old, true)).unwrap_err();
    assert!(refused.message.contains("held by ana"), "{refused:?}");
}

#[test]
fn a_restore_is_refused_for_a_primary_and_protects_what_it_reads() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    assert!(cluster.start(restore_of("zone1-100")).is_err());
    let restore = cluster.start(restore_of("zone1-101")).unwrap();
    assert_eq!(cluster.type_of("zone1-101"), TabletType::Restore);
    assert!(cluster.start(removal_of(&old, true)).is_err());
    assert!(cluster.start(backup_of("zone1-101")).is_err());
    cluster.cancel(restore.id).unwrap();
    cluster.finish(restore.id).unwrap();
    assert_eq!(cluster.type_of("zone1-101"), TabletType::Replica);
}

#[test]
fn a_step_that_failed_is_tried_again_and_one_under_way_is_gone_on_with() {
    let mut cluster = Cluster::with_primary();
    let id = cluster.start(backup_of("zone1-101")).unwrap().id;
    let begin = Command::StepStarted {
        id,
        step: "start".into(),
        now_unix_ms: 1,
    };
    let end = |error: Option<&str>| Command::StepEnded {
        id,
        step: "start".into(),
        now_unix_ms: 2,
        error: error.map(str::to_owned),
        outcome: Outcome::default(),
        effect: Effect::None,
    };
    cluster.operate(begin.clone()).unwrap();
    cluster.operate(end(Some("not yet"))).unwrap();
    let steps = |cluster: &Cluster| cluster.state.operations.get(&id).unwrap().clone();
    assert!(steps(&cluster).outcome("start").is_none());
    cluster.operate(begin).unwrap();
    cluster.operate(end(None)).unwrap();
    assert!(steps(&cluster).outcome("start").is_some());
    assert_eq!(steps(&cluster).steps.len(), 2, "grant and start");
}

#[test]
fn i9_ended_operations_are_forgotten_when_they_are_too_many() {
    let mut cluster = Cluster::with_primary();
    for _ in 0..FINISHED_MAX + 5 {
        let id = cluster.start(restore_of("zone1-101")).unwrap().id;
        cluster.finish(id).unwrap();
    }
    assert_eq!(cluster.state.operations.iter().count(), FINISHED_MAX);
}

#[test]
fn a_decided_removal_ends_only_with_its_mark() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    let removal = cluster.start(removal_of(&old, true)).unwrap().id;
    let decide = Effect::PointOfNoReturn;
    cluster.end_step(removal, "decide", decide).unwrap();
    assert!(cluster.cancel(removal).is_err());
    let overdue = Error::timeout("late").into();
    assert!(cluster.finish_with(removal, Some(overdue)).is_err());
    cluster.abandon(removal).unwrap();
    cluster.finish(removal).unwrap();
    let sweep = removal.derived("sweep");
    assert!(cluster.state.operations.get(&sweep).is_ok());
}

#[test]
fn a_removed_backup_whose_objects_stayed_may_be_removed_again() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    let remove = |cluster: &mut Cluster| {
        let id = cluster.start(removal_of(&old, true))?.id;
        cluster.abandon(id).unwrap();
        cluster.finish(id).unwrap();
        Ok::<_, Refusal>(id.derived("sweep"))
    };
    let sweep = remove(&mut cluster).unwrap();
    let hint = remove(&mut cluster).unwrap_err().hint.unwrap();
    assert!(hint.contains(&sweep.to_string()), "{hint}");
    let overdue = Error::timeout("late").into();
    cluster.finish_with(sweep, Some(overdue)).unwrap();
    let second = remove(&mut cluster).unwrap();
    cluster.finish(second).unwrap();
    let hint = remove(&mut cluster).unwrap_err().hint.unwrap();
    assert!(hint.contains("has deleted its objects"), "{hint}");
}

#[test]
fn who_cancels_what_has_ended_is_told_where_to_look() {
    let mut cluster = Cluster::with_primary();
    let backup = cluster.start(backup_of("zone1-101")).unwrap().id;
    cluster.complete_copy(backup, "0-100-1").unwrap();
    cluster.finish(backup).unwrap();
    let refused = cluster.cancel(backup).unwrap_err();
    assert!(refused.hint.unwrap().contains("WatchOperation"));
}

#[test]
fn i5_two_removals_at_once_leave_the_last_complete_backup() {
    let mut cluster = Cluster::with_primary();
    let one = cluster.backed_up("zone1-101", "0-100-1");
    let other = cluster.backed_up("zone1-101", "0-100-2");
    cluster.start(removal_of(&one, false)).unwrap();
    let refused = cluster.start(removal_of(&other, false)).unwrap_err();
    assert!(refused.message.contains("last complete"), "{refused:?}");
    cluster.start(removal_of(&other, true)).unwrap();
}

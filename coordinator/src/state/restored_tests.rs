use super::*;
use crate::state::{
    Command, GroupBackup, Response,
    catalogue::Known,
    locks::{self, Scope},
    operations::Spec,
    schedules::{
        Outcome,
        group_tests::{of_group, take},
        tests as schedules,
    },
    testing::{Cluster, alias, backup_of, shard},
    timestamps,
    topology::TabletType,
};

fn record(number: u64, alias_text: &str) -> EpochRecord {
    EpochRecord {
        number,
        alias: alias(alias_text),
        server_id: alias(alias_text).uid(),
        start_position: "0-100-10".parse().unwrap(),
        began_unix_ms: 7,
        before: number - 1,
    }
}

fn restoration() -> Restoration {
    Restoration {
        group_id: "new".into(),
        repository_id: "repository".into(),
        member: 1,
        now_unix_ms: 1_792_000_500_000,
        timestamps_above: 5_000,
        epochs: BTreeMap::new(),
        operation: OperationId::generate(),
    }
}

fn acquire(cluster: &mut Cluster) -> u64 {
    let acquire = locks::Command::Acquire {
        id: OperationId::generate().to_string(),
        side: locks::Side::Backup,
        scope: Scope::Cluster,
        owner: "ann".into(),
        reason: "a copy".into(),
        now_unix_ms: cluster.now_unix_ms,
        duration_ms: 1_000,
        lease_ms: None,
    };
    match cluster.apply(Command::Locks(acquire)).unwrap() {
        Response::Hold(hold) => hold.token,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_under_way_is_lost_and_says_so() {
    let mut cluster = Cluster::with_primary();
    let operation = cluster.start(backup_of("zone1-101")).unwrap();
    let name = operation.backup.clone().unwrap();
    let token = acquire(&mut cluster);
    let (state, changes) = cluster.state.clone().restored(&restoration());
    assert_eq!((changes.operations_lost, changes.holds_dropped), (1, 2));
    let lost = state.operations.get(&operation.id).unwrap();
    assert_eq!(lost.state, OperationState::Failed);
    assert!(lost.error.as_ref().unwrap().message.contains("restored"));
    let entry = state.catalogue.entry(&shard(), &name).unwrap();
    assert_eq!((entry.known, entry.operation), (Known::Incomplete, None));
    let tablet = state.topology.tablet(&alias("zone1-101")).unwrap();
    assert_ne!(tablet.tablet_type, TabletType::Backup);
    assert!(state.retention.stopped().is_some());
    assert_eq!(state.group_id.as_deref(), Some("new"));

    // The same work can be begun anew, and no token of before is as great as a new one.
    cluster.state = state;
    assert!(acquire(&mut cluster) > token + (1 << 31));
    cluster.start(backup_of("zone1-101")).unwrap();
}

#[test]
fn i1_timestamps_begin_above_what_may_have_been_given_and_no_bound_is_noted_yet() {
    let mut cluster = Cluster::new();
    let reserve = |state: &mut State| {
        let reserve = timestamps::Command::Reserve { count: 10 };
        match state.apply(&Command::Timestamps(reserve)) {
            Response::TimestampsGranted(granted) => granted,
            other => panic!("{other:?}"),
        }
    };
    let record = timestamps::Command::Record {
        bound: 100,
        disowned: 0,
    };
    cluster.apply(Command::Timestamps(record)).unwrap();
    reserve(&mut cluster.state);
    let (mut state, _) = cluster.state.clone().restored(&restoration());
    assert_eq!(state.timestamps.recorded(), 0);
    assert_eq!(reserve(&mut state).first, 5_001);
    let below = Restoration {
        timestamps_above: 3,
        ..restoration()
    };
    let (mut state, _) = cluster.state.restored(&below);
    assert_eq!(reserve(&mut state).first, 11);
}

#[test]
fn i4_reigns_that_only_the_repository_knows_of_count_and_no_number_is_used_again() {
    let cluster = Cluster::with_primary();
    let mut with = restoration();
    let records = vec![record(1, "zone1-100"), record(2, "zone1-102")];
    with.epochs.insert(shard(), records);
    let (state, changes) = cluster.state.clone().restored(&with);
    assert_eq!(changes.epochs_learned, 1);
    let newest = state.topology.newest_epoch(&shard()).unwrap();
    assert_eq!(
        (newest.number, newest.alias.to_string()),
        (2, "zone1-102".into())
    );
    let primary = state.topology.tablet(&alias("zone1-102")).unwrap();
    assert_eq!(primary.tablet_type, TabletType::Primary);
    let deposed = state.topology.tablet(&alias("zone1-100")).unwrap();
    assert_eq!(deposed.wanted_type, TabletType::Replica);

    let mut cluster = Cluster { state, ..cluster };
    let operation = cluster
        .start(Spec::PlannedReparent {
            shard: shard(),
            new_primary: alias("zone1-100"),
        })
        .unwrap();
    let new = crate::state::epochs::NewEpoch {
        operation: operation.id,
        shard: shard(),
        expected: 2,
        alias: alias("zone1-100"),
        start_position: "0-102-20".parse().unwrap(),
        repository_epoch: 0,
        now_unix_ms: cluster.now_unix_ms,
    };
    let new = crate::state::topology::Command::NewEpoch(new);
    cluster.apply(Command::Topology(new)).unwrap();
    let newest = cluster.state.topology.newest_epoch(&shard()).unwrap();
    assert_eq!(newest.number, 3 + EPOCHS_PASSED_OVER);
}

#[test]
fn schedules_are_paused_and_the_run_that_was_at_work_is_lost() {
    let mut cluster = schedules::cluster(schedules::spec());
    cluster.now_unix_ms += 60_000;
    schedules::slot(&mut cluster, 0).unwrap();
    schedules::begin(&mut cluster, "commerce/1").unwrap();
    let (state, changes) = cluster.state.clone().restored(&restoration());
    assert_eq!(changes.schedules_paused, 1);
    cluster.state = state;
    let nightly = schedules::nightly(&cluster);
    assert!(nightly.run.is_none() && nightly.paused_at(u64::MAX));
    let last = nightly.last.as_ref().unwrap();
    assert_eq!(last.outcome, Outcome::Failed);
    assert_eq!(last.errors, [format!("commerce/1: {LOST}")]);
}

/// The state in a backup that a schedule has begun says that it is being taken.
#[test]
fn the_groups_backup_that_was_being_taken_is_no_failure_and_the_new_group_has_none() {
    let mut cluster = schedules::cluster(of_group());
    let noted = GroupBackup {
        name: "2026-11-26.071500.1f2e3d4c".into(),
        taken_unix_ms: cluster.now_unix_ms,
    };
    cluster.apply(Command::GroupBackedUp(noted)).unwrap();
    cluster.now_unix_ms += 60_000;
    schedules::slot(&mut cluster, 0).unwrap();
    take(&mut cluster).unwrap();
    cluster.state = cluster.state.restored(&restoration()).0;
    assert_eq!(cluster.state.group_backup, None);
    let nightly = schedules::nightly(&cluster);
    let last = nightly.last.as_ref().unwrap();
    assert_eq!(last.outcome, Outcome::Cancelled);
    assert!(nightly.run.is_none() && nightly.failures_in_a_row() == 0);
}

#[test]
fn i5_what_stands_still_blames_the_restore_until_somebody_resumes_and_then_the_clock_again() {
    use crate::state::retention;
    let (state, _) = Cluster::with_primary().state.restored(&restoration());
    let mut cluster = Cluster {
        state,
        now_unix_ms: restoration().now_unix_ms,
        log: Vec::new(),
    };
    // As a snapshot carries it.
    let value = serde_json::to_vec(&cluster.state).unwrap();
    cluster.state = serde_json::from_slice(&value).unwrap();
    let stop = |cluster: &mut Cluster| {
        let why = "wall time jumped back by 20m".to_owned();
        let stop = retention::Command::Stop { why };
        cluster.apply(Command::Retention(stop)).unwrap();
        cluster.state.retention.stopped().unwrap().to_string()
    };
    let said = stop(&mut cluster);
    for part in [
        "restored from a backup",
        "ListBackups",
        "SetRetention --resume",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("clock"), "{said}");
    let now_unix_ms = cluster.now_unix_ms;
    let resume = retention::Command::Resume { now_unix_ms };
    cluster.apply(Command::Retention(resume)).unwrap();
    assert_eq!(cluster.state.retention.stopped(), None);
    let said = stop(&mut cluster);
    assert!(
        said.starts_with("wall time jumped back by 20m. When the clock"),
        "{said}"
    );
}

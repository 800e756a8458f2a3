//! The group's backup: begun and ended once each, by whoever leads.

use super::super::{tests::*, *};
use crate::state::{
    Command as Any, GroupBackup, Refusal, operations::OperationState, retention, testing::Cluster,
};

pub const GROUP: &str = "the coordinator group";

pub fn of_group() -> Spec {
    Spec {
        scope: Scope::Cluster,
        job: Job::GroupBackup { keep: 3 },
        ..spec()
    }
}

pub fn take(cluster: &mut Cluster) -> Result<Try, Refusal> {
    let of = next_try(cluster, GROUP);
    apply_at(cluster, Command::Take { of: of.clone() })?;
    Ok(of)
}

/// It comes to something at the cluster's time.
pub fn taken(cluster: &mut Cluster, of: &Try, error: Option<&str>) -> Result<Response, Refusal> {
    let of = Try {
        now_unix_ms: cluster.now_unix_ms,
        ..of.clone()
    };
    let error = error.map(str::to_owned);
    apply_at(cluster, Command::Taken { of, error })
}

/// One of which a slot has come, and of which the group's backup is being taken.
fn begun(spec: Spec) -> (Cluster, Try) {
    let mut cluster = cluster(spec);
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let of = take(&mut cluster).unwrap();
    (cluster, of)
}

fn kind(answer: Result<Response, Refusal>) -> String {
    answer.unwrap_err().kind
}

fn last(cluster: &Cluster) -> &PastRun {
    nightly(cluster).last.as_ref().unwrap()
}

fn being_taken(cluster: &Cluster) -> Vec<(u32, u32)> {
    let all = cluster.state.schedules.being_taken();
    all.map(|(of, keep)| (of.number, keep)).collect()
}

#[test]
fn it_is_one_part_without_a_shard_and_without_an_operation_and_runs_until_it_is_taken() {
    let mut cluster = cluster(of_group());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let parts = nightly(&cluster).run.clone().unwrap().parts;
    assert_eq!((parts.len(), &parts[0].shard), (1, &None));
    let of = next_try(&cluster, GROUP);
    let alias = replica_of("commerce/0");
    let begin = Command::Begin { of, alias };
    assert_eq!(kind(apply_at(&mut cluster, begin)), "invalid");
    assert_eq!(kind(fail_to_begin(&mut cluster, GROUP)), "invalid");
    assert_eq!(being_taken(&cluster), []);

    let changes = cluster.state.schedules.changes();
    let of = take(&mut cluster).unwrap();
    assert!(cluster.state.schedules.changes() > changes);
    assert_eq!(states(&cluster), [PartState::Running]);
    assert_eq!(being_taken(&cluster), [(1, 3)]);
    assert_eq!(cluster.state.operations.open().count(), 0);
    let again = apply_at(&mut cluster, Command::Take { of: of.clone() });
    assert_eq!(kind(again), "conflict", "it is taken once");
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    assert_eq!(nightly(&cluster).missed, 1, "no run overlaps it");
    assert_eq!(being_taken(&cluster), [(1, 3)]);

    cluster.now_unix_ms += MINUTE;
    taken(&mut cluster, &of, None).unwrap();
    assert_eq!(kind(taken(&mut cluster, &of, None)), "conflict");
    let schedule = nightly(&cluster);
    assert_eq!(schedule.run, None);
    assert_eq!(schedule.last_success_unix_ms, Some(cluster.now_unix_ms));
    assert_eq!(last(&cluster).outcome, Outcome::Succeeded);
    assert_eq!((last(&cluster).shards, last(&cluster).succeeded), (1, 1));
}

#[test]
fn one_that_fails_is_taken_again_after_a_pause_and_only_so_often() {
    let (mut cluster, of) = begun(Spec {
        tries: 2,
        ..of_group()
    });
    taken(&mut cluster, &of, Some("the store is away")).unwrap();
    assert_eq!(nightly(&cluster).failures_in_a_row(), 1);
    assert_eq!(being_taken(&cluster), []);
    cluster.now_unix_ms += MINUTE - 1;
    assert_eq!(take(&mut cluster).unwrap_err().kind, "conflict");
    cluster.now_unix_ms += 1;
    let second = take(&mut cluster).unwrap();
    assert_eq!(second.number, 2);
    assert_eq!(
        kind(taken(&mut cluster, &of, None)),
        "conflict",
        "what the first came to is told"
    );
    taken(&mut cluster, &second, Some("the store is full")).unwrap();
    assert_eq!(last(&cluster).outcome, Outcome::Failed);
    let error = "the coordinator group: the store is full";
    assert_eq!(last(&cluster).errors, [error]);

    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let of_next_run = take(&mut cluster).unwrap();
    assert_eq!(nightly(&cluster).failures_in_a_row(), 1);
    assert_eq!(of_next_run.number, of.number);
    assert_eq!(kind(taken(&mut cluster, &of, None)), "conflict");
    taken(&mut cluster, &of_next_run, None).unwrap();
    assert_eq!(nightly(&cluster).failures_in_a_row(), 0);
}

#[test]
fn a_pause_lets_it_come_to_its_end_and_takes_none_after_it() {
    for error in [None, Some("the store is away")] {
        let (mut cluster, of) = begun(of_group());
        pause(&mut cluster, None).unwrap();
        assert_eq!(being_taken(&cluster), [(1, 3)]);
        taken(&mut cluster, &of, error).unwrap();
        assert_eq!(nightly(&cluster).run, None);
        let expected = error.map_or(Outcome::Succeeded, |_| Outcome::Failed);
        assert_eq!(last(&cluster).outcome, expected);
    }
    let mut cluster = cluster(of_group());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let of = next_try(&cluster, GROUP);
    pause(&mut cluster, None).unwrap();
    assert_eq!(
        kind(apply_at(&mut cluster, Command::Take { of })),
        "refused"
    );
}

#[test]
fn while_the_clock_is_not_believed_none_is_begun_and_what_is_begun_ends() {
    let stop = |cluster: &mut Cluster| {
        let why = "wall time jumped".to_owned();
        let stop = retention::Command::Stop { why };
        cluster.apply(Any::Retention(stop)).unwrap();
    };
    let mut waiting = cluster(of_group());
    waiting.now_unix_ms += HOUR;
    slot(&mut waiting, 0).unwrap();
    stop(&mut waiting);
    assert_eq!(take(&mut waiting).unwrap_err().kind, "refused");
    let (mut cluster, of) = begun(of_group());
    stop(&mut cluster);
    taken(&mut cluster, &of, None).unwrap();
    assert_eq!(last(&cluster).outcome, Outcome::Succeeded);
}

#[test]
fn a_backup_of_a_shard_is_not_taken_so_and_no_other_schedule_is_meant() {
    let mut of_shards = cluster(spec());
    of_shards.now_unix_ms += HOUR;
    slot(&mut of_shards, 0).unwrap();
    let of = next_try(&of_shards, "commerce/0");
    let take = Command::Take { of: of.clone() };
    assert_eq!(kind(apply_at(&mut of_shards, take)), "invalid");
    begin(&mut of_shards, "commerce/0").unwrap();
    assert_eq!(kind(taken(&mut of_shards, &of, None)), "conflict");
    assert_eq!(being_taken(&of_shards), []);

    let (mut cluster, of) = begun(of_group());
    let of_another = Try {
        id: OperationId::generate(),
        ..of.clone()
    };
    assert!(cluster.state.schedules.are_taking(&of));
    assert!(!cluster.state.schedules.are_taking(&of_another));
    assert_eq!(kind(taken(&mut cluster, &of_another, None)), "fenced");
    let remove = Command::Remove {
        name: "nightly".into(),
        now_unix_ms: cluster.now_unix_ms,
    };
    apply_at(&mut cluster, remove).unwrap();
    assert!(!cluster.state.schedules.are_taking(&of));
    assert_eq!(kind(taken(&mut cluster, &of, None)), "not found");
}

#[test]
fn another_job_calls_it_off_and_another_number_that_stays_does_not() {
    let (mut cluster, of) = begun(of_group());
    let keeping = Spec {
        job: Job::GroupBackup { keep: 5 },
        ..of_group()
    };
    set(&mut cluster, keeping).unwrap();
    assert_eq!(being_taken(&cluster), [(1, 5)]);
    set(&mut cluster, spec()).unwrap();
    assert_eq!(kind(taken(&mut cluster, &of, None)), "conflict");
    assert_eq!(nightly(&cluster).run, None);
    assert_eq!(last(&cluster).outcome, Outcome::Cancelled);
    assert_eq!(nightly(&cluster).failures_in_a_row(), 0);
    // What only waits for its turn is not in the way of the next slot either.
    set(&mut cluster, of_group()).unwrap();
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    set(&mut cluster, spec()).unwrap();
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    begin(&mut cluster, "commerce/0").unwrap();
    assert_eq!(nightly(&cluster).missed, 0);
}

#[test]
fn backups_of_shards_go_on_when_it_becomes_the_job_and_are_not_tried_again() {
    let mut cluster = cluster(spec());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let id = begin(&mut cluster, "commerce/0").unwrap();
    fail_to_begin(&mut cluster, "commerce/1").unwrap();
    set(&mut cluster, of_group()).unwrap();
    use PartState::*;
    assert_eq!(states(&cluster), [Running, Failed, Cancelled]);
    assert_eq!(being_taken(&cluster), []);
    break_off(&mut cluster, id);
    let operation = cluster.state.operations.get(&id).unwrap();
    assert_eq!(operation.state, OperationState::Failed);
    assert_eq!(nightly(&cluster).run, None);
    assert_eq!(last(&cluster).outcome, Outcome::Failed);
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    take(&mut cluster).unwrap();
}

#[test]
fn the_newest_is_remembered_in_whatever_order_they_are_noted() {
    let mut cluster = Cluster::new();
    let note = |cluster: &mut Cluster, name: &str, taken_unix_ms| {
        let name = name.to_owned();
        let noted = Any::GroupBackedUp(GroupBackup {
            name,
            taken_unix_ms,
        });
        cluster.apply(noted).unwrap();
        cluster.state.group_backup.clone().unwrap().name
    };
    assert_eq!(note(&mut cluster, "first", 1_000), "first");
    assert_eq!(note(&mut cluster, "newer", 3_000), "newer");
    assert_eq!(note(&mut cluster, "late", 2_000), "newer");
}

//! What becomes of slots, runs and tries.

use super::*;
use crate::state::{
    Command as Any, Refusal, operations,
    operations::OperationState,
    retention,
    testing::{Cluster, alias},
};

pub const MINUTE: u64 = 60_000;
pub const HOUR: u64 = 60 * MINUTE;
pub const DAY: u64 = 24 * HOUR;
/// When the cluster of the tests is set up.
pub const START: u64 = 1_792_000_000_000;

pub fn spec() -> Spec {
    Spec {
        scope: Scope::Keyspace("commerce".into()),
        cron: "0 3 * * *".into(),
        zone: "UTC".into(),
        job: Job::Backup {
            concurrency: 4,
            no_wait: false,
            allow_primary: false,
            deadline_ms: DAY,
        },
        at_once: 2,
        spread_ms: 0,
        tries: 3,
        retry_ms: MINUTE,
        history: 2,
    }
}

/// Three shards of one keyspace, and one of another; a schedule for the one keyspace.
pub fn cluster(spec: Spec) -> Cluster {
    let mut cluster = Cluster::with_primary();
    cluster.add_shard("commerce/1", &["zone1-200", "zone1-201"]);
    cluster.add_shard("commerce/2", &["zone1-300", "zone1-301"]);
    cluster.add_shard("other/0", &["zone1-400", "zone1-401"]);
    cluster.now_unix_ms = START;
    set(&mut cluster, spec).unwrap();
    cluster
}

pub fn apply_at(cluster: &mut Cluster, command: Command) -> Result<Response, Refusal> {
    cluster.apply(Any::Schedules(command))
}

pub fn set(cluster: &mut Cluster, spec: Spec) -> Result<Response, Refusal> {
    let command = Command::Set {
        name: "nightly".into(),
        id: OperationId::generate(),
        spec,
        now_unix_ms: cluster.now_unix_ms,
    };
    apply_at(cluster, command)
}

pub fn nightly(cluster: &Cluster) -> &Schedule {
    cluster.state.schedules.get("nightly").unwrap()
}

/// A slot comes at the cluster's time.
pub fn slot(cluster: &mut Cluster, missed: u64) -> Result<Response, Refusal> {
    let command = Command::Slot {
        name: "nightly".into(),
        id: nightly(cluster).id,
        slot_unix_ms: cluster.now_unix_ms,
        missed,
        now_unix_ms: cluster.now_unix_ms,
    };
    apply_at(cluster, command)
}

pub fn next_try(cluster: &Cluster, shard: &str) -> Try {
    let schedule = nightly(cluster);
    let run = schedule.run.as_ref().unwrap();
    let part = run
        .parts
        .iter()
        .find(|part| described(part.shard.as_ref()) == shard);
    Try {
        name: "nightly".into(),
        id: schedule.id,
        run: run.number,
        // The group is none.
        shard: shard.parse().ok(),
        number: part.map_or(0, |part| part.tries) + 1,
        now_unix_ms: cluster.now_unix_ms,
    }
}

pub fn replica_of(shard: &str) -> Alias {
    alias(match shard {
        "commerce/0" => "zone1-101",
        "commerce/1" => "zone1-201",
        "commerce/2" => "zone1-301",
        _ => "zone1-401",
    })
}

pub fn begin(cluster: &mut Cluster, shard: &str) -> Result<OperationId, Refusal> {
    let of = next_try(cluster, shard);
    let alias = replica_of(shard);
    match apply_at(cluster, Command::Begin { of, alias })? {
        Response::Operation(operation) => Ok(operation.id),
        other => panic!("{other:?}"),
    }
}

pub fn fail_to_begin(cluster: &mut Cluster, shard: &str) -> Result<Response, Refusal> {
    let of = next_try(cluster, shard);
    let error = "no tablet available".to_owned();
    apply_at(cluster, Command::Fail { of, error })
}

pub fn succeed(cluster: &mut Cluster, id: OperationId) {
    cluster.complete_copy(id, "0-100-1").unwrap();
    cluster.finish(id).unwrap();
}

pub fn break_off(cluster: &mut Cluster, id: OperationId) {
    let error = Error::refused("the disk is full").into();
    cluster
        .operate(operations::Command::Fail { id, error })
        .unwrap();
    cluster.abandon(id).unwrap();
    cluster.finish(id).unwrap();
}

pub fn states(cluster: &Cluster) -> Vec<PartState> {
    let run = nightly(cluster).run.as_ref().unwrap();
    run.parts.iter().map(|part| part.state).collect()
}

pub fn pause(cluster: &mut Cluster, until_unix_ms: Option<u64>) -> Result<Response, Refusal> {
    let command = Command::Pause {
        name: "nightly".into(),
        until_unix_ms,
        now_unix_ms: cluster.now_unix_ms,
    };
    apply_at(cluster, command)
}

pub fn resume(cluster: &mut Cluster) {
    let command = Command::Resume {
        name: "nightly".into(),
        now_unix_ms: cluster.now_unix_ms,
    };
    apply_at(cluster, command).unwrap();
}

#[test]
fn a_slot_begins_a_run_of_the_shards_in_scope_so_many_at_once_and_never_twice() {
    let mut cluster = cluster(spec());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let shards = &nightly(&cluster).run.as_ref().unwrap().parts;
    let shards: Vec<String> = shards
        .iter()
        .map(|part| described(part.shard.as_ref()))
        .collect();
    assert_eq!(shards, ["commerce/0", "commerce/1", "commerce/2"]);
    let again = slot(&mut cluster, 0).unwrap_err();
    assert!(again.message.contains("is done with"), "{}", again.message);

    let first = begin(&mut cluster, "commerce/0").unwrap();
    let second = begin(&mut cluster, "commerce/1").unwrap();
    let third = begin(&mut cluster, "commerce/2").unwrap_err();
    assert!(third.message.contains("as many shards"), "{third:?}");
    succeed(&mut cluster, first);
    let third = begin(&mut cluster, "commerce/2").unwrap();
    succeed(&mut cluster, second);
    cluster.now_unix_ms += MINUTE;
    succeed(&mut cluster, third);
    let schedule = nightly(&cluster);
    assert_eq!(schedule.run, None);
    let last = schedule.last.as_ref().unwrap();
    assert_eq!((last.outcome, last.shards), (Outcome::Succeeded, 3));
    assert_eq!(schedule.last_success_unix_ms, Some(START + HOUR + MINUTE));
}

#[test]
fn a_try_is_begun_once_and_whoever_repeats_it_is_told_so() {
    let mut cluster = cluster(spec());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let of = next_try(&cluster, "commerce/0");
    let alias = replica_of("commerce/0");
    let begin = Command::Begin { of, alias };
    apply_at(&mut cluster, begin.clone()).unwrap();
    let again = apply_at(&mut cluster, begin).unwrap_err();
    assert_eq!(again.kind, "conflict");
    assert_eq!(cluster.state.operations.open().count(), 1);
    let mut of = next_try(&cluster, "commerce/1");
    of.id = OperationId::generate();
    let alias = replica_of("commerce/1");
    let of_another = apply_at(&mut cluster, Command::Begin { of, alias }).unwrap_err();
    assert_eq!(of_another.kind, "fenced");
    let of = next_try(&cluster, "commerce/1");
    let alias = replica_of("commerce/2");
    let elsewhere = apply_at(&mut cluster, Command::Begin { of, alias }).unwrap_err();
    assert_eq!(elsewhere.kind, "invalid");
}

#[test]
fn a_slot_that_comes_while_the_run_before_is_at_work_is_passed_over() {
    let mut cluster = cluster(spec());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let id = begin(&mut cluster, "commerce/0").unwrap();
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let run = nightly(&cluster).run.clone().unwrap();
    assert_eq!((run.number, run.slot_unix_ms), (1, START + HOUR));
    assert_eq!(nightly(&cluster).missed, 1);
    assert_eq!(states(&cluster)[0], PartState::Running);
    // The others have not had their turn: also then it is still at work.
    succeed(&mut cluster, id);
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    assert_eq!(nightly(&cluster).run.as_ref().unwrap().number, 1);
    assert_eq!(nightly(&cluster).missed, 2);
}

#[test]
fn a_run_that_only_waits_to_try_again_makes_place_for_the_next_slot() {
    let mut cluster = cluster(Spec {
        scope: Scope::Shard("commerce/0".parse().unwrap()),
        ..spec()
    });
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    fail_to_begin(&mut cluster, "commerce/0").unwrap();
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let schedule = nightly(&cluster);
    assert_eq!(schedule.run.as_ref().unwrap().number, 2);
    assert_eq!(schedule.last.as_ref().unwrap().outcome, Outcome::Failed);
    assert_eq!((schedule.missed, schedule.failures_in_a_row()), (0, 1));
}

#[test]
fn what_failed_is_tried_again_after_growing_pauses_and_only_so_often() {
    let mut cluster = cluster(Spec {
        scope: Scope::Shard("commerce/0".parse().unwrap()),
        ..spec()
    });
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let id = begin(&mut cluster, "commerce/0").unwrap();
    assert_eq!(nightly(&cluster).failures_in_a_row(), 0);
    cluster.now_unix_ms += 10 * MINUTE;
    break_off(&mut cluster, id);
    assert_eq!(states(&cluster), [PartState::Waiting]);
    assert_eq!(nightly(&cluster).failures_in_a_row(), 1, "the alarm is up");
    cluster.now_unix_ms += MINUTE - 1;
    assert_eq!(
        begin(&mut cluster, "commerce/0").unwrap_err().kind,
        "conflict"
    );
    cluster.now_unix_ms += 1;
    let second = begin(&mut cluster, "commerce/0").unwrap();
    assert_ne!(second, id);
    break_off(&mut cluster, second);
    cluster.now_unix_ms += 2 * MINUTE - 1;
    assert_eq!(
        begin(&mut cluster, "commerce/0").unwrap_err().kind,
        "conflict"
    );
    cluster.now_unix_ms += 1;
    fail_to_begin(&mut cluster, "commerce/0").unwrap();
    let schedule = nightly(&cluster);
    assert_eq!(schedule.run, None, "three tries, no more");
    let last = schedule.last.clone().unwrap();
    assert_eq!(last.outcome, Outcome::Failed);
    assert_eq!(last.errors, ["commerce/0: no tablet available"]);
    assert_eq!(schedule.failures_in_a_row(), 1);
    // One that succeeds ends the alarm.
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let id = begin(&mut cluster, "commerce/0").unwrap();
    assert_eq!(nightly(&cluster).failures_in_a_row(), 1);
    succeed(&mut cluster, id);
    assert_eq!(nightly(&cluster).failures_in_a_row(), 0);
}

#[test]
fn pauses_between_tries_double_up_to_an_hour() {
    let pauses: Vec<u64> = (1..=9)
        .map(|n| course::pause_ms(MINUTE, n) / MINUTE)
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(course::pause_ms(2 * HOUR, 70), 2 * HOUR);
}

#[test]
fn what_an_operator_called_off_is_neither_tried_again_nor_an_alarm() {
    let mut cluster = cluster(Spec {
        scope: Scope::Shard("commerce/0".parse().unwrap()),
        ..spec()
    });
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let id = begin(&mut cluster, "commerce/0").unwrap();
    cluster.cancel(id).unwrap();
    cluster.abandon(id).unwrap();
    cluster.finish(id).unwrap();
    let schedule = nightly(&cluster);
    assert_eq!(schedule.run, None);
    assert_eq!(schedule.last.as_ref().unwrap().outcome, Outcome::Cancelled);
    assert_eq!(schedule.failures_in_a_row(), 0);
    assert_eq!(schedule.last_success_unix_ms, None);
}

#[test]
fn a_pause_keeps_slots_from_beginning_and_they_are_not_caught_up() {
    let mut cluster = cluster(spec());
    cluster.now_unix_ms += HOUR;
    let until = cluster.now_unix_ms + DAY;
    assert_eq!(
        pause(&mut cluster, Some(START)).unwrap_err().kind,
        "invalid"
    );
    pause(&mut cluster, Some(until)).unwrap();
    cluster.now_unix_ms += HOUR;
    assert_eq!(slot(&mut cluster, 0).unwrap_err().kind, "refused");
    // It is over: what came in it is done with.
    let in_pause = cluster.now_unix_ms;
    cluster.now_unix_ms = until + HOUR;
    assert_eq!(
        nightly(&cluster).done_until_unix_ms(cluster.now_unix_ms),
        until
    );
    let late = Command::Slot {
        name: "nightly".into(),
        id: nightly(&cluster).id,
        slot_unix_ms: in_pause,
        missed: 0,
        now_unix_ms: cluster.now_unix_ms,
    };
    assert_eq!(apply_at(&mut cluster, late).unwrap_err().kind, "conflict");
    slot(&mut cluster, 0).unwrap();
    assert_eq!(nightly(&cluster).pause, None);
    // One without an end is ended by hand.
    pause(&mut cluster, None).unwrap();
    cluster.now_unix_ms += 100 * DAY;
    assert_eq!(slot(&mut cluster, 0).unwrap_err().kind, "refused");
    resume(&mut cluster);
    let done = nightly(&cluster).done_until_unix_ms(cluster.now_unix_ms);
    assert_eq!(done, cluster.now_unix_ms);
    // To resume what is not paused changes nothing of what is due.
    cluster.now_unix_ms += DAY;
    resume(&mut cluster);
    let still = nightly(&cluster).done_until_unix_ms(cluster.now_unix_ms);
    assert_eq!(still, done);
}

#[test]
fn a_pause_lets_what_runs_go_on_and_begins_nothing_more() {
    let mut cluster = cluster(spec());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let id = begin(&mut cluster, "commerce/0").unwrap();
    fail_to_begin(&mut cluster, "commerce/1").unwrap();
    pause(&mut cluster, None).unwrap();
    use PartState::*;
    assert_eq!(states(&cluster), [Running, Failed, Cancelled]);
    // Also a failure is not made good while it is paused.
    break_off(&mut cluster, id);
    let last = nightly(&cluster).last.as_ref().unwrap();
    assert_eq!((last.outcome, last.succeeded), (Outcome::Failed, 0));
    assert_eq!(nightly(&cluster).run, None);
}

#[test]
fn neither_a_limit_of_history_nor_the_removal_of_all_of_it_brings_a_slot_back() {
    let mut cluster = cluster(Spec {
        history: 0,
        scope: Scope::Shard("commerce/0".parse().unwrap()),
        ..spec()
    });
    cluster.now_unix_ms += HOUR;
    let now_unix_ms = cluster.now_unix_ms;
    slot(&mut cluster, 0).unwrap();
    let id = begin(&mut cluster, "commerce/0").unwrap();
    succeed(&mut cluster, id);
    assert!(nightly(&cluster).history.is_empty());
    assert!(nightly(&cluster).last.is_some());
    assert_eq!(slot(&mut cluster, 0).unwrap_err().kind, "conflict");
    assert_eq!(
        nightly(&cluster).done_until_unix_ms(now_unix_ms),
        now_unix_ms
    );
}

#[test]
fn a_schedule_that_is_set_anew_begins_no_slot_of_before() {
    let mut cluster = cluster(spec());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let before = cluster.now_unix_ms;
    cluster.now_unix_ms += HOUR;
    // Another limit is no other time.
    set(
        &mut cluster,
        Spec {
            at_once: 1,
            ..spec()
        },
    )
    .unwrap();
    assert_eq!(
        nightly(&cluster).done_until_unix_ms(cluster.now_unix_ms),
        before
    );
    let hourly = Spec {
        cron: "0 * * * *".into(),
        ..spec()
    };
    set(&mut cluster, hourly).unwrap();
    let done = nightly(&cluster).done_until_unix_ms(cluster.now_unix_ms);
    assert_eq!(done, cluster.now_unix_ms);
    let id = nightly(&cluster).id;
    let remove = Command::Remove {
        name: "nightly".into(),
        now_unix_ms: cluster.now_unix_ms,
    };
    apply_at(&mut cluster, remove.clone()).unwrap();
    assert_eq!(
        apply_at(&mut cluster, remove).unwrap_err().kind,
        "not found"
    );
    set(&mut cluster, spec()).unwrap();
    assert_ne!(nightly(&cluster).id, id);
    let done = nightly(&cluster).done_until_unix_ms(cluster.now_unix_ms);
    assert_eq!(done, cluster.now_unix_ms);
}

#[test]
fn time_that_goes_back_brings_no_slot_back_and_makes_none_of_the_future_due() {
    let mut cluster = cluster(spec());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    cluster.now_unix_ms -= 5 * MINUTE;
    assert_eq!(slot(&mut cluster, 0).unwrap_err().kind, "conflict");
    assert_eq!(cluster.state.schedules.seen_unix_ms(), START + HOUR);
    let ahead = Command::Slot {
        name: "nightly".into(),
        id: nightly(&cluster).id,
        slot_unix_ms: START + 2 * HOUR,
        missed: 0,
        now_unix_ms: cluster.now_unix_ms,
    };
    assert_eq!(apply_at(&mut cluster, ahead).unwrap_err().kind, "invalid");
}

#[test]
fn nothing_begins_while_the_clock_is_not_believed_and_a_wrong_future_comes_back() {
    let mut cluster = cluster(spec());
    let resumed = |now_unix_ms| Any::Retention(retention::Command::Resume { now_unix_ms });
    // A clock that was a year ahead has had its slot.
    cluster.now_unix_ms += 365 * DAY;
    slot(&mut cluster, 0).unwrap();
    fail_to_begin(&mut cluster, "commerce/0").unwrap();
    let why = "wall time jumped back by 365days".to_owned();
    cluster
        .apply(Any::Retention(retention::Command::Stop { why }))
        .unwrap();
    cluster.now_unix_ms += HOUR;
    let stopped = slot(&mut cluster, 0).unwrap_err();
    assert!(stopped.message.contains("jumped back"), "{stopped:?}");
    assert_eq!(
        begin(&mut cluster, "commerce/1").unwrap_err().kind,
        "refused"
    );
    cluster.now_unix_ms = START + HOUR;
    cluster.apply(resumed(cluster.now_unix_ms)).unwrap();
    let schedule = nightly(&cluster);
    assert_eq!(schedule.done_until_unix_ms(START + HOUR), START + HOUR);
    let put_off = schedule.run.as_ref().unwrap().parts[0].not_before_unix_ms;
    assert!(put_off <= START + 2 * HOUR);
    // One that was a few minutes ahead has had its slot all the same.
    cluster.now_unix_ms += HOUR;
    let of_slot = cluster.now_unix_ms;
    slot(&mut cluster, 0).unwrap();
    cluster.apply(resumed(of_slot - 5 * MINUTE)).unwrap();
    assert_eq!(slot(&mut cluster, 0).unwrap_err().kind, "conflict");
}

#[test]
fn the_shards_of_a_run_are_spread_over_its_time_always_at_the_same_places() {
    let spread = Spec {
        spread_ms: HOUR,
        ..spec()
    };
    let mut cluster = cluster(spread);
    for n in 3..40 {
        let primary = format!("zone2-{n}");
        cluster.add_shard(&format!("commerce/{n}"), &[&primary]);
    }
    let places = |cluster: &mut Cluster| -> Vec<u64> {
        cluster.now_unix_ms += DAY;
        let at = cluster.now_unix_ms;
        slot(cluster, 0).unwrap();
        let run = nightly(cluster).run.as_ref().unwrap();
        let parts = run.parts.iter();
        parts.map(|part| part.not_before_unix_ms - at).collect()
    };
    let first = places(&mut cluster);
    assert!(first.iter().all(|at| *at < HOUR));
    for quarter in 0..4 {
        let of_quarter = |at: &&u64| **at / (HOUR / 4) == quarter;
        let count = first.iter().filter(of_quarter).count();
        assert!(
            (4..=16).contains(&count),
            "{count} of 40 in quarter {quarter}"
        );
    }
    let early = first.iter().position(|at| *at > 0).unwrap();
    let early = &nightly(&cluster).run.as_ref().unwrap().parts[early];
    let shard = described(early.shard.as_ref());
    let not_yet = fail_to_begin(&mut cluster, &shard).unwrap_err();
    assert_eq!(not_yet.kind, "conflict");
    pause(&mut cluster, None).unwrap();
    resume(&mut cluster);
    assert_eq!(places(&mut cluster), first);
}

#[test]
fn a_run_without_a_shard_has_failed_and_says_so() {
    let mut cluster = cluster(Spec {
        scope: Scope::Keyspace("nowhere".into()),
        ..spec()
    });
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let schedule = nightly(&cluster);
    let last = schedule.last.as_ref().unwrap();
    assert_eq!(last.errors, ["there was no shard in nowhere"]);
    assert_eq!(schedule.failures_in_a_row(), 1);
}

#[test]
fn a_backup_that_is_refused_leaves_the_try_as_it_was() {
    let mut cluster = cluster(spec());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let by_hand = cluster
        .start(crate::state::testing::backup_of("zone1-102"))
        .unwrap();
    let before = nightly(&cluster).clone();
    let refused = begin(&mut cluster, "commerce/0").unwrap_err();
    assert!(
        refused.message.contains("is being backed up"),
        "{refused:?}"
    );
    assert_eq!(nightly(&cluster), &before);
    succeed(&mut cluster, by_hand.id);
    let id = begin(&mut cluster, "commerce/0").unwrap();
    let operation = cluster.state.operations.get(&id).unwrap();
    assert_eq!(operation.state, OperationState::Running);
    assert_eq!(operation.deadline_unix_ms - operation.created_unix_ms, DAY);
}

#[test]
fn a_state_from_before_there_were_schedules_is_read() {
    let mut value = serde_json::to_value(Cluster::with_primary().state).unwrap();
    value.as_object_mut().unwrap().remove("schedules").unwrap();
    let back: State = serde_json::from_value(value).unwrap();
    assert_eq!(back.schedules, Schedules::default());
}

#[test]
fn a_part_that_an_older_version_has_written_is_still_of_its_shard() {
    let mut cluster = cluster(spec());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let part = nightly(&cluster).run.as_ref().unwrap().parts[0].clone();
    let shard: ShardId = "commerce/0".parse().unwrap();
    let mut older = serde_json::to_value(&part).unwrap();
    older["shard"] = serde_json::to_value(&shard).unwrap();
    assert_eq!(serde_json::from_value::<Part>(older).unwrap(), part);
    assert_eq!(part.shard, Some(shard));
}

//! At the edges: a slot that begins late, a run of which only a part succeeds, what is stale, bounds.

use super::{tests::*, *};
use crate::state::{Command as Any, Refusal, retention, testing::Cluster};

fn one_shard() -> Spec {
    Spec {
        scope: Scope::Shard("commerce/0".parse().unwrap()),
        ..spec()
    }
}

/// A slot of some time comes at the cluster's time.
fn slot_of(cluster: &mut Cluster, slot_unix_ms: u64) -> Result<Response, Refusal> {
    let command = Command::Slot {
        name: "nightly".into(),
        id: nightly(cluster).id,
        slot_unix_ms,
        missed: 0,
        now_unix_ms: cluster.now_unix_ms,
    };
    apply_at(cluster, command)
}

/// A slot comes, and its one shard is backed up or not.
fn run_one(cluster: &mut Cluster, end: fn(&mut Cluster, OperationId)) -> OperationId {
    cluster.now_unix_ms += HOUR;
    slot(cluster, 0).unwrap();
    let id = begin(cluster, "commerce/0").unwrap();
    end(cluster, id);
    id
}

fn cancel(cluster: &mut Cluster, id: OperationId) {
    cluster.cancel(id).unwrap();
    cluster.abandon(id).unwrap();
    cluster.finish(id).unwrap();
}

#[test]
fn a_slot_that_begins_late_leaves_those_after_it_to_come_and_is_spread_from_then_on() {
    let mut cluster = cluster(Spec {
        spread_ms: HOUR,
        ..spec()
    });
    cluster.now_unix_ms += 10 * HOUR;
    slot_of(&mut cluster, START + MINUTE).unwrap();
    let done = nightly(&cluster).done_until_unix_ms(cluster.now_unix_ms);
    assert_eq!(done, START + MINUTE);
    let run = nightly(&cluster).run.as_ref().unwrap();
    let begun = START + 10 * HOUR;
    let times = run.parts.iter().map(|part| part.not_before_unix_ms);
    assert!(
        times.clone().all(|at| (begun..begun + HOUR).contains(&at)),
        "{run:?}"
    );
    assert!(times.max() > Some(begun), "not all at once");
}

#[test]
fn a_run_succeeds_when_every_shard_does_and_no_sooner() {
    let mut cluster = cluster(Spec { tries: 1, ..spec() });
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    fail_to_begin(&mut cluster, "commerce/0").unwrap();
    for shard in ["commerce/1", "commerce/2"] {
        let id = begin(&mut cluster, shard).unwrap();
        succeed(&mut cluster, id);
    }
    let schedule = nightly(&cluster);
    let last = schedule.last.as_ref().unwrap();
    assert_eq!((last.outcome, last.succeeded), (Outcome::Failed, 2));
    assert_eq!(schedule.failures_in_a_row(), 1);
    assert_eq!(schedule.last_success_unix_ms, None);
}

#[test]
fn a_failure_that_was_made_good_leaves_no_error() {
    let mut cluster = cluster(one_shard());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    fail_to_begin(&mut cluster, "commerce/0").unwrap();
    cluster.now_unix_ms += MINUTE;
    let id = begin(&mut cluster, "commerce/0").unwrap();
    succeed(&mut cluster, id);
    let last = nightly(&cluster).last.as_ref().unwrap();
    assert_eq!(last.outcome, Outcome::Succeeded);
    assert_eq!(last.errors, [""; 0]);
}

#[test]
fn one_that_an_operator_called_off_does_not_end_an_alarm() {
    let mut cluster = cluster(Spec {
        tries: 1,
        ..one_shard()
    });
    run_one(&mut cluster, break_off);
    assert_eq!(nightly(&cluster).failures_in_a_row(), 1);
    run_one(&mut cluster, cancel);
    assert_eq!(nightly(&cluster).failures_in_a_row(), 1);
    run_one(&mut cluster, break_off);
    assert_eq!(nightly(&cluster).failures_in_a_row(), 2);
    assert_eq!(nightly(&cluster).last_success_unix_ms, None);
    run_one(&mut cluster, succeed);
    assert_eq!(nightly(&cluster).failures_in_a_row(), 0);
}

#[test]
fn history_forgets_the_oldest_and_the_same_try_of_each_run_is_another_operation() {
    let mut cluster = cluster(one_shard());
    let ids = [(); 3].map(|()| run_one(&mut cluster, succeed));
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    let numbers = |cluster: &Cluster| -> Vec<u64> {
        let history = nightly(cluster).history.iter();
        history.map(|run| run.number).collect()
    };
    assert_eq!(numbers(&cluster), [2, 3]);
    let fewer = Spec {
        history: 1,
        ..one_shard()
    };
    let done = nightly(&cluster).done_until_unix_ms(cluster.now_unix_ms);
    set(&mut cluster, fewer).unwrap();
    assert_eq!(numbers(&cluster), [3]);
    let still = nightly(&cluster).done_until_unix_ms(cluster.now_unix_ms);
    assert_eq!(still, done);
}

#[test]
fn what_was_meant_for_a_run_or_a_schedule_of_before_is_refused() {
    let mut cluster = cluster(one_shard());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let stale = next_try(&cluster, "commerce/0");
    // The next slot takes the place of what only waits to be tried again.
    fail_to_begin(&mut cluster, "commerce/0").unwrap();
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let fail = Command::Fail {
        of: stale,
        error: "late".into(),
    };
    assert_eq!(apply_at(&mut cluster, fail).unwrap_err().kind, "conflict");
    assert_eq!(nightly(&cluster).run.as_ref().unwrap().parts[0].tries, 0);

    cluster.now_unix_ms += HOUR;
    let of_before = Command::Slot {
        name: "nightly".into(),
        id: OperationId::generate(),
        slot_unix_ms: cluster.now_unix_ms,
        missed: 0,
        now_unix_ms: cluster.now_unix_ms,
    };
    let refused = apply_at(&mut cluster, of_before).unwrap_err();
    assert_eq!(refused.kind, "fenced");
}

#[test]
fn another_zone_is_other_times_and_a_schedule_that_is_set_anew_stays_paused() {
    let mut cluster = cluster(spec());
    pause(&mut cluster, None).unwrap();
    cluster.now_unix_ms += HOUR;
    let elsewhere = Spec {
        zone: "Europe/Zurich".into(),
        ..spec()
    };
    set(&mut cluster, elsewhere).unwrap();
    let done = nightly(&cluster).done_until_unix_ms(cluster.now_unix_ms);
    assert_eq!(done, START + HOUR);
    assert!(nightly(&cluster).paused_at(u64::MAX));
}

#[test]
fn while_the_clock_is_not_believed_no_try_counts_as_failed() {
    let mut cluster = cluster(Spec {
        spread_ms: 4 * HOUR,
        ..spec()
    });
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let before = nightly(&cluster).run.clone();
    let why = "wall time jumped".to_owned();
    cluster
        .apply(Any::Retention(retention::Command::Stop { why }))
        .unwrap();
    cluster.now_unix_ms += 4 * HOUR;
    let refused = fail_to_begin(&mut cluster, "commerce/0").unwrap_err();
    assert!(refused.message.contains("wall time jumped"), "{refused:?}");
    // A clock that was right after all takes no shard its place in the spread.
    let resume = retention::Command::Resume {
        now_unix_ms: START + HOUR,
    };
    cluster.apply(Any::Retention(resume)).unwrap();
    assert_eq!(nightly(&cluster).run, before);
}

#[test]
fn a_backup_may_take_as_long_as_was_said() {
    let Job::Backup {
        concurrency,
        no_wait,
        allow_primary,
        ..
    } = spec().job
    else {
        unreachable!("it backs up");
    };
    let mut cluster = cluster(Spec {
        job: Job::Backup {
            concurrency,
            no_wait,
            allow_primary,
            deadline_ms: 2 * HOUR,
        },
        ..spec()
    });
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let id = begin(&mut cluster, "commerce/0").unwrap();
    let operation = cluster.state.operations.get(&id).unwrap();
    let takes_ms = operation.deadline_unix_ms - operation.created_unix_ms;
    assert_eq!(takes_ms, 2 * HOUR);
}

#[test]
fn errors_are_bounded_in_number_and_length() {
    let mut cluster = cluster(Spec { tries: 1, ..spec() });
    for n in 3..10 {
        let primary = format!("zone2-{n}");
        cluster.add_shard(&format!("commerce/{n}"), &[&primary]);
    }
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    for n in 0..10 {
        let of = next_try(&cluster, &format!("commerce/{n}"));
        // Its 300th byte is in the middle of a character.
        let error = format!("x{}", "\u{e4}".repeat(1000));
        apply_at(&mut cluster, Command::Fail { of, error }).unwrap();
    }
    let last = nightly(&cluster).last.as_ref().unwrap();
    assert_eq!((last.shards, last.succeeded, last.errors.len()), (10, 0, 5));
    let longest = last.errors.iter().map(String::len).max();
    assert!(longest < Some(320), "{last:?}");
}

#[test]
fn bounds_that_make_no_sense_are_refused_and_so_is_one_schedule_too_many() {
    let mut cluster = cluster(spec());
    for spec in [
        Spec { tries: 0, ..spec() },
        Spec {
            at_once: 0,
            ..spec()
        },
        Spec {
            history: HISTORY_MAX + 1,
            ..spec()
        },
    ] {
        assert_eq!(set(&mut cluster, spec).unwrap_err().kind, "invalid");
    }
    let set_named = |cluster: &mut Cluster, n: usize| {
        let command = Command::Set {
            name: format!("n{n}"),
            id: OperationId::generate(),
            spec: spec(),
            now_unix_ms: cluster.now_unix_ms,
        };
        apply_at(cluster, command)
    };
    for n in 1..SCHEDULES_MAX {
        set_named(&mut cluster, n).unwrap();
    }
    let refused = set_named(&mut cluster, SCHEDULES_MAX).unwrap_err();
    assert_eq!(refused.kind, "exhausted");
    set_named(&mut cluster, 1).unwrap();
}

#[test]
fn what_a_clock_shows_that_is_behind_is_taken_for_the_latest_time_that_was_seen() {
    let mut cluster = cluster(one_shard());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    cluster.now_unix_ms -= 5 * MINUTE;
    fail_to_begin(&mut cluster, "commerce/0").unwrap();
    assert_eq!(cluster.state.schedules.seen_unix_ms(), START + HOUR);
    let part = &nightly(&cluster).run.as_ref().unwrap().parts[0];
    assert_eq!(part.not_before_unix_ms, START + HOUR + MINUTE);
    let other = Spec {
        at_once: 1,
        ..one_shard()
    };
    set(&mut cluster, other).unwrap();
    assert_eq!(nightly(&cluster).set_unix_ms, START + HOUR);
    assert_eq!(cluster.state.schedules.seen_unix_ms(), START + HOUR);
}

/// Whoever computes what is due looks again then.
#[test]
fn the_end_of_an_operation_of_a_run_is_a_change_and_that_of_another_is_not() {
    let mut cluster = cluster(one_shard());
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    let id = begin(&mut cluster, "commerce/0").unwrap();
    let before = cluster.state.schedules.changes();
    let by_hand = crate::state::testing::backup_of("zone1-201");
    let by_hand = cluster.start(by_hand).unwrap();
    succeed(&mut cluster, by_hand.id);
    assert_eq!(cluster.state.schedules.changes(), before);
    succeed(&mut cluster, id);
    assert!(cluster.state.schedules.changes() > before);
}

//! Schedules in the leader: what it begins and when, and what a new leader makes of it.

use std::{sync::atomic::Ordering, time::Duration};

use seawall_common::{Error, ids::OperationId};

use super::testing::{Clocked, Does};
use crate::{
    group::Group as _,
    state::{
        Command,
        locks::Scope,
        operations::{self, Operation, OperationState},
        retention,
        schedules::{self, Outcome, Spec},
        testing::{Cluster, backup_of},
    },
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

impl Clocked {
    pub(super) async fn propose(&self, command: schedules::Command) {
        let command = Command::Schedules(command);
        self.stage.group.propose(command).await.unwrap();
    }

    pub(super) async fn set(&self, spec: Spec) {
        self.set_named("nightly", spec).await;
    }

    pub(super) async fn set_named(&self, name: &str, spec: Spec) {
        self.propose(schedules::Command::Set {
            name: name.into(),
            id: OperationId::generate(),
            spec,
            now_unix_ms: self.wall_unix_ms(),
        })
        .await;
    }

    pub(super) async fn pause(&self, until_unix_ms: Option<u64>) {
        self.propose(schedules::Command::Pause {
            name: "nightly".into(),
            until_unix_ms,
            now_unix_ms: self.wall_unix_ms(),
        })
        .await;
    }

    pub(super) fn last(&self) -> Option<Outcome> {
        self.nightly().last.map(|run| run.outcome)
    }

    pub(super) fn runs(&self) -> u64 {
        let schedule = self.nightly();
        let ended = schedule.last.map_or(0, |run| run.number);
        schedule.run.map_or(ended, |run| run.number)
    }

    pub(super) fn backups(&self) -> Vec<Operation> {
        self.stage.look(|state| {
            let all = state.operations.iter();
            let backups = all.filter(|o| matches!(o.spec, operations::Spec::Backup { .. }));
            backups.cloned().collect()
        })
    }

    /// How often something was asked for that the state has refused.
    pub(super) fn refusals(&self) -> u32 {
        self.stage.group.schedule_refusals.load(Ordering::Relaxed)
    }

    fn backups_at_work(&self) -> usize {
        let all = self.backups();
        all.iter().filter(|o| o.state.is_open()).count()
    }
}

pub(super) fn hourly() -> Spec {
    Spec {
        cron: "0 * * * *".into(),
        tries: 4,
        history: 10,
        ..schedules::tests::spec()
    }
}

fn of_one_shard() -> Spec {
    Spec {
        scope: Scope::Shard("commerce/0".parse().unwrap()),
        ..hourly()
    }
}

pub(super) fn three_shards() -> Cluster {
    let mut cluster = Cluster::with_primary();
    cluster.add_shard("commerce/1", &["zone1-200", "zone1-201"]);
    cluster.add_shard("commerce/2", &["zone1-300", "zone1-301"]);
    cluster.add_shard("other/0", &["zone1-400", "zone1-401"]);
    cluster
}

#[tokio::test(start_paused = true)]
async fn at_each_slot_every_shard_in_scope_is_backed_up_of_a_replica_so_many_at_once() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    clocked.set(hourly()).await;
    tokio::time::sleep(29 * MINUTE).await;
    assert_eq!(clocked.backups().len(), 0, "its time has not come");
    stage.tell("copy", Does::Hang);
    stage.until(|| clocked.backups_at_work() == 2).await;
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(clocked.backups_at_work(), 2, "no more at once");
    stage.untell("copy");
    stage.lead(2);
    stage.until(|| clocked.last().is_some()).await;
    let run = clocked.nightly().last.unwrap();
    assert_eq!((run.outcome, run.succeeded), (Outcome::Succeeded, 3));
    assert_eq!(run.slot_unix_ms % 3_600_000, 0);
    let shards: Vec<String> = clocked
        .backups()
        .iter()
        .map(|o| o.shard.to_string())
        .collect();
    assert_eq!(shards.len(), 3, "{shards:?}");
    assert!(!shards.contains(&"other/0".to_owned()), "{shards:?}");
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(clocked.runs(), 3);
    assert_eq!(clocked.backups().len(), 9);
    let on_primary = stage.calls().iter().any(|call| call.tablet.ends_with("00"));
    assert!(!on_primary, "a primary was taken");
    assert_eq!(
        clocked.refusals(),
        0,
        "no more than may be at work is asked for"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_goes_on_with_the_run_and_begins_no_slot_and_no_try_again() {
    for step in ["prepare", "copy", "serve"] {
        let clocked = Clocked::new(three_shards());
        let stage = &clocked.stage;
        clocked.set(hourly()).await;
        stage.tell(step, Does::Hang);
        stage.called(step).await;
        for term in 2..6 {
            stage.resign(term * 2);
            stage.lead(term * 2 + 1);
            tokio::time::sleep(MINUTE).await;
        }
        assert_eq!(clocked.backups_at_work(), 2, "{step}");
        stage.untell(step);
        stage.lead(20);
        stage.until(|| clocked.last().is_some()).await;
        assert_eq!(clocked.last(), Some(Outcome::Succeeded), "{step}");
        assert_eq!(clocked.backups().len(), 3, "{step}");
        assert_eq!(clocked.runs(), 1, "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn slots_that_came_while_nobody_led_are_caught_up_once() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    clocked.set(of_one_shard()).await;
    stage.resign(2);
    tokio::time::sleep(5 * HOUR + 45 * MINUTE).await;
    assert_eq!(clocked.runs(), 0);
    stage.lead(3);
    stage.until(|| clocked.runs() == 1).await;
    // That its agents have not been heard yet costs no try.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(clocked.nightly().failures_in_a_row(), 0);
    assert_eq!(clocked.backups().len(), 1);
    let schedule = clocked.nightly();
    let of_run = schedule.run.map(|run| run.slot_unix_ms);
    let slot_unix_ms = of_run.or(schedule.last.map(|run| run.slot_unix_ms));
    assert!(
        clocked.wall_unix_ms() - slot_unix_ms.unwrap() < 16 * 60_000,
        "the last of them"
    );
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!((clocked.runs(), clocked.nightly().missed), (1, 5));
    tokio::time::sleep(HOUR).await;
    assert_eq!((clocked.runs(), clocked.nightly().missed), (2, 5));
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_fails_is_tried_again_with_growing_pauses_until_one_succeeds() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    clocked.set(of_one_shard()).await;
    stage.tell("note", Does::FailTimes(3));
    stage
        .until(|| clocked.nightly().failures_in_a_row() == 1)
        .await;
    let begun = tokio::time::Instant::now();
    stage.until(|| clocked.last().is_some()).await;
    // A minute, two, and four.
    let took = begun.elapsed();
    assert!((7 * MINUTE..9 * MINUTE).contains(&took), "{took:?}");
    assert_eq!(clocked.last(), Some(Outcome::Succeeded));
    assert_eq!(clocked.nightly().failures_in_a_row(), 0);
    let backups = clocked.backups();
    let failed = backups.iter().filter(|o| o.state == OperationState::Failed);
    assert_eq!((backups.len(), failed.count()), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn when_all_tries_have_failed_the_alarm_stays_up_and_the_next_slot_is_another_chance() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    let refused = Error::refused("the repository belongs to another group");
    *stage.store.owner.lock().unwrap() = Some(refused);
    clocked.set(of_one_shard()).await;
    stage.until(|| clocked.last().is_some()).await;
    let run = clocked.nightly().last.unwrap();
    assert_eq!(run.outcome, Outcome::Failed);
    assert!(
        run.errors[0].contains("belongs to another group"),
        "{run:?}"
    );
    assert_eq!(clocked.backups().len(), 0);
    tokio::time::sleep(HOUR).await;
    assert_eq!(clocked.nightly().failures_in_a_row(), 2);
    *stage.store.owner.lock().unwrap() = None;
    tokio::time::sleep(HOUR).await;
    assert_eq!(clocked.nightly().failures_in_a_row(), 0);
    assert_eq!(clocked.last(), Some(Outcome::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_longer_than_its_interval_is_not_overlapped_nor_run_behind_it() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    clocked.set(of_one_shard()).await;
    stage.tell("copy", Does::Hang);
    stage.called("copy").await;
    tokio::time::sleep(2 * HOUR + 30 * MINUTE).await;
    assert_eq!((clocked.backups().len(), clocked.nightly().missed), (1, 2));
    stage.untell("copy");
    stage.lead(2);
    stage.until(|| clocked.last().is_some()).await;
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(
        clocked.backups().len(),
        1,
        "what was passed over is not caught up"
    );
    stage.until(|| clocked.runs() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_backup_by_hand_that_is_in_the_way_is_waited_for_and_costs_no_try() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    stage.tell("copy", Does::Hang);
    let by_hand = stage.start(backup_of("zone1-102")).await;
    stage.called("copy").await;
    clocked.set(of_one_shard()).await;
    tokio::time::sleep(HOUR).await;
    let run = clocked.nightly().run.unwrap();
    assert_eq!((run.parts[0].tries, run.parts[0].error.as_str()), (0, ""));
    stage.untell("copy");
    stage.lead(2);
    stage.ended(by_hand).await;
    stage
        .until(|| clocked.last() == Some(Outcome::Succeeded))
        .await;
    assert_eq!(clocked.backups().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_paused_schedule_begins_nothing_until_its_pause_is_over() {
    let clocked = Clocked::new(three_shards());
    clocked.set(of_one_shard()).await;
    let until = clocked.wall_unix_ms() + 3 * 3_600_000;
    clocked.pause(Some(until)).await;
    tokio::time::sleep(3 * HOUR + 20 * MINUTE).await;
    assert_eq!(clocked.runs(), 0, "nothing of it is caught up");
    tokio::time::sleep(20 * MINUTE).await;
    assert_eq!(clocked.runs(), 1);
    clocked.pause(None).await;
    tokio::time::sleep(5 * HOUR).await;
    assert_eq!(clocked.runs(), 1);
    clocked
        .propose(schedules::Command::Resume {
            name: "nightly".into(),
            now_unix_ms: clocked.wall_unix_ms(),
        })
        .await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(clocked.runs(), 1);
    tokio::time::sleep(HOUR).await;
    assert_eq!((clocked.runs(), clocked.nightly().missed), (2, 0));
    assert_eq!(clocked.refusals(), 0, "no slot of a pause is asked for");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumped_stops_schedules_until_an_operator_says_that_it_is_right() {
    for jump_ms in [365 * 24 * 3_600_000, -20 * 60_000] {
        let clocked = Clocked::new(three_shards());
        let stage = &clocked.stage;
        clocked.set(of_one_shard()).await;
        tokio::time::sleep(HOUR).await;
        assert_eq!(clocked.runs(), 1, "{jump_ms}");
        clocked.off_ms.store(jump_ms, Ordering::Relaxed);
        let stopped = || stage.look(|state| state.retention.stopped().map(|stopped| stopped.why));
        stage.until(|| stopped().is_some()).await;
        tokio::time::sleep(3 * HOUR).await;
        assert_eq!(clocked.runs(), 1, "{jump_ms}");
        // Nor does another leader begin anything.
        stage.lead(2);
        tokio::time::sleep(3 * HOUR).await;
        assert_eq!(clocked.runs(), 1, "{jump_ms}");
        assert_eq!(clocked.refusals(), 0, "nothing is asked for: {jump_ms}");
        let now_unix_ms = clocked.wall_unix_ms();
        let resume = retention::Command::Resume { now_unix_ms };
        stage
            .group
            .propose(Command::Retention(resume))
            .await
            .unwrap();
        // What was missed is caught up once, and then it goes on.
        tokio::time::sleep(MINUTE).await;
        assert_eq!(clocked.runs(), 2, "{jump_ms}");
        tokio::time::sleep(HOUR).await;
        assert_eq!(clocked.runs(), 3, "{jump_ms}");
    }
}

/// A clock may be a little behind what was seen: then time stands, and nothing comes twice.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_a_little_brings_no_slot_again() {
    let clocked = Clocked::new(three_shards());
    clocked.set(of_one_shard()).await;
    tokio::time::sleep(32 * MINUTE).await;
    assert_eq!(clocked.runs(), 1);
    clocked.off_ms.store(-5 * 60_000, Ordering::Relaxed);
    tokio::time::sleep(20 * MINUTE).await;
    assert_eq!((clocked.runs(), clocked.backups().len()), (1, 1));
    tokio::time::sleep(45 * MINUTE).await;
    assert_eq!((clocked.runs(), clocked.nightly().missed), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_is_set_anew_while_time_stands_goes_by_its_new_times() {
    let clocked = Clocked::new(three_shards());
    clocked.set(of_one_shard()).await;
    clocked.off_ms.store(-5 * 60_000, Ordering::Relaxed);
    for cron in ["0 3 1 1 *", "* * * * *"] {
        let at = Spec {
            cron: cron.into(),
            ..of_one_shard()
        };
        clocked.set(at).await;
        tokio::time::sleep(MINUTE / 60).await;
    }
    tokio::time::sleep(7 * MINUTE).await;
    assert!(clocked.runs() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_slot_soon_after_the_end_of_a_pause_begins_in_time() {
    let clocked = Clocked::new(three_shards());
    tokio::time::sleep(MINUTE / 2).await;
    clocked.set(of_one_shard()).await;
    let until = clocked.wall_unix_ms() + 29 * 60_000 + 20_000;
    clocked.pause(Some(until)).await;
    tokio::time::sleep(29 * MINUTE + 29 * MINUTE / 60).await;
    assert_eq!(clocked.runs(), 0);
    tokio::time::sleep(MINUTE / 10).await;
    assert_eq!(clocked.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_cannot_commit_costs_no_try() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    clocked.set(of_one_shard()).await;
    stage.group.fail_tries.store(3, Ordering::Relaxed);
    stage.until(|| clocked.last().is_some()).await;
    assert_eq!(stage.group.fail_tries.load(Ordering::Relaxed), 0);
    let last = clocked.nightly().last.unwrap();
    assert_eq!(last.outcome, Outcome::Succeeded);
    // A try that had failed would have been followed by a pause of a minute.
    let took_ms = last.ended_unix_ms - last.begun_unix_ms;
    assert!(took_ms < 30_000, "{took_ms}");
}

#[tokio::test(start_paused = true)]
async fn a_primary_is_not_taken_for_want_of_a_replica_unless_that_is_allowed() {
    for is_allowed in [false, true] {
        let mut cluster = Cluster::new();
        cluster.add_shard("solo/0", &["zone1-500"]);
        let clocked = Clocked::new(cluster);
        let schedules::Job::Backup {
            concurrency,
            no_wait,
            deadline_ms,
            ..
        } = hourly().job
        else {
            unreachable!("it backs up");
        };
        let spec = Spec {
            scope: Scope::Shard("solo/0".parse().unwrap()),
            tries: 1,
            job: schedules::Job::Backup {
                concurrency,
                no_wait,
                allow_primary: is_allowed,
                deadline_ms,
            },
            ..hourly()
        };
        clocked.set(spec).await;
        clocked.stage.until(|| clocked.last().is_some()).await;
        let last = clocked.nightly().last.unwrap();
        match is_allowed {
            true => assert_eq!(last.outcome, Outcome::Succeeded, "{last:?}"),
            false => {
                assert!(
                    last.errors[0].contains("zone1-500 is the primary"),
                    "{last:?}"
                );
                assert_eq!(clocked.backups().len(), 0);
            }
        }
    }
}

/// Time stands until the clock has caught up, and what is due by then is not put off.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_a_little_does_not_hold_up_the_shards_whose_turn_has_come() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    let one_after_the_other = Spec {
        at_once: 1,
        ..hourly()
    };
    clocked.set(one_after_the_other).await;
    stage.tell("copy", Does::Hang);
    stage.called("copy").await;
    clocked.off_ms.store(-5 * 60_000, Ordering::Relaxed);
    stage.untell("copy");
    stage.lead(2);
    let begun = tokio::time::Instant::now();
    stage.until(|| clocked.last().is_some()).await;
    assert_eq!(clocked.last(), Some(Outcome::Succeeded));
    assert!(begun.elapsed() < 3 * MINUTE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn shards_begin_in_the_order_of_their_places_also_when_they_are_late() {
    let mut cluster = three_shards();
    for n in 3..8 {
        let [primary, replica] = [n * 100 + 300, n * 100 + 301].map(|uid| format!("zone1-{uid}"));
        cluster.add_shard(&format!("commerce/{n}"), &[&primary, &replica]);
    }
    let clocked = Clocked::new(cluster);
    let stage = &clocked.stage;
    let spread = Spec {
        at_once: 1,
        spread_ms: 20 * 60_000,
        ..hourly()
    };
    clocked.set(spread).await;
    stage.until(|| clocked.nightly().run.is_some()).await;
    let mut parts = clocked.nightly().run.unwrap().parts;
    parts.sort_by_key(|part| part.not_before_unix_ms);
    let shards = parts.iter().flat_map(|part| &part.shard);
    let in_turn: Vec<String> = shards.map(ToString::to_string).collect();
    assert!(
        !in_turn.is_sorted(),
        "{in_turn:?} is the order of their names, too"
    );
    stage.tell("copy", Does::Hang);
    stage.called("copy").await;
    tokio::time::sleep(25 * MINUTE).await;
    stage.untell("copy");
    stage.lead(2);
    stage.until(|| clocked.last().is_some()).await;
    let mut begun: Vec<String> = Vec::new();
    for call in stage.calls().iter().filter(|call| call.step == "copy") {
        let alias = call.tablet.parse().unwrap();
        let shard = stage.look(|state| state.topology.tablet(&alias).unwrap().shard.to_string());
        // The first was called again by the new leader.
        if !begun.contains(&shard) {
            begun.push(shard);
        }
    }
    assert_eq!(begun, in_turn);
}

#[tokio::test(start_paused = true)]
async fn whose_the_repository_is_is_looked_up_only_when_a_backup_is_to_begin() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    stage.tell("copy", Does::Hang);
    stage.start(backup_of("zone1-102")).await;
    stage.called("copy").await;
    clocked.set(of_one_shard()).await;
    stage.until(|| clocked.nightly().run.is_some()).await;
    let checks = || *stage.store.owner_checks.lock().unwrap();
    let before = checks();
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(checks(), before, "the shard is being backed up by hand");
}

#[tokio::test(start_paused = true)]
async fn whose_the_repository_is_is_looked_up_once_for_all_shards_whose_turn_has_come() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    let refused = Error::refused("the repository belongs to another group");
    *stage.store.owner.lock().unwrap() = Some(refused);
    let all_at_once = Spec {
        at_once: 3,
        tries: 1,
        ..hourly()
    };
    clocked.set(all_at_once).await;
    stage.until(|| clocked.last().is_some()).await;
    assert_eq!(clocked.nightly().last.unwrap().errors.len(), 3);
    assert_eq!(*stage.store.owner_checks.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_between_two_tries_is_not_longer_than_was_said() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    let soon_again = Spec {
        retry_ms: 5_000,
        ..of_one_shard()
    };
    clocked.set(soon_again).await;
    stage.tell("note", Does::FailTimes(1));
    stage
        .until(|| clocked.nightly().failures_in_a_row() == 1)
        .await;
    let failed = tokio::time::Instant::now();
    stage.until(|| clocked.backups().len() == 2).await;
    let paused = failed.elapsed();
    assert!((4..7).contains(&paused.as_secs()), "{paused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_backup_by_hand_that_overtakes_a_try_costs_it_nothing_and_is_followed_at_once() {
    let clocked = Clocked::new(three_shards());
    let stage = &clocked.stage;
    stage.tell("copy", Does::Hang);
    let now_unix_ms = clocked.wall_unix_ms();
    let by_hand = operations::Start {
        id: OperationId::generate(),
        spec: backup_of("zone1-102"),
        now_unix_ms,
        deadline_unix_ms: now_unix_ms + 24 * 3_600_000,
    };
    let first = Command::Operations(operations::Command::Start(by_hand.clone()));
    *stage.group.overtaking.lock().unwrap() = Some(first);
    clocked.set(of_one_shard()).await;
    stage.called("copy").await;
    tokio::time::sleep(10 * MINUTE).await;
    let part = clocked.nightly().run.unwrap().parts[0].clone();
    assert_eq!((part.tries, &*part.error), (0, ""));
    stage.untell("copy");
    stage.lead(2);
    stage.ended(by_hand.id).await;
    tokio::time::sleep(MINUTE / 12).await;
    assert_eq!(clocked.backups().len(), 2);
}

//! What is shown of a schedule: what was asked for, what is at work, what came of it.

use seawall_proto::v1::{self, schedules_server::Schedules as _};
use tonic::Request;

use super::schedules::SchedulesService;
use crate::{
    agents::heartbeats::Heard,
    operation::testing::{Clocked, Stage},
    state::{
        locks::Scope,
        schedules::{Command, Spec, tests::*},
        testing::{Cluster, alias},
    },
};

async fn shown(stage: &Stage) -> v1::Schedule {
    let request = v1::ListSchedulesRequest {
        name: "nightly".into(),
    };
    let service = SchedulesService {
        context: stage.context.clone(),
    };
    let answer = service.list_schedules(Request::new(request)).await.unwrap();
    answer.into_inner().schedules.remove(0)
}

fn one_shard() -> Spec {
    Spec {
        scope: Scope::Shard("commerce/0".parse().unwrap()),
        ..spec()
    }
}

#[tokio::test(start_paused = true)]
async fn all_that_was_asked_for_is_what_is_set() {
    let clocked = Clocked::new(Cluster::with_primary());
    let stage = &clocked.stage;
    let asked = v1::ScheduleSpec {
        keyspace: "commerce".into(),
        shard: "0".into(),
        cron: "0 3 * * *".into(),
        zone: "Europe/Zurich".into(),
        job: Some(v1::schedule_spec::Job::Backup(v1::ScheduledBackup {
            concurrency: 7,
            no_wait: true,
            allow_primary: true,
            deadline_ms: 7_200_000,
        })),
        at_once: 3,
        spread_ms: 600_000,
        tries: 2,
        retry_ms: 5_000,
        history: Some(0),
    };
    let request = v1::SetScheduleRequest {
        name: "nightly".into(),
        spec: Some(asked.clone()),
        dry_run: false,
    };
    let service = SchedulesService {
        context: stage.context.clone(),
    };
    let set = service.set_schedule(Request::new(request)).await.unwrap();
    let set = set.into_inner();
    assert!(!set.replaced);
    assert_eq!(set.schedule.unwrap().spec.unwrap(), asked);
    assert_eq!(shown(stage).await.spec.unwrap(), asked);
}

#[tokio::test(start_paused = true)]
async fn of_a_run_it_is_shown_what_runs_what_waits_for_what_and_what_is_done() {
    let mut cluster = cluster(Spec {
        at_once: 1,
        ..spec()
    });
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 2).unwrap();
    let done = begin(&mut cluster, "commerce/0").unwrap();
    succeed(&mut cluster, done);
    let open = begin(&mut cluster, "commerce/1").unwrap();
    pause_until(&mut cluster, u64::MAX);
    let schedule = shown(&Stage::new(cluster.clone())).await;
    assert_eq!(
        schedule.state,
        i32::from(v1::ScheduleState::Running),
        "a pause lets it go on"
    );
    assert_eq!((schedule.missed, schedule.failures_in_a_row), (2, 0));
    let run = schedule.run.unwrap();
    assert_eq!((run.shards, run.succeeded), (3, 1));
    use v1::SchedulePartState::*;
    let states: Vec<i32> = run.parts.iter().map(|part| part.state).collect();
    assert_eq!(states, [Succeeded, Running, Cancelled].map(i32::from));
    assert!(run.parts.iter().all(|part| part.not_before_unix_ms == 0));

    let stage = Stage::new(cluster);
    let service = SchedulesService {
        context: stage.context.clone(),
    };
    let request = v1::RemoveScheduleRequest {
        name: "nightly".into(),
    };
    let removed = service.remove_schedule(Request::new(request)).await;
    let still_open = removed.unwrap().into_inner().open_operations;
    assert_eq!(still_open, [open.to_string()]);
}

fn pause_until(cluster: &mut Cluster, until_unix_ms: u64) {
    let command = Command::Pause {
        name: "nightly".into(),
        until_unix_ms: Some(until_unix_ms),
        now_unix_ms: cluster.now_unix_ms,
    };
    apply_at(cluster, command).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_turn_has_come_says_that_there_is_no_room_for_it() {
    let mut cluster = cluster(Spec {
        at_once: 1,
        ..spec()
    });
    cluster.now_unix_ms += HOUR;
    slot(&mut cluster, 0).unwrap();
    begin(&mut cluster, "commerce/1").unwrap();
    let run = shown(&Stage::new(cluster)).await.run.unwrap();
    let waits: Vec<&str> = run.parts.iter().map(|part| &*part.waits_for).collect();
    let no_room = "as many shards are at work as may be";
    assert_eq!(waits, [no_room, "", no_room]);
    assert_eq!(run.parts[0].not_before_unix_ms, START + HOUR);
}

#[tokio::test(start_paused = true)]
async fn of_runs_that_ended_it_is_shown_which_succeeded_and_when_the_last_one_did() {
    let mut cluster = cluster(Spec {
        tries: 1,
        history: 5,
        ..one_shard()
    });
    for end in ["succeed", "break off", "cancel"] {
        cluster.now_unix_ms += HOUR;
        slot(&mut cluster, 0).unwrap();
        let id = begin(&mut cluster, "commerce/0").unwrap();
        match end {
            "succeed" => succeed(&mut cluster, id),
            "break off" => break_off(&mut cluster, id),
            _ => {
                cluster.cancel(id).unwrap();
                cluster.abandon(id).unwrap();
                cluster.finish(id).unwrap();
            }
        }
    }
    let schedule = shown(&Stage::new(cluster)).await;
    use v1::ScheduleOutcome::*;
    let outcomes: Vec<i32> = schedule.history.iter().map(|run| run.outcome).collect();
    assert_eq!(outcomes, [Succeeded, Failed, Cancelled].map(i32::from));
    assert_eq!(schedule.last.unwrap().outcome, i32::from(Cancelled));
    assert_eq!(schedule.last_success_unix_ms, START + HOUR);
    assert_eq!(schedule.failures_in_a_row, 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_over_is_none_and_one_that_is_not_says_until_when() {
    let yearly = Spec {
        cron: "0 3 1 1 *".into(),
        ..spec()
    };
    let mut cluster = cluster(yearly);
    let until = cluster.now_unix_ms + HOUR;
    pause_until(&mut cluster, until);
    // The machine's own clock is further on.
    let over = shown(&Stage::new(cluster.clone())).await;
    assert!(!over.paused && over.paused_until_unix_ms == 0, "{over:?}");
    assert!(!over.message.contains("paused"), "{over:?}");
    pause(&mut cluster, None).unwrap();
    let paused = shown(&Stage::new(cluster)).await;
    assert!(paused.paused && paused.next.is_empty(), "{paused:?}");
    let until_resumed = "paused until ResumeSchedule";
    assert!(paused.message.contains(until_resumed), "{paused:?}");
}

#[tokio::test(start_paused = true)]
async fn the_shortest_log_of_a_shard_counts_and_a_schedule_that_is_paused_fills_no_gap() {
    const DAY: u64 = 24 * 3_600_000;
    let clocked = Clocked::new(Cluster::with_primary());
    let stage = &clocked.stage;
    let set = |name: &str, cron: &str| Command::Set {
        name: name.into(),
        id: seawall_common::ids::OperationId::generate(),
        spec: Spec {
            cron: cron.into(),
            ..spec()
        },
        now_unix_ms: clocked.wall_unix_ms(),
    };
    let propose = async |command| {
        let group: &dyn crate::group::Group = &*stage.group;
        let command = crate::state::Command::Schedules(command);
        group.propose(command).await.unwrap();
    };
    propose(set("nightly", "0 3 * * *")).await;
    propose(set("weekly", "0 4 * * SUN")).await;
    stage.keep_logs_for(10 * DAY);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(shown(stage).await.short_logs, []);
    let status = v1::TabletStatus {
        log_kept_ms: Some(4 * DAY),
        ..v1::TabletStatus::default()
    };
    let hear = || {
        let heard = Heard {
            instance: String::new(),
            at: tokio::time::Instant::now(),
            at_unix_ms: 0,
            status: status.clone(),
        };
        stage.context.heartbeats.record(&alias("zone1-102"), heard);
    };
    hear();
    assert_eq!(shown(stage).await.short_logs, []);
    propose(Command::Pause {
        name: "nightly".into(),
        until_unix_ms: None,
        now_unix_ms: clocked.wall_unix_ms(),
    })
    .await;
    hear();
    let short = shown(stage).await.short_logs;
    assert_eq!(short.len(), 1, "{short:?}");
    assert_eq!((&*short[0].alias, short[0].kept_ms), ("zone1-102", 4 * DAY));
    assert_eq!(short[0].gap_ms, 7 * DAY);
}

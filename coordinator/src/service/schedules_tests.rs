//! What is asked for, what is refused, and what is shown of schedules.

use seawall_proto::v1::{self, schedules_server::Schedules as _};
use tonic::{Code, Request, Status};

use super::schedules::SchedulesService;
use crate::{
    group::Group as _,
    operation::testing::{Clocked, Does, Stage},
    state::{Command, retention, testing::Cluster},
};

fn service(stage: &Stage) -> SchedulesService {
    SchedulesService {
        context: stage.context.clone(),
    }
}

fn spec() -> v1::ScheduleSpec {
    v1::ScheduleSpec {
        keyspace: "commerce".into(),
        cron: "0 3 * * *".into(),
        zone: "Europe/Zurich".into(),
        job: Some(v1::schedule_spec::Job::Backup(
            v1::ScheduledBackup::default(),
        )),
        ..v1::ScheduleSpec::default()
    }
}

fn clocked() -> Clocked {
    let mut cluster = Cluster::with_primary();
    cluster.add_shard("commerce/1", &["zone1-200", "zone1-201"]);
    Clocked::new(cluster)
}

async fn set(
    stage: &Stage,
    spec: v1::ScheduleSpec,
    dry_run: bool,
) -> Result<v1::SetScheduleResponse, Status> {
    let request = v1::SetScheduleRequest {
        name: "nightly".into(),
        spec: Some(spec),
        dry_run,
    };
    let answer = service(stage).set_schedule(Request::new(request)).await;
    answer.map(tonic::Response::into_inner)
}

async fn listed(stage: &Stage, name: &str) -> Result<Vec<v1::Schedule>, Status> {
    let request = v1::ListSchedulesRequest { name: name.into() };
    let answer = service(stage).list_schedules(Request::new(request)).await;
    answer.map(|answer| answer.into_inner().schedules)
}

async fn nightly(stage: &Stage) -> v1::Schedule {
    listed(stage, "nightly").await.unwrap().remove(0)
}

fn said(refused: &Status) -> String {
    seawall_common::Error::from(refused.clone()).to_string()
}

#[tokio::test(start_paused = true)]
async fn what_would_never_run_or_was_not_meant_is_refused_and_nothing_is_set() {
    let clocked = clocked();
    let stage = &clocked.stage;
    let with = |change: fn(&mut v1::ScheduleSpec)| {
        let mut spec = spec();
        change(&mut spec);
        spec
    };
    for (spec, code, words) in [
        (
            with(|s| s.cron = "0 3 30 2 *".into()),
            Code::InvalidArgument,
            "never comes",
        ),
        (
            with(|s| s.cron = "0 25 * * *".into()),
            Code::InvalidArgument,
            "malformed cron",
        ),
        (
            with(|s| s.cron = String::new()),
            Code::InvalidArgument,
            "malformed cron",
        ),
        (
            with(|s| s.zone = "Europe/Zuerich".into()),
            Code::InvalidArgument,
            "Europe/Zurich",
        ),
        (
            with(|s| s.keyspace = "comerce".into()),
            Code::NotFound,
            "Did you mean commerce?",
        ),
        (
            with(|s| s.shard = "7".into()),
            Code::NotFound,
            "no shard commerce/7",
        ),
        (
            with(|s| s.keyspace = "a b".into()),
            Code::InvalidArgument,
            "malformed keyspace",
        ),
        (
            with(|s| {
                s.keyspace = String::new();
                s.shard = "0".into();
            }),
            Code::InvalidArgument,
            "without its keyspace",
        ),
        (
            with(|s| s.job = None),
            Code::InvalidArgument,
            "nothing is given",
        ),
        (
            with(|s| s.job = group_backup(0)),
            Code::InvalidArgument,
            "of no shard",
        ),
        (
            with(|s| {
                s.keyspace = String::new();
                s.job = group_backup(1001);
            }),
            Code::InvalidArgument,
            "at most 1000",
        ),
        (
            with(|s| s.at_once = 1001),
            Code::InvalidArgument,
            "at-once 1001",
        ),
        (with(|s| s.tries = 21), Code::InvalidArgument, "tries 21"),
        (
            with(|s| s.retry_ms = 999),
            Code::InvalidArgument,
            "from a second",
        ),
        (
            with(|s| s.retry_ms = 3_600_001),
            Code::InvalidArgument,
            "to an hour",
        ),
        (
            with(|s| s.history = Some(101)),
            Code::InvalidArgument,
            "history 101",
        ),
        (
            with(|s| s.spread_ms = u64::MAX),
            Code::InvalidArgument,
            "31 days",
        ),
        (
            with(|s| s.spread_ms = 24 * 3_600_000),
            Code::InvalidArgument,
            "not shorter than",
        ),
    ] {
        for dry_run in [true, false] {
            let refused = set(stage, spec.clone(), dry_run).await.unwrap_err();
            assert_eq!(refused.code(), code, "{words}: {refused:?}");
            assert!(
                said(&refused).contains(words),
                "{words}: {}",
                said(&refused)
            );
        }
    }
    let backup = |backup| v1::ScheduleSpec {
        job: Some(v1::schedule_spec::Job::Backup(backup)),
        ..spec()
    };
    let too_many = v1::ScheduledBackup {
        concurrency: 1000,
        ..v1::ScheduledBackup::default()
    };
    let too_long = v1::ScheduledBackup {
        deadline_ms: u64::MAX,
        ..v1::ScheduledBackup::default()
    };
    for of in [too_many, too_long] {
        let refused = set(stage, backup(of), false).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    let nameless = v1::SetScheduleRequest {
        name: "../nightly".into(),
        spec: Some(spec()),
        dry_run: false,
    };
    let refused = service(stage).set_schedule(Request::new(nameless)).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(listed(stage, "").await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_shows_the_next_slots_and_the_shards_and_sets_nothing() {
    let clocked = clocked();
    let stage = &clocked.stage;
    let answer = set(stage, spec(), true).await.unwrap();
    let schedule = answer.schedule.unwrap();
    assert_eq!(schedule.next.len(), 5);
    assert!(
        schedule
            .next
            .iter()
            .all(|slot| slot.local.contains("T03:00:00+0"))
    );
    assert_eq!((answer.shards.len(), answer.replaced), (2, false));
    assert_eq!(listed(stage, "").await.unwrap(), []);

    set(stage, spec(), false).await.unwrap();
    let other = v1::ScheduleSpec {
        cron: "0 4 * * *".into(),
        ..spec()
    };
    assert!(set(stage, other, true).await.unwrap().replaced);
    let kept = nightly(stage).await;
    assert_eq!(kept.spec.unwrap().cron, "0 3 * * *");
    assert_eq!(kept.state, i32::from(v1::ScheduleState::Idle));
    let defaults = schedule.spec.unwrap();
    assert_eq!(
        (defaults.at_once, defaults.tries, defaults.history),
        (4, 5, Some(10))
    );
}

#[tokio::test(start_paused = true)]
async fn it_is_shown_why_a_schedule_does_not_run() {
    let clocked = clocked();
    let stage = &clocked.stage;
    let minutely = v1::ScheduleSpec {
        cron: "* * * * *".into(),
        shard: "0".into(),
        ..spec()
    };
    set(stage, minutely, false).await.unwrap();
    stage.tell("copy", Does::Hang);
    stage.called("copy").await;
    let running = nightly(stage).await;
    assert_eq!(running.state, i32::from(v1::ScheduleState::Running));
    let run = running.run.unwrap();
    assert_eq!(
        run.parts[0].state,
        i32::from(v1::SchedulePartState::Running)
    );
    let removed = service(stage)
        .remove_schedule(Request::new(v1::RemoveScheduleRequest {
            name: "nightly".into(),
        }))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(removed.open_operations, [run.parts[0].operation_id.clone()]);

    // Another one finds what the first has begun in its way.
    let again = v1::ScheduleSpec {
        cron: "* * * * *".into(),
        shard: "0".into(),
        ..spec()
    };
    set(stage, again, false).await.unwrap();
    stage.until(|| clocked.nightly().run.is_some()).await;
    let waiting = nightly(stage).await;
    assert_eq!(waiting.state, i32::from(v1::ScheduleState::Waiting));
    let waits_for = &waiting.run.unwrap().parts[0].waits_for;
    assert!(
        waits_for.contains("is being backed up by operation"),
        "{waits_for}"
    );

    let pause = v1::PauseScheduleRequest {
        name: "nightly".into(),
        until_unix_ms: clocked.wall_unix_ms() + 3_600_000,
    };
    let paused = service(stage).pause_schedule(Request::new(pause)).await;
    let paused = paused.unwrap().into_inner();
    assert_eq!(paused.state, i32::from(v1::ScheduleState::Paused));
    assert!(
        paused.message.contains("paused until"),
        "{}",
        paused.message
    );
    assert!(paused.next[0].at_unix_ms > paused.paused_until_unix_ms);

    let why = "wall time jumped ahead by 3days".to_owned();
    let stop = Command::Retention(retention::Command::Stop { why });
    stage.group.propose(stop).await.unwrap();
    let stopped = nightly(stage).await;
    assert_eq!(stopped.state, i32::from(v1::ScheduleState::Stopped));
    assert!(
        stopped.message.contains("jumped ahead"),
        "{}",
        stopped.message
    );
    assert!(stopped.message.contains("SetRetention --resume"));
    // That it is paused as well has to be ended, too.
    assert!(stopped.message.contains("paused until"));
}

#[tokio::test(start_paused = true)]
async fn what_there_is_not_is_not_found_and_what_was_meant_is_guessed() {
    let clocked = clocked();
    let stage = &clocked.stage;
    set(stage, spec(), false).await.unwrap();
    let service = service(stage);
    let name = || "nightyl".to_owned();
    let refusals = [
        listed(stage, "nightyl").await.unwrap_err(),
        service
            .remove_schedule(Request::new(v1::RemoveScheduleRequest { name: name() }))
            .await
            .unwrap_err(),
        service
            .pause_schedule(Request::new(v1::PauseScheduleRequest {
                name: name(),
                until_unix_ms: 0,
            }))
            .await
            .unwrap_err(),
        service
            .resume_schedule(Request::new(v1::ResumeScheduleRequest { name: name() }))
            .await
            .unwrap_err(),
    ];
    for refused in refusals {
        assert_eq!(refused.code(), Code::NotFound);
        assert!(
            said(&refused).contains("Did you mean nightly?"),
            "{refused:?}"
        );
    }
    let past = v1::PauseScheduleRequest {
        name: "nightly".into(),
        until_unix_ms: clocked.wall_unix_ms() - 1,
    };
    let refused = service
        .pause_schedule(Request::new(past))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_kept_for_less_time_than_lies_between_two_backups_is_told_of() {
    let clocked = clocked();
    let stage = &clocked.stage;
    const DAY: u64 = 24 * 3_600_000;
    // Heard once a second.
    let heard = || tokio::time::sleep(std::time::Duration::from_secs(2));
    stage.keep_logs_for(DAY + 3_600_000);
    heard().await;
    set(stage, spec(), false).await.unwrap();
    assert_eq!(nightly(stage).await.short_logs, []);
    stage.keep_logs_for(DAY - 1);
    heard().await;
    let short = nightly(stage).await.short_logs;
    assert_eq!(short.len(), 2, "one of each shard: {short:?}");
    assert!(short[0].gap_ms >= DAY, "{short:?}");
    assert_eq!(short[0].kept_ms, DAY - 1);
    // For ever is long enough.
    stage.keep_logs_for(0);
    heard().await;
    assert_eq!(nightly(stage).await.short_logs, []);
    let seldom = v1::ScheduleSpec {
        cron: "0 3 * * SUN".into(),
        ..spec()
    };
    stage.keep_logs_for(4 * DAY);
    heard().await;
    let told = set(stage, seldom, true).await.unwrap().schedule.unwrap();
    assert_eq!(told.short_logs.len(), 2, "before it is set, too");
}

fn group_backup(keep: u32) -> Option<v1::schedule_spec::Job> {
    let backup = v1::ScheduledGroupBackup { keep };
    Some(v1::schedule_spec::Job::GroupBackup(backup))
}

#[tokio::test(start_paused = true)]
async fn a_schedule_of_the_groups_own_backup_is_of_no_shard_and_warns_of_no_log() {
    let clocked = clocked();
    let stage = &clocked.stage;
    let of_group = v1::ScheduleSpec {
        keyspace: String::new(),
        job: group_backup(0),
        ..spec()
    };
    let answer = set(stage, of_group, false).await.unwrap();
    assert!(answer.shards.is_empty(), "{answer:?}");
    let shown = nightly(stage).await;
    // The default is told.
    assert_eq!(shown.spec.unwrap().job, group_backup(7));
    assert!(shown.short_logs.is_empty());
}

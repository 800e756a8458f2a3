//! What is begun by itself: what the commands ask for, and what they print.

use seawall_proto::v1::{self, *};
use serde_json::{Value, json};

use crate::fake::{Coordinator, Script, commerce, run};

/// 2026-11-26T02:00:00Z.
const SLOT: u64 = 1_795_658_400_000;
const MINUTE: u64 = 60_000;

fn slot(at_unix_ms: u64, local: &str) -> ScheduleSlot {
    ScheduleSlot {
        at_unix_ms,
        local: local.into(),
    }
}

fn spec() -> ScheduleSpec {
    ScheduleSpec {
        keyspace: "commerce".into(),
        shard: String::new(),
        cron: "0 3 * * *".into(),
        zone: "Europe/Zurich".into(),
        job: Some(v1::schedule_spec::Job::Backup(ScheduledBackup {
            concurrency: 8,
            no_wait: true,
            allow_primary: false,
            deadline_ms: 7_200_000,
        })),
        at_once: 2,
        spread_ms: 90 * MINUTE,
        tries: 3,
        retry_ms: 30_000,
        history: Some(7),
    }
}

fn past(number: u64, outcome: ScheduleOutcome, succeeded: u32, errors: &[&str]) -> ScheduleRun {
    let day = (number - 40) * 24 * 60 * MINUTE;
    ScheduleRun {
        number,
        slot: Some(slot(SLOT + day, &format!("slot {number}"))),
        begun_unix_ms: SLOT + day,
        ended_unix_ms: SLOT + day + 5 * MINUTE,
        outcome: outcome.into(),
        shards: 2,
        succeeded,
        errors: errors.iter().map(|error| (*error).to_owned()).collect(),
        parts: Vec::new(),
    }
}

fn schedule() -> Schedule {
    let failed = past(41, ScheduleOutcome::Failed, 1, &["commerce/1: disk full"]);
    Schedule {
        name: "nightly".into(),
        spec: Some(spec()),
        state: ScheduleState::Running.into(),
        next: vec![
            slot(SLOT + 3 * 24 * 60 * MINUTE, "2026-11-29T03:00:00+01:00"),
            slot(SLOT + 4 * 24 * 60 * MINUTE, "2026-11-30T03:00:00+01:00"),
        ],
        run: Some(ScheduleRun {
            number: 42,
            slot: Some(slot(SLOT + 2 * 24 * 60 * MINUTE, "slot 42")),
            begun_unix_ms: SLOT + 2 * 24 * 60 * MINUTE,
            shards: 2,
            parts: vec![
                SchedulePart {
                    shard: Some(commerce()),
                    state: SchedulePartState::Running.into(),
                    tries: 1,
                    operation_id: "0193f9b0-0000-7000-8000-000000000001".into(),
                    ..Default::default()
                },
                SchedulePart {
                    shard: Some(ShardRef {
                        shard: "1".into(),
                        ..commerce()
                    }),
                    state: SchedulePartState::Waiting.into(),
                    tries: 2,
                    error: "disk full".into(),
                    not_before_unix_ms: SLOT,
                    waits_for: "its turn".into(),
                    ..Default::default()
                },
            ],
            ..Default::default()
        }),
        last: Some(failed.clone()),
        history: vec![past(40, ScheduleOutcome::Succeeded, 2, &[]), failed],
        missed: 3,
        failures_in_a_row: 1,
        last_success_unix_ms: SLOT + 5 * MINUTE,
        set_unix_ms: SLOT - MINUTE,
        short_logs: vec![ShortLog {
            shard: Some(commerce()),
            alias: "zone1-101".into(),
            kept_ms: 4 * 24 * 60 * MINUTE,
            gap_ms: 7 * 24 * 60 * MINUTE,
        }],
        ..Default::default()
    }
}

fn coordinator(schedule: Schedule, replaced: bool) -> Coordinator {
    let other = ShardRef {
        shard: "1".into(),
        ..commerce()
    };
    Coordinator::start(Script {
        set_schedule: SetScheduleResponse {
            schedule: Some(schedule),
            replaced,
            shards: vec![commerce(), other],
        },
        ..Default::default()
    })
}

const SET: [&str; 5] = ["SetSchedule", "nightly", "commerce", "--cron", "0 3 * * *"];

#[tokio::test]
async fn a_schedule_is_asked_for_as_it_was_written() {
    let coordinator = coordinator(schedule(), false);
    let flags = [
        "--zone",
        "Europe/Zurich",
        "--concurrency",
        "8",
        "--no-wait",
        "--allow-primary",
        "--deadline",
        "2h",
        "--at-once",
        "2",
        "--spread",
        "90m",
        "--tries",
        "3",
        "--retry-after",
        "30s",
        "--history",
        "0",
        "--dry-run",
    ];
    run(&coordinator.url(), &[&SET[..], &flags].concat())
        .await
        .result();
    let request = coordinator.the_request("Schedules.SetSchedule");
    for part in [
        "name: \"nightly\"",
        "keyspace: \"commerce\"",
        "shard: \"\"",
        "cron: \"0 3 * * *\"",
        "zone: \"Europe/Zurich\"",
        "concurrency: 8",
        "no_wait: true",
        "allow_primary: true",
        "deadline_ms: 7200000",
        "at_once: 2",
        "spread_ms: 5400000",
        "tries: 3",
        "retry_ms: 30000",
        "history: Some(0)",
        "dry_run: true",
    ] {
        assert!(request.contains(part), "no {part} in {request}");
    }
}

#[tokio::test]
async fn what_is_not_given_is_the_default_and_the_cluster_has_to_be_named() {
    let coordinator = coordinator(schedule(), false);
    let cluster = ["SetSchedule", "all", "--cluster", "--cron", "@daily"];
    run(&coordinator.url(), &cluster).await.result();
    let request = coordinator.the_request("Schedules.SetSchedule");
    for part in [
        "keyspace: \"\"",
        "zone: \"UTC\"",
        "no_wait: false",
        "allow_primary: false",
        "deadline_ms: 0",
        "at_once: 4",
        "spread_ms: 0",
        "tries: 5",
        "retry_ms: 60000",
        "history: Some(10)",
        "dry_run: false",
    ] {
        assert!(request.contains(part), "no {part} in {request}");
    }
    let bare = ["SetSchedule", "all", "--cron", "@daily"];
    let ended = run(&coordinator.url(), &bare).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    let usage = "SetSchedule <NAME> <KEYSPACE[/SHARD]|--cluster|--group> --cron <EXPRESSION>";
    assert!(ended.stderr.contains(usage), "{ended:?}");
    let both = [&SET[..], &["--cluster"]].concat();
    assert_eq!(run(&coordinator.url(), &both).await.code, 2);
    assert_eq!(coordinator.asked().len(), 1, "{:?}", coordinator.asked());
}

#[tokio::test]
async fn what_was_set_is_said_with_its_next_slots_and_whether_anything_was_set_at_all() {
    let warning = "WARNING: zone1-101 keeps its binary log for 4d00h, and up to 7d00h lie between two backups of commerce/0";
    for (replaced, flags, head) in [
        (false, &[][..], "it runs for 2 shards"),
        (
            true,
            &[],
            "it replaces the one that there was, and runs for 2 shards",
        ),
        (
            false,
            &["--dry-run"],
            "nothing is set; it would run for 2 shards",
        ),
        (
            true,
            &["--dry-run"],
            "nothing is set; it would replace the one that there is, and run for 2 shards",
        ),
    ] {
        let coordinator = coordinator(schedule(), replaced);
        let ended = run(&coordinator.url(), &[&SET[..], flags].concat()).await;
        let lines: Vec<&str> = ended.result().lines().collect();
        assert_eq!(lines[0], format!("schedule nightly: {head}, next at:"));
        assert_eq!(lines[1], "  2026-11-29T03:00:00+01:00");
        assert_eq!(lines[2], "  2026-11-30T03:00:00+01:00");
        assert!(lines[3].starts_with(warning), "{lines:?}");
        assert_eq!(lines.len(), 4, "{lines:?}");
    }
}

#[tokio::test]
async fn one_that_is_paused_is_not_said_to_run() {
    let forever = Schedule {
        state: ScheduleState::Paused.into(),
        message: "paused until ResumeSchedule".into(),
        paused: true,
        next: Vec::new(),
        short_logs: Vec::new(),
        ..schedule()
    };
    let until = Schedule {
        message: "paused until 2026-11-28T00:00:00Z".into(),
        paused_until_unix_ms: SLOT + 46 * 60 * MINUTE,
        next: schedule().next,
        ..forever.clone()
    };
    let stays =
        "schedule nightly: it replaces the one that there was, and stays paused, for 2 shards";
    let would = "schedule nightly: nothing is set; it would replace the one that there is, which is paused, for 2 shards";
    let way_out = "seawallctl ResumeSchedule nightly lets it run from now on";
    for (paused, flags, said) in [
        (
            &forever,
            &[][..],
            &[stays, "paused until ResumeSchedule", way_out][..],
        ),
        (
            &forever,
            &["--dry-run"],
            &[would, "paused until ResumeSchedule", way_out],
        ),
        (
            &until,
            &[],
            &[
                &format!("{stays}, next at:"),
                "  2026-11-29T03:00:00+01:00",
                "  2026-11-30T03:00:00+01:00",
                "paused until 2026-11-28T00:00:00Z",
                way_out,
            ],
        ),
    ] {
        let coordinator = coordinator(paused.clone(), true);
        let ended = run(&coordinator.url(), &[&SET[..], flags].concat()).await;
        let lines: Vec<&str> = ended.result().lines().collect();
        assert_eq!(lines, said);
    }
}

#[tokio::test]
async fn the_list_has_a_line_for_each_and_what_somebody_should_look_at() {
    // A server that two schedules tell of is warned of once.
    let twice = [schedule().short_logs, schedule().short_logs].concat();
    let told_twice = Schedule {
        short_logs: twice,
        ..schedule()
    };
    let coordinator = coordinator(told_twice, false);
    let ended = run(&coordinator.url(), &["ListSchedules"]).await;
    let lines: Vec<&str> = ended.result().lines().collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for part in [
        "nightly",
        "commerce",
        "0 3 * * *",
        "Europe/Zurich",
        "running",
        "2026-11-29T03:00:00+01:00",
        "failed, 1 of 2 shards backed up",
        "waits: its turn",
    ] {
        assert!(lines[1].contains(part), "no {part} in {lines:#?}");
    }
    assert!(lines[2].starts_with("WARNING: zone1-101"), "{lines:#?}");
    assert!(
        coordinator
            .the_request("Schedules.ListSchedules")
            .contains("name: \"\"")
    );

    // What keeps it from running comes before what it waits for.
    let stopped = Schedule {
        message: "wall time jumped".into(),
        ..schedule()
    };
    let coordinator = self::coordinator(stopped, false);
    let ended = run(&coordinator.url(), &["ListSchedules"]).await;
    assert!(ended.result().contains("wall time jumped"), "{ended:?}");
    assert!(!ended.result().contains("waits: its turn"), "{ended:?}");
    let names = run(&coordinator.url(), &["ListSchedules", "-o", "name"]).await;
    assert_eq!(names.result(), "nightly");
}

#[tokio::test]
async fn one_of_them_is_shown_in_full_with_its_run_and_its_history_newest_first() {
    let coordinator = coordinator(schedule(), false);
    let ended = run(&coordinator.url(), &["ListSchedules", "nightly"]).await;
    let printed = ended.result();
    let request = coordinator.the_request("Schedules.ListSchedules");
    assert!(request.contains("name: \"nightly\""), "{request}");
    let has = |start: &str, parts: &[&str]| {
        let line = printed.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no {start} in {printed}"));
        for part in parts {
            assert!(line.contains(part), "no {part} in {line}");
        }
    };
    has("cron:", &["0 3 * * * (Europe/Zurich)"]);
    has(
        "next:",
        &["2026-11-29T03:00:00+01:00, 2026-11-30T03:00:00+01:00"],
    );
    has("missed:", &["3"]);
    has("failures:", &["1"]);
    has("succeeded:", &["2026-11-26T02:05:00Z"]);
    has("at once:", &["2"]);
    has("spread:", &["1h30m"]);
    has("tries:", &["3, the first again after 30s"]);
    has(
        "commerce/0",
        &["running", "0193f9b0-0000-7000-8000-000000000001"],
    );
    has("commerce/1", &["waiting", "waits: its turn"]);
    has(
        "slot 41",
        &[
            "5m00s",
            "failed, 1 of 2 shards backed up",
            "commerce/1: disk full",
        ],
    );
    let at = |text: &str| printed.find(text).unwrap();
    assert!(at("slot 41") < at("slot 40"), "newest first: {printed}");
    assert!(printed.contains("WARNING: zone1-101"), "{printed}");
}

/// As docs/json.md has it.
fn as_json() -> Value {
    let past = |number: u64, day: u32, outcome: &str, succeeded: u32, errors: Value| {
        json!({
            "number": number,
            "slot": {"at": format!("2026-11-{day}T02:00:00.000Z"), "local": format!("slot {number}")},
            "begun_at": format!("2026-11-{day}T02:00:00.000Z"),
            "ended_at": format!("2026-11-{day}T02:05:00.000Z"),
            "outcome": outcome,
            "shards": 2,
            "succeeded": succeeded,
            "errors": errors,
            "parts": [],
        })
    };
    let failed = past(41, 27, "failed", 1, json!(["commerce/1: disk full"]));
    json!({
        "name": "nightly",
        "keyspace": "commerce",
        "shard": null,
        "cron": "0 3 * * *",
        "group_backup": null,
        "zone": "Europe/Zurich",
        "backup": {"concurrency": 8, "no_wait": true, "allow_primary": false, "deadline_ms": 7_200_000},
        "at_once": 2,
        "spread_ms": 5_400_000,
        "tries": 3,
        "retry_ms": 30_000,
        "history_max": 7,
        "state": "running",
        "message": null,
        "next": [
            {"at": "2026-11-29T02:00:00.000Z", "local": "2026-11-29T03:00:00+01:00"},
            {"at": "2026-11-30T02:00:00.000Z", "local": "2026-11-30T03:00:00+01:00"},
        ],
        "paused": false,
        "paused_until_at": null,
        "run": {
            "number": 42,
            "slot": {"at": "2026-11-28T02:00:00.000Z", "local": "slot 42"},
            "begun_at": "2026-11-28T02:00:00.000Z",
            "ended_at": null,
            "outcome": null,
            "shards": 2,
            "succeeded": 0,
            "errors": [],
            "parts": [
                {
                    "keyspace": "commerce", "shard": "0", "state": "running", "tries": 1,
                    "operation_id": "0193f9b0-0000-7000-8000-000000000001", "error": null,
                    "not_before_at": null, "waits_for": null,
                },
                {
                    "keyspace": "commerce", "shard": "1", "state": "waiting", "tries": 2,
                    "operation_id": null, "error": "disk full",
                    "not_before_at": "2026-11-26T02:00:00.000Z", "waits_for": "its turn",
                },
            ],
        },
        "last": failed,
        "history": [past(40, 26, "succeeded", 2, json!([])), failed],
        "missed_slots": 3,
        "consecutive_failures": 1,
        "last_success_at": "2026-11-26T02:05:00.000Z",
        "set_at": "2026-11-26T01:59:00.000Z",
        "short_logs": [{
            "keyspace": "commerce", "shard": "0", "alias": "zone1-101",
            "kept_ms": 345_600_000, "gap_ms": 604_800_000,
        }],
    })
}

#[tokio::test]
async fn programs_get_every_field_under_the_name_that_is_written_down() {
    let coordinator = coordinator(schedule(), true);
    let json = ["-o", "json"];
    let listed = run(
        &coordinator.url(),
        &[&["ListSchedules"], &json[..]].concat(),
    )
    .await;
    assert_eq!(listed.json(), json!({"schedules": [as_json()]}));
    let set = run(&coordinator.url(), &[&SET[..], &json].concat()).await;
    let shards =
        json!([{"keyspace": "commerce", "shard": "0"}, {"keyspace": "commerce", "shard": "1"}]);
    let expected =
        json!({"dry_run": false, "replaced": true, "shards": shards, "schedule": as_json()});
    assert_eq!(set.json(), expected);
    let dry = run(
        &coordinator.url(),
        &[&SET[..], &["--dry-run"], &json].concat(),
    )
    .await;
    assert_eq!(dry.json()["dry_run"], json!(true));
    let remove = ["RemoveSchedule", "nightly"];
    let removed = run(&coordinator.url(), &[&remove[..], &json].concat()).await;
    let open = json!(["0193f9b0-0000-7000-8000-000000000001"]);
    assert_eq!(
        removed.json(),
        json!({"removed": "nightly", "open_operations": open})
    );
}

#[tokio::test]
async fn it_is_paused_until_a_time_or_until_it_is_resumed() {
    let coordinator = coordinator(schedule(), false);
    let url = coordinator.url();
    let pause = ["PauseSchedule", "nightly"];
    let until = ["--until", "2026-11-28T00:00:00Z"];
    let ended = run(&url, &pause).await;
    assert_eq!(ended.result(), "nightly is paused until ResumeSchedule");
    let request = coordinator.the_request("Schedules.PauseSchedule");
    assert!(request.contains("until_unix_ms: 0"), "{request}");
    let ended = run(&url, &[&pause[..], &until].concat()).await;
    assert_eq!(
        ended.result(),
        "nightly is paused until 2026-11-28T00:00:00Z"
    );
    let asked = coordinator.asked();
    let request = asked.last().unwrap();
    assert!(
        request.contains("until_unix_ms: 1795824000000"),
        "{request}"
    );
    let ended = run(&url, &[&pause[..], &until, &["-o", "json"]].concat()).await;
    assert_eq!(ended.json()["paused"], json!(true));
    assert_eq!(
        ended.json()["paused_until_at"],
        json!("2026-11-28T00:00:00.000Z")
    );
    let ended = run(&url, &["ResumeSchedule", "nightly"]).await;
    assert_eq!(
        ended.result(),
        "nightly is not paused; next: 2026-11-29T03:00:00+01:00"
    );
    let ended = run(&url, &["RemoveSchedule", "nightly"]).await;
    assert_eq!(
        ended.result(),
        "schedule nightly is removed; what it has begun goes on: 0193f9b0-0000-7000-8000-000000000001"
    );
}

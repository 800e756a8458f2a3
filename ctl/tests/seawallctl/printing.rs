//! What results look like: tables for people, names for scripts, JSON as `docs/json.md` promises.

use seawall_proto::v1::{self, BackupState, LockSide, OperationState, TabletType};
use serde_json::json;

use crate::fake::{Coordinator, Script, backup, backup_operation, commerce, run};

fn tablet() -> v1::Tablet {
    v1::Tablet {
        alias: "zone1-102".into(),
        shard: Some(commerce()),
        r#type: TabletType::Replica.into(),
        instance: "i-1".into(),
        agent_address: "http://127.0.0.1:7611".into(),
        database: Some(v1::DatabaseAddress {
            host: "127.0.0.1".into(),
            port: 3306,
            server_id: 102,
        }),
        engine: "mariadb".into(),
        writer_key: "0a".repeat(32),
        status: Some(v1::TabletStatus {
            database_running: true,
            position: "0-1-100".into(),
            read_only: true,
            replicating: true,
            lag_ms: Some(1_500),
            serving: true,
            engine_version: "10.11.19-MariaDB".into(),
            ..Default::default()
        }),
        last_seen_unix_ms: Some(1_792_000_000_000),
        epoch: 2,
        serving: true,
        silent: false,
    }
}

fn script() -> Script {
    let unheard = v1::Tablet {
        alias: "zone1-103".into(),
        shard: Some(commerce()),
        r#type: TabletType::Spare.into(),
        ..Default::default()
    };
    let mut broken = backup("2026-10-15.030000.zone1-103", BackupState::Broken);
    broken.note = "the manifest cannot be read".into();
    Script {
        tablets: vec![tablet(), unheard],
        backups: vec![
            backup("2026-10-14.174640.zone1-102", BackupState::Complete),
            broken,
        ],
        operation: backup_operation(OperationState::Running, "copy"),
        holds: v1::ListHoldsResponse {
            holds: vec![v1::Hold {
                id: "h-1".into(),
                side: LockSide::Backup.into(),
                scope: Some(v1::LockScope::default()),
                owner: "ann@db1".into(),
                reason: "a copy".into(),
                token: 7,
                granted_unix_ms: 1_792_000_000_000,
                expires_unix_ms: 1_792_000_086_400,
                ..v1::Hold::default()
            }],
            broken: vec![],
        },
        cluster: v1::ClusterStatusResponse {
            group_id: "g-1".into(),
            answered_by: 1,
            leader: 1,
            term: 3,
            last_applied: 42,
            members: vec![
                v1::Member {
                    id: 1,
                    address: "127.0.0.1:1".into(),
                    voter: true,
                    matched_index: Some(42),
                    ..Default::default()
                },
                v1::Member {
                    id: 2,
                    address: "127.0.0.1:1".into(),
                    voter: true,
                    matched_index: Some(40),
                    silent_since_unix_ms: Some(1_792_000_000_000),
                },
            ],
            repository_url: "file:///backups".into(),
            repository_id: "r-1".into(),
            repository_refusal: String::new(),
            version: "0.1.0".into(),
            last_log_index: 45,
            log_bytes: 1 << 20,
            disk_free_bytes: Some(5 << 30),
            timestamp_recorded: 1_000_000_000,
            ..Default::default()
        },
        next_timestamp: 41,
        ..Default::default()
    }
}

#[tokio::test]
async fn tables_are_aligned_and_complete() {
    let coordinator = Coordinator::start(script());
    let ended = run(&coordinator.url(), &["ListTablets"]).await;
    let lines: Vec<&str> = ended.result().lines().collect();
    let words: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(
        words,
        [
            "ALIAS", "SHARD", "TYPE", "SERVING", "POSITION", "LAG", "EPOCH", "VERSION", "SEEN",
            "MESSAGE"
        ]
    );
    let column = lines[0].find("SERVING").unwrap();
    assert_eq!(&lines[1][column..column + 3], "yes");
    assert_eq!(&lines[2][column..column + 1], "?");
    assert!(lines[1].contains("0-1-100"));
    assert!(lines[1].contains("1s"));
    assert!(lines[2].contains("not heard of"));

    let ended = run(&coordinator.url(), &["ListBackups", "commerce/0"]).await;
    assert_eq!(
        ended.result().lines().collect::<Vec<_>>(),
        [
            "NAME                         STATE     POSITION     SIZE      NEW   TOOK  VERIFIED  NOTE",
            "2026-10-14.174640.zone1-102  complete  0-1-100   3.0 GiB  1.0 GiB  1m35s  -         -",
            "2026-10-15.030000.zone1-103  broken    0-1-100         -        -  1m35s  -         the manifest cannot be read",
        ]
    );
}

#[tokio::test]
async fn a_listing_that_may_be_out_of_date_says_so() {
    let coordinator = Coordinator::start(Script {
        not_read: "the store is away".to_owned(),
        ..script()
    });
    for args in [
        &["ListBackups", "commerce/0"][..],
        &["GetBackup", "commerce/0", "2026-10-14.174640.zone1-102"],
    ] {
        let ended = run(&coordinator.url(), args).await;
        assert_eq!(
            ended.stderr.trim_end(),
            "seawallctl: WARNING: the repository was not read: the store is away; this is what was known before"
        );
        assert!(
            ended.stdout.contains("2026-10-14.174640.zone1-102"),
            "{ended:?}"
        );
    }
    let list = run(&coordinator.url(), &["-ojson", "ListBackups", "commerce/0"]).await;
    let list: serde_json::Value = serde_json::from_str(&list.stdout).unwrap();
    assert_eq!(list["not_read"], "the store is away");
}

#[tokio::test]
async fn names_are_one_a_line() {
    let coordinator = Coordinator::start(script());
    for (args, names) in [
        (&["ListTablets"][..], "zone1-102\nzone1-103"),
        (
            &["ListBackups", "commerce/0"],
            "2026-10-14.174640.zone1-102\n2026-10-15.030000.zone1-103",
        ),
        (&["ListOperations"], "0193f9b0-0000-7000-8000-000000000001"),
        (&["backup-lock", "--status"], "h-1"),
        (&["timestamp", "fetch"], "41"),
        (&["timestamp", "fetch", "--count", "3"], "42-44"),
    ] {
        let mut all = vec!["-o", "name"];
        all.extend(args);
        assert_eq!(run(&coordinator.url(), &all).await.result(), names);
    }
}

#[tokio::test]
async fn json_of_tablets_is_the_contract() {
    let coordinator = Coordinator::start(script());
    let printed = run(&coordinator.url(), &["-ojson", "ListTablets"])
        .await
        .json();
    assert_eq!(
        printed["tablets"][0],
        json!({
            "alias": "zone1-102", "keyspace": "commerce", "shard": "0", "type": "replica",
            "serving": true, "silent": false, "position": "0-1-100", "lag_ms": 1500, "epoch": 2,
            "engine": "mariadb", "engine_version": "10.11.19-MariaDB",
            "last_seen_at": "2026-10-14T17:46:40.000Z", "message": null,
            "database_running": true, "read_only": true, "replicating": true,
            "operation_id": null, "step": null, "agent_address": "http://127.0.0.1:7611",
            "database_address": "127.0.0.1:3306", "server_id": 102, "instance": "i-1",
            "writer_key": "0a".repeat(32)
        })
    );
    assert_eq!(printed["tablets"][1]["database_running"], json!(null));
    assert_eq!(printed["tablets"][1]["serving"], json!(false));
}

#[tokio::test]
async fn json_of_backups_is_the_contract() {
    let coordinator = Coordinator::start(script());
    let mut expected = json!({
        "name": "2026-10-14.174640.zone1-102", "keyspace": "commerce", "shard": "0",
        "alias": "zone1-102", "state": "complete", "engine": "mariadb",
        "engine_version": "10.11.19-MariaDB", "epoch": 2, "position": "0-1-100",
        "started_at": "2026-10-14T17:46:40.000Z", "ended_at": "2026-10-14T17:48:15.500Z",
        "logical_bytes": 3_221_225_472_u64, "stored_bytes": 1_073_741_824, "files": 412,
        "damaged_pages": 0, "encrypted": true, "manifest_hash": "ab12",
        "operation_id": "0193f9b0-0000-7000-8000-000000000001", "verified": null, "tested": null, "note": null,
        "writer_key": "0b".repeat(32), "pinned": false, "pinned_until_at": null
    });
    let list = run(&coordinator.url(), &["-ojson", "ListBackups", "commerce/0"])
        .await
        .json();
    assert_eq!(list["backups"][0], expected);
    assert_eq!(list["not_read"], json!(null));
    expected["not_read"] = json!(null);
    let get = [
        "-ojson",
        "GetBackup",
        "commerce/0",
        "2026-10-14.174640.zone1-102",
    ];
    assert_eq!(run(&coordinator.url(), &get).await.json(), expected);
}

#[tokio::test]
async fn json_of_operations_is_the_contract() {
    let mut script = script();
    script.operation.progress = Some(v1::Progress {
        bytes_done: 5,
        files_done: 1,
        files_total: 2,
        ..Default::default()
    });
    let coordinator = Coordinator::start(script);
    let list = run(&coordinator.url(), &["-ojson", "ListOperations"])
        .await
        .json();
    assert_eq!(
        list["operations"][0],
        json!({
            "id": "0193f9b0-0000-7000-8000-000000000001", "kind": "backup",
            "keyspace": "commerce", "shard": "0", "alias": "zone1-102",
            "backup": "2026-10-14.174640.zone1-102", "state": "running", "attempt": 1,
            "irrevocable": false,
            "steps": [{"name": "copy", "started_at": "2026-10-14T17:46:40.000Z",
                       "ended_at": null, "error": null}],
            "created_at": "2026-10-14T17:46:40.000Z", "deadline_at": null, "finished_at": null,
            "error": null, "result": null,
            "progress": {"bytes_done": 5, "bytes_total": null, "files_done": 1,
                         "files_total": 2, "message": null,
                         "bytes_per_second": 0, "left_ms": null}
        })
    );
}

#[tokio::test]
async fn json_of_locks_and_timestamps_is_the_contract() {
    let coordinator = Coordinator::start(script());
    let status = run(&coordinator.url(), &["-ojson", "backup-lock", "--status"])
        .await
        .json();
    assert_eq!(
        status,
        json!({"holds": [{
            "id": "h-1", "side": "backup", "keyspace": null, "shard": null, "owner": "ann@db1",
            "reason": "a copy", "token": 7, "granted_at": "2026-10-14T17:46:40.000Z",
            "expires_at": "2026-10-14T17:48:06.400Z", "lease_ms": null, "operation_id": null
        }], "broken": []})
    );
    let fetch = ["-ojson", "timestamp", "fetch", "--count", "3"];
    let given = run(&coordinator.url(), &fetch).await.json();
    assert_eq!(given, json!({"first": 41, "last": 43, "count": 3}));
}

#[tokio::test]
async fn a_time_is_translated_to_a_timestamp_and_back() {
    let note = |timestamp, unix_ms| Some(v1::TimestampNote { timestamp, unix_ms });
    let around = |before, after| async move {
        let coordinator = Coordinator::start(Script {
            notes: v1::TimestampNotesResponse { before, after },
            ..script()
        });
        let at = ["timestamp", "fetch", "--at", "2026-10-14T17:46:50Z"];
        let at = run(&coordinator.url(), &at).await;
        let of = run(&coordinator.url(), &["timestamp", "time-of", "45"]).await;
        (at, of)
    };
    let (first, second) = (note(41, 1_792_000_000_000), note(49, 1_792_000_060_000));
    let (at, of) = around(first, second).await;
    assert_eq!(at.result(), "41");
    assert_eq!(
        of.result(),
        "after 2026-10-14T17:46:40.000Z, before 2026-10-14T17:47:40.000Z"
    );
    let (at, of) = around(first, None).await;
    assert_eq!(at.result(), "41");
    assert_eq!(of.result(), "after 2026-10-14T17:46:40.000Z, or not yet");
    let (at, of) = around(None, second).await;
    let refused = at.failure(1);
    assert!(
        refused.contains("by 2026-10-14T17:46:50.000Z is not known"),
        "{refused}"
    );
    assert!(
        refused.contains("the first note is of 2026-10-14T17:47:40.000Z"),
        "{refused}"
    );
    assert_eq!(of.result(), "before 2026-10-14T17:47:40.000Z");
}

#[tokio::test]
async fn the_cluster_is_shown_with_the_members_that_do_not_answer() {
    let coordinator = Coordinator::start(script());
    let status = run(&coordinator.url(), &["-ojson", "ClusterStatus"])
        .await
        .json();
    assert_eq!(status["leader"], json!(1));
    assert_eq!(status["members"][0]["answers"], json!(true));
    assert_eq!(status["members"][1]["answers"], json!(false));
    assert!(status["members"][1]["error"].is_string());
    let away = &status["members"][1]["away_since_at"];
    assert_eq!(away, &json!("2026-10-14T17:46:40.000Z"));
    assert_eq!(status["members"][0]["lag_entries"], json!(3));
    assert_eq!(status["members"][0]["away_since_at"], json!(null));
    assert_eq!(status["members"][0]["disk_free_bytes"], json!(5_u64 << 30));
    assert_eq!(status["timestamp_recorded"], json!(1_000_000_000));
    let table = run(&coordinator.url(), &["ClusterStatus"]).await;
    assert!(table.result().contains("no, for "), "{}", table.stdout);
    assert!(table.result().contains("5.0 GiB"), "{}", table.stdout);
    assert!(
        table.result().contains("member 1, term 3"),
        "{}",
        table.stdout
    );
    assert!(table.result().contains("ours to write"));
}

#[tokio::test]
async fn every_command_has_completions_and_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = run("http://127.0.0.1:1", &["completions", shell]).await;
        assert!(script.result().contains("BackupShard"));
        assert!(script.result().contains("backup-shard"));
    }
    assert!(
        run("http://127.0.0.1:1", &["man"])
            .await
            .result()
            .contains("SEAWALL_COORDINATOR")
    );
    let man = ["man", "--directory", directory.path().to_str().unwrap()];
    run("http://127.0.0.1:1", &man).await.result();
    assert!(directory.path().join("seawallctl-Backup.1").exists());
}

//! `BackupStatus` and `BackupThrottle`: what they ask for, what they print, what they refuse.

use seawall_proto::v1::{Progress, Transfer, TransferReport};
use serde_json::json;

use crate::fake::{Coordinator, Script, run};

const OPERATION: &str = "0193f9b0-0000-7000-8000-000000000001";

fn coordinator(report: TransferReport) -> Coordinator {
    Coordinator::start(Script {
        transfers: report,
        ..Default::default()
    })
}

fn at_work() -> TransferReport {
    let copying = Transfer {
        operation_id: OPERATION.into(),
        kind: "backup".into(),
        step: "copy".into(),
        began_unix_ms: 1_792_000_000_120,
        progress: Some(Progress {
            bytes_done: 512 << 20,
            bytes_total: 2 << 30,
            files_done: 12,
            files_total: 40,
            message: "copying".into(),
            bytes_per_second: 3 << 20,
            left_ms: Some(512_000),
        }),
    };
    let between_two_steps = Transfer {
        operation_id: "other".into(),
        kind: "restore".into(),
        step: "drain".into(),
        ..Default::default()
    };
    TransferReport {
        alias: "zone1-102".into(),
        limit_bytes_per_second: Some(1_000_000),
        limit_was_set: true,
        bytes_per_second: 1 << 20,
        transfers: vec![copying, between_two_steps],
    }
}

#[tokio::test]
async fn a_status_shows_every_transfer_with_all_that_is_known_of_it() {
    let coordinator = coordinator(at_work());
    let ended = run(&coordinator.url(), &["BackupStatus", "zone1-102"]).await;
    let text = ended.result();
    let lines: Vec<&str> = text.lines().collect();
    for (line, words) in [
        (1, vec!["limit:", "1 MB/s (set by BackupThrottle)"]),
        (2, vec!["traffic:", "1.0 MiB/s"]),
        (
            5,
            vec![
                OPERATION,
                "backup",
                "copy",
                "25%",
                "512.0 MiB of 2.0 GiB",
                "12 of 40",
                "3.0 MiB/s",
                "8m32s",
            ],
        ),
        (6, vec!["other", "restore", "drain", "-"]),
    ] {
        for word in words {
            assert!(lines[line].contains(word), "no {word:?} in {text}");
        }
    }

    let args = ["-o", "json", "backup-status", "zone1-102"];
    let printed = run(&coordinator.url(), &args).await.json();
    assert_eq!(printed["limit_bytes_per_second"], 1_000_000);
    assert_eq!(printed["paused"], false);
    assert_eq!(printed["limit_was_set"], true);
    assert_eq!(printed["traffic_bytes_per_second"], 1 << 20);
    assert_eq!(
        printed["transfers"][0],
        json!({
            "operation_id": OPERATION,
            "kind": "backup",
            "step": "copy",
            "began_at": "2026-10-14T17:46:40.120Z",
            "percent": 25,
            "bytes_done": 512 << 20,
            "bytes_total": 2_u64 << 30,
            "files_done": 12,
            "files_total": 40,
            "bytes_per_second": 3 << 20,
            "left_ms": 512_000,
            "message": "copying",
        })
    );
    assert_eq!(printed["transfers"][1]["percent"], json!(null));
    let args = ["-o", "name", "BackupStatus", "zone1-102"];
    let names = run(&coordinator.url(), &args).await;
    assert_eq!(names.result(), format!("{OPERATION}\nother"));
}

#[tokio::test]
async fn an_agent_that_has_nothing_to_do_says_so_and_a_paused_one_too() {
    let paused = TransferReport {
        alias: "zone1-102".into(),
        limit_bytes_per_second: Some(0),
        ..Default::default()
    };
    let coordinator = coordinator(paused);
    let args = ["BackupStatus", "zone1-102"];
    let ended = run(&coordinator.url(), &args).await;
    let text = ended.result();
    assert!(text.contains("paused") && text.ends_with("idle"), "{text}");
}

#[tokio::test]
async fn a_rate_is_sent_in_bytes_per_second() {
    for (rate, sent) in [
        ("50MB", "Some(BytesPerSecond(50000000))"),
        ("0", "Some(BytesPerSecond(0))"),
        ("unlimited", "Some(Unlimited(Nothing))"),
        ("default", "Some(Configured(Nothing))"),
    ] {
        let coordinator = coordinator(at_work());
        let args = ["BackupThrottle", "zone1-102", rate];
        run(&coordinator.url(), &args).await.result();
        let request = coordinator.the_request("Transfers.SetThrottle");
        assert!(request.contains(sent), "{rate}: {request}");
        assert!(request.contains("alias: \"zone1-102\""), "{request}");
    }
}

#[tokio::test]
async fn what_is_no_rate_or_no_alias_is_refused_with_one_line() {
    let coordinator = coordinator(at_work());
    for (args, word) in [
        (vec!["BackupThrottle", "zone1-102", "fast"], "50MB"),
        (vec!["BackupThrottle", "zone1-102", "-5MB"], "'-5'"),
        (vec!["BackupThrottle", "zone1-102"], "RATE"),
        (vec!["BackupThrottle", "commerce/0", "1MB"], "commerce/0"),
        (vec!["BackupStatus", "zone1"], "zone1"),
        (vec!["BackupStatus"], "ALIAS"),
    ] {
        let ended = run(&coordinator.url(), &args).await;
        assert!(ended.failure(2).contains(word), "{ended:#?}");
    }
    assert!(coordinator.asked().is_empty());
}

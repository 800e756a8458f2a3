//! What is kept and what goes: what the commands ask for, and what they print.

use seawall_proto::v1::{self, *};

use crate::fake::{Coordinator, Script, backup_operation, run};

fn shard() -> Option<ShardRef> {
    Some(ShardRef {
        keyspace: "commerce".into(),
        shard: "0".into(),
    })
}

fn script() -> Script {
    let expired = vec![ExpiredBackup {
        shard: shard(),
        name: "2026-11-20.031500.zone1-101".into(),
        reason: "retention keeps 2, and that many are newer".into(),
    }];
    let leftover = |backup: &str, objects: u64, staying: u64, kept: bool| Leftover {
        backup: backup.into(),
        objects,
        bytes: objects * 1024,
        staying_objects: staying,
        staying_bytes: staying << 20,
        needed_by: match staying > 0 && !kept {
            true => vec!["2026-11-21.031500.zone1-101".into()],
            false => vec![],
        },
        kept,
    };
    Script {
        set_retention: SetRetentionResponse {
            expired: expired.clone(),
            stopped: "wall time jumped".into(),
            unknown: true,
            not_read: vec!["commerce/0: the store is away".into()],
        },
        retention: GetRetentionResponse {
            shards: vec![ShardRetention {
                shard: shard(),
                policy: Some(RetentionPolicy {
                    keep_count: Some(2),
                    keep_age_ms: None,
                    daily: 7,
                    ..Default::default()
                }),
                from: "commerce".into(),
                expired,
            }],
            stopped: String::new(),
        },
        collection: PlanCollectionResponse {
            shards: vec![ShardCollection {
                shard: shard(),
                leftovers: vec![
                    leftover("2026-11-18.031500.zone1-101", 3, 2, false),
                    leftover("2026-11-19.031500.zone1-101", 0, 9, true),
                ],
                stopped: String::new(),
            }],
        },
        operation: v1::Operation {
            result: "5 objects, 500 bytes deleted of removed backups".into(),
            ..backup_operation(OperationState::Succeeded, "sweep")
        },
        ..Default::default()
    }
}

/// Runs a command and gives the one request of `method`, and what was printed.
async fn ask(method: &str, args: &[&str]) -> (String, String) {
    let coordinator = Coordinator::start(script());
    let printed = run(&coordinator.url(), args).await.result().to_owned();
    (coordinator.the_request(method), printed)
}

#[tokio::test]
async fn a_policy_is_sent_as_it_was_written_and_shows_what_goes_by_it() {
    let args = [
        "SetRetention",
        "commerce",
        "--keep-count",
        "2",
        "--keep-age",
        "30d",
        "--minimum",
        "3",
        "--daily",
        "7",
        "--weekly",
        "4",
        "--monthly",
        "12",
        "--dry-run",
    ];
    let (request, printed) = ask("Retention.SetRetention", &args).await;
    for part in [
        "keyspace: \"commerce\"",
        "shard: \"\"",
        "keep_count: Some(2)",
        "keep_age_ms: Some(2592000000)",
        "minimum: 3",
        "daily: 7",
        "weekly: 4",
        "monthly: 12",
        "dry_run: true",
    ] {
        assert!(request.contains(part), "no {part} in {request}");
    }
    assert!(printed.contains("nothing is set; 1 would go"), "{printed}");
    assert!(
        printed.contains("retention stands still: wall time jumped"),
        "{printed}"
    );
    assert!(
        printed.contains("nothing is known of commerce yet"),
        "{printed}"
    );
    assert!(printed.contains("retention keeps 2"), "{printed}");

    let none = ["SetRetention", "commerce/0", "--none"];
    let (request, _) = ask("Retention.SetRetention", &none).await;
    assert!(request.contains("keep_count: None"), "{request}");
    assert!(request.contains("dry_run: false"), "{request}");
    let inherit = ["SetRetention", "commerce/0", "--inherit"];
    let (request, _) = ask("Retention.SetRetention", &inherit).await;
    assert!(request.contains("policy: None"), "{request}");
    ask("Retention.ResumeRetention", &["SetRetention", "--resume"]).await;
}

#[tokio::test]
async fn a_policy_that_makes_no_sense_is_wrong_usage() {
    let coordinator = Coordinator::start(script());
    for bad in [
        &["SetRetention", "commerce"][..],
        &["SetRetention", "--keep-count", "2"],
        &["SetRetention", "commerce", "--daily", "7"],
        &["SetRetention", "commerce", "--none", "--keep-count", "2"],
        &["SetRetention", "commerce", "--none", "--inherit"],
        &["SetRetention", "commerce", "--resume"],
        &["SetRetention", "commerce", "--keep-age", "0d"],
        &[
            "PinBackup",
            "commerce/0",
            "2026-11-20.031500.zone1-101",
            "--until",
            "soon",
        ],
        &["CollectGarbage"],
        &["CollectGarbage", "commerce/0", "--dry-run", "--detach"],
        &["CollectGarbage", "commerce", "--detach"],
    ] {
        let ended = run(&coordinator.url(), bad).await;
        assert_eq!(ended.code, 2, "{bad:?}: {ended:?}");
    }
    assert!(coordinator.asked().is_empty());
}

#[tokio::test]
async fn what_holds_is_shown_shard_by_shard_with_whose_it_is() {
    let (_, printed) = ask("Retention.GetRetention", &["GetRetention"]).await;
    let row: Vec<&str> = printed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        row,
        ["commerce/0", "commerce", "2", "-", "1", "7", "-", "-", "1"]
    );

    let args = ["GetRetention", "commerce/0", "-o", "json"];
    let (request, printed) = ask("Retention.GetRetention", &args).await;
    assert!(request.contains("shard: \"0\""), "{request}");
    let json: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(json["stopped"], serde_json::Value::Null);
    assert_eq!(json["shards"][0]["from"], "commerce");
    assert_eq!(json["shards"][0]["policy"]["keep_count"], 2);
    assert_eq!(json["shards"][0]["policy"]["minimum"], 1);
    assert_eq!(
        json["shards"][0]["expired"][0]["name"],
        "2026-11-20.031500.zone1-101"
    );
}

#[tokio::test]
async fn a_dry_run_shows_what_would_go_and_why_the_rest_stays() {
    let args = ["CollectGarbage", "commerce/0", "--dry-run"];
    let (request, printed) = ask("Retention.PlanCollection", &args).await;
    assert!(request.contains("keyspace: \"commerce\""), "{request}");
    let lines: Vec<&str> = printed.lines().collect();
    assert!(
        lines[1].contains("3.0 KiB") && lines[1].contains("2.0 MiB"),
        "{printed}"
    );
    assert!(
        lines[1].ends_with("needed by 2026-11-21.031500.zone1-101"),
        "{printed}"
    );
    assert!(
        lines[2].ends_with("its grace time is not over"),
        "{printed}"
    );

    let args = ["CollectGarbage", "commerce/0", "--dry-run", "-o", "json"];
    let (_, printed) = ask("Retention.PlanCollection", &args).await;
    let json: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let leftovers = &json["shards"][0]["leftovers"];
    assert_eq!(leftovers[0]["objects"], 3);
    assert_eq!(leftovers[0]["needed_by"][0], "2026-11-21.031500.zone1-101");
    assert_eq!(leftovers[1]["kept"], true);
}

#[tokio::test]
async fn a_keyspace_is_collected_shard_by_shard() {
    for scope in ["commerce/0", "commerce"] {
        let (request, printed) = ask("Operations.Start", &["CollectGarbage", scope]).await;
        assert!(request.contains("Collect(CollectSpec"), "{request}");
        assert!(
            printed.contains("5 objects, 500 bytes deleted"),
            "{printed}"
        );
    }
}

#[tokio::test]
async fn a_backup_is_pinned_with_or_without_an_end() {
    let name = "2026-11-20.031500.zone1-101";
    let pin = ["PinBackup", "commerce/0", name];
    let (request, printed) = ask("Catalogue.PinBackup", &pin).await;
    assert!(request.contains("until_unix_ms: 0"), "{request}");
    assert!(printed.contains("is pinned"), "{printed}");
    let until = ["--until", "2027-01-31T12:00:00Z"];
    let (request, printed) = ask("Catalogue.PinBackup", &[&pin[..], &until].concat()).await;
    assert!(
        request.contains("until_unix_ms: 1801396800000"),
        "{request}"
    );
    assert!(printed.contains("until 2027-01-31T12:00:00Z"), "{printed}");
    let (_, printed) = ask(
        "Catalogue.UnpinBackup",
        &["UnpinBackup", "commerce/0", name],
    )
    .await;
    assert!(printed.contains("is not pinned"), "{printed}");
}

//! How commands end when they cannot do what they were asked.

use seawall_common::Error;
use seawall_proto::v1::{self, OperationState, RefusedBackup, StartBackupsResponse};
use tonic::Status;

use crate::fake::{Coordinator, Ended, Script, backup, backup_operation, commerce, run};

/// Nothing listens there.
fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn nobody_there_is_3() {
    let nobody = format!("{},{}", closed_port(), closed_port());
    for command in [
        &["ListTablets"][..],
        &["Backup", "zone1-102"],
        &["BackupKeyspace", "commerce"],
        &["ClusterStatus"],
    ] {
        let mut args = vec!["--timeout", "1s"];
        args.extend(command);
        let ended = run(&nobody, &args).await;
        let line = ended.failure(3);
        assert!(line.contains("no coordinator answered within 1s"), "{line}");
        assert!(line.contains("SEAWALL_COORDINATOR"), "{line}");
    }
}

#[tokio::test]
async fn a_coordinator_without_a_leader_has_not_answered() {
    let mut script = Script::default();
    let refusal = || Status::from(Error::unavailable("no leader is known"));
    script
        .refusals
        .extend(std::iter::repeat_with(refusal).take(100));
    let coordinator = Coordinator::start(script);
    let ended = run(&coordinator.url(), &["ListTablets", "--timeout", "1s"]).await;
    assert!(ended.failure(3).contains("no leader is known"));
}

#[tokio::test]
async fn wrong_usage_is_2_before_any_network() {
    for args in [
        &["ListBackups", "../0"][..],
        &["Backup", "zone1"],
        &[
            "InitTablet",
            "--keyspace",
            "..",
            "--shard",
            "0",
            "zone1-101",
        ],
        &["Frobnicate"],
        &["Backup", "--concurrency", "many", "zone1-102"],
        &["timestamp", "fast-forward", "--file", "/nowhere/at/all"],
    ] {
        run(&closed_port(), args).await.failure(2);
    }
}

#[tokio::test]
async fn help_and_version_are_results() {
    for args in [&["--help"][..], &["--version"], &["Backup", "--help"]] {
        let ended = run(&closed_port(), args).await;
        assert!(ended.result().contains("seawallctl") || ended.result().contains("Usage"));
    }
}

#[tokio::test]
async fn a_refusal_is_1_and_one_line_that_says_what_why_and_what_to_do() {
    let mut script = Script::default();
    script.refusals.push_back(
        Error::refused("zone1-101 is the primary of commerce/0")
            .hint("Back a replica up, or use --allow-primary.")
            .into(),
    );
    let coordinator = Coordinator::start(script);
    let ended = run(&coordinator.url(), &["Backup", "zone1-101"]).await;
    assert_eq!(
        ended.failure(1),
        "seawallctl: Backup zone1-101: zone1-101 is the primary of commerce/0. Back a replica up, \
         or use --allow-primary."
    );
}

#[tokio::test]
async fn a_coordinator_of_another_version_is_named_as_such() {
    let mut script = Script::default();
    script.refusals.push_back(Status::unimplemented(""));
    let coordinator = Coordinator::start(script);
    let ended = run(&coordinator.url(), &["ListTablets"]).await;
    let line = ended.failure(1);
    assert!(line.contains("another version"), "{line}");
    assert!(line.contains(&coordinator.url()), "{line}");
}

/// Something that speaks HTTP, but not gRPC.
fn web_server() -> String {
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            let _ = connection.unwrap().write_all(answer.as_bytes());
        }
    });
    url
}

#[tokio::test]
async fn what_answers_and_is_no_coordinator_is_named_and_the_next_one_is_asked() {
    let mut script = Script::default();
    script
        .refusals
        .extend(std::iter::repeat_with(|| Status::unimplemented("")).take(100));
    let agent = Coordinator::start(script);
    let coordinator = Coordinator::start(Script::default());
    for stranger in [web_server(), agent.url()] {
        let line = run(&stranger, &["ListTablets"]).await;
        assert_eq!(
            line.failure(3),
            format!(
                "seawallctl: ListTablets: {stranger} answers, but not as a coordinator: is that \
                 its gRPC port (7601)?"
            )
        );
        let both = format!("{stranger},{}", coordinator.url());
        run(&both, &["ListTablets"]).await.result();
    }
}

#[tokio::test]
async fn an_operation_that_failed_is_1() {
    let mut operation = backup_operation(OperationState::Failed, "copy");
    operation.steps[0].error = "the disk is full".into();
    operation.error = "the disk is full. Make room.".into();
    let coordinator = Coordinator::start(Script {
        operation,
        ..Default::default()
    });
    let ended = run(&coordinator.url(), &["Backup", "zone1-102"]).await;
    let line = ended.failure(1);
    assert!(
        line.contains("failed in step copy: the disk is full. Make room. "),
        "{line}"
    );
    assert!(line.contains("WatchOperation"), "{line}");
}

#[tokio::test]
async fn a_call_is_repeated_with_another_member_and_under_the_same_id() {
    let mut first = Script::default();
    first
        .refusals
        .push_back(Error::unavailable("the leader has left").into());
    let first = Coordinator::start(first);
    let second = Coordinator::start(Script {
        operation: backup_operation(OperationState::Succeeded, "serve"),
        ..Default::default()
    });
    let both = format!("{},{},{}", closed_port(), first.url(), second.url());
    run(&both, &["Backup", "zone1-102"]).await.result();
    assert_eq!(
        first.the_request("Operations.Start"),
        second.the_request("Operations.Start")
    );
}

#[tokio::test]
async fn a_tablet_that_an_unanswered_try_has_removed_is_removed() {
    let not_there = || Status::from(Error::not_found("there is no tablet zone1-101"));
    let mut script = Script::default();
    script
        .refusals
        .push_back(Error::unavailable("the leader has left").into());
    script.refusals.push_back(not_there());
    let coordinator = Coordinator::start(script);
    run(&coordinator.url(), &["RemoveTablet", "zone1-101"])
        .await
        .result();

    let mut script = Script::default();
    script.refusals.push_back(not_there());
    let coordinator = Coordinator::start(script);
    run(&coordinator.url(), &["RemoveTablet", "zone1-101"])
        .await
        .failure(1);
}

#[tokio::test]
async fn one_shard_that_is_refused_makes_the_keyspace_fail_and_the_others_are_still_told() {
    let refused = RefusedBackup {
        shard: Some(v1::ShardRef {
            keyspace: "commerce".into(),
            shard: "80-".into(),
        }),
        error: "no replica can be taken".into(),
        hint: "See ListTablets.".into(),
    };
    let coordinator = Coordinator::start(Script {
        start_backups: StartBackupsResponse {
            operations: vec![backup_operation(OperationState::Succeeded, "serve")],
            refused: vec![refused],
        },
        ..Default::default()
    });
    let ended = run(
        &coordinator.url(),
        &["-o", "name", "BackupKeyspace", "commerce"],
    )
    .await;
    assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1));
    assert!(
        ended.stderr.contains("1 of 2 shards have no new backup"),
        "{}",
        ended.stderr
    );
    assert!(
        ended
            .stderr
            .contains("commerce/80- refused: no replica can be taken")
    );
    assert_eq!(ended.stdout, "2026-10-14.174640.zone1-102\n");
}

#[tokio::test]
async fn a_dry_run_prints_what_the_coordinator_would_choose_and_starts_nothing() {
    let mut script = Script {
        plan: v1::PlanRestoreResponse {
            tablet: Some(v1::Tablet {
                alias: "zone1-103".into(),
                shard: Some(commerce()),
                ..Default::default()
            }),
            backup: Some(backup(
                "2026-10-14.174640.zone1-102",
                v1::BackupState::Complete,
            )),
            fetch: Some(v1::FetchPlan {
                data_bytes: 3 << 30,
                resumed_bytes: 1 << 30,
                copied_bytes: 1 << 30,
                missing_bytes: 1 << 30,
                fetch_bytes: 700 << 20,
                requests: 90,
                upper_bound: true,
                space: vec![v1::FileSystemSpace {
                    path: "/var/lib".into(),
                    needed_bytes: 2 << 30,
                    free_bytes: 1 << 30,
                }],
            }),
            fetch_unknown: String::new(),
            passed_over: vec!["2026-10-15.174640.zone1-102 is broken".into()],
        },
        ..Default::default()
    };
    script
        .refusals
        .push_back(Error::refused("zone1-103 is the primary of commerce/0").into());
    let coordinator = Coordinator::start(script);
    let dry_run = ["Restore", "zone1-103", "--dry-run"];
    let refused = run(&coordinator.url(), &dry_run).await;
    assert!(refused.failure(1).contains("is the primary"), "{refused:?}");
    let ended = run(&coordinator.url(), &dry_run).await;
    assert!(ended.result().starts_with(
        "would restore 2026-10-14.174640.zone1-102 onto zone1-103: 3.0 GiB at 0-1-100"
    ));
    for line in [
        "passes over 2026-10-15.174640.zone1-102 is broken",
        "would fetch at most 700.0 MiB in 90 requests",
        "1.0 GiB is here already, from a restore that was cut off",
        "1.0 GiB would be copied from the data that is replaced",
        "needs 2.0 GiB free below /var/lib, where 1.0 GiB is: it would be refused",
    ] {
        assert!(ended.stdout.contains(line), "{line} in {}", ended.stdout);
    }
    let asked = coordinator.asked();
    assert!(
        asked.iter().all(|asked| asked.contains("PlanRestore")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn an_identity_is_made_without_any_coordinator() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("identity");
    let args = ["GenerateIdentity", "--output-file", file.to_str().unwrap()];
    let ended = run(&closed_port(), &args).await;
    assert!(ended.result().starts_with("age1"), "{ended:?}");
    assert!(!ended.stdout.contains("SECRET"));
    let again = run(&closed_port(), &args).await;
    assert!(again.failure(1).contains("exists already"));
}

#[tokio::test]
async fn what_asks_nobody_works_whatever_the_variable_says() {
    let program = env!("CARGO_BIN_EXE_seawallctl");
    let with_nonsense = async |args: &[&str]| {
        let mut command = tokio::process::Command::new(program);
        command.env("SEAWALL_COORDINATOR", "nonsense").args(args);
        Ended::from(command.output().await.unwrap())
    };
    assert!(
        !with_nonsense(&["completions", "bash"])
            .await
            .result()
            .is_empty()
    );
    let refused = with_nonsense(&["ListTablets"]).await;
    assert!(
        refused.failure(2).contains("SEAWALL_COORDINATOR"),
        "{refused:?}"
    );
}

//! Following operations: over lost coordinators, and letting go of them.

use std::time::Duration;

use seawall_proto::v1::{BackupState, OperationState, Progress, StartBackupsResponse};
use tokio::{io::AsyncReadExt as _, process::Child, time::timeout};

use crate::fake::{Coordinator, Ended, Script, backup, backup_operation, run, seawallctl};

const LIMIT: Duration = Duration::from_secs(20);
const NAME: &str = "2026-10-14.174640.zone1-102";

fn running() -> Script {
    Script {
        operation: backup_operation(OperationState::Running, "copy"),
        backups: vec![backup(NAME, BackupState::Complete)],
        ..Default::default()
    }
}

#[tokio::test]
async fn a_watch_goes_on_through_another_member_and_says_so_once() {
    let (first, second) = (Coordinator::start(running()), Coordinator::start(running()));
    let both = format!("{},{}", first.url(), second.url());
    let child = seawallctl(&both, &["Backup", "zone1-102"]).spawn().unwrap();

    let (id, watch) = first.watched().await;
    let mut operation = backup_operation(OperationState::Running, "copy");
    operation.progress = Some(Progress {
        bytes_done: 50,
        bytes_total: 200,
        ..Default::default()
    });
    watch.send(Ok(operation.clone())).await.unwrap();
    // Long enough for it to be worth a line.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    first.die();

    let (again, watch) = timeout(LIMIT, second.watched()).await.unwrap();
    assert_eq!(again, id, "another operation is watched");
    watch.send(Ok(operation)).await.unwrap();
    watch
        .send(Ok(backup_operation(OperationState::Succeeded, "serve")))
        .await
        .unwrap();

    let ended: Ended = timeout(LIMIT, child.wait_with_output())
        .await
        .unwrap()
        .unwrap()
        .into();
    assert_eq!(ended.result(), NAME);
    let told: Vec<&str> = ended
        .stderr
        .lines()
        .filter(|line| line.contains("lost"))
        .collect();
    assert_eq!(told.len(), 1, "{}", ended.stderr);
    assert!(
        told[0].contains(&first.url()) && told[0].contains(&second.url()),
        "{told:?}"
    );
    assert!(
        ended
            .stderr
            .contains("backup commerce/0 zone1-102: copy 25%, 50 B of 200 B")
    );
    assert!(
        !second
            .asked()
            .iter()
            .any(|asked| asked.starts_with("Operations.Start"))
    );
}

#[tokio::test]
async fn a_watch_finds_members_that_were_not_named() {
    let second = Coordinator::start(running());
    let mut script = running();
    script.cluster.members.push(seawall_proto::v1::Member {
        id: 2,
        address: second.address.to_string(),
        voter: true,
        ..Default::default()
    });
    let first = Coordinator::start(script);
    let child = seawallctl(&first.url(), &["Backup", "zone1-102"])
        .spawn()
        .unwrap();
    first.watched().await;
    first.die();
    let (_, watch) = timeout(LIMIT, second.watched()).await.unwrap();
    watch
        .send(Ok(backup_operation(OperationState::Succeeded, "serve")))
        .await
        .unwrap();
    let ended: Ended = timeout(LIMIT, child.wait_with_output())
        .await
        .unwrap()
        .unwrap()
        .into();
    assert_eq!(ended.result(), NAME);
}

#[tokio::test]
async fn members_of_another_group_are_not_learned() {
    let member = |id: u64, of: &Coordinator| seawall_proto::v1::Member {
        id,
        address: of.address.to_string(),
        voter: true,
        ..Default::default()
    };
    let mut script = running();
    script.cluster.group_id = "g-2".into();
    let stranger = Coordinator::start(script);
    let mut script = running();
    script.cluster.group_id = "g-1".into();
    let second = Coordinator::start(script);
    let mut script = running();
    script.cluster.group_id = "g-1".into();
    script.cluster.members = vec![member(2, &stranger), member(3, &second)];
    let first = Coordinator::start(script);
    let _child = seawallctl(&first.url(), &["Backup", "zone1-102"])
        .spawn()
        .unwrap();
    first.watched().await;
    first.die();
    timeout(LIMIT, second.watched()).await.unwrap();
    let asked = stranger.asked();
    assert!(
        !asked.iter().any(|asked| asked.contains("Watch")),
        "{asked:?}"
    );
}

/// Presses Ctrl-C; what the program says then.
async fn interrupt(mut child: Child) -> String {
    let pid = child.id().unwrap().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(killed.unwrap().success());
    let status = timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(1));
    let mut stderr = String::new();
    let mut pipe = child.stderr.take().unwrap();
    pipe.read_to_string(&mut stderr).await.unwrap();
    stderr
}

#[tokio::test]
async fn ctrl_c_before_any_answer_claims_nothing_about_the_operation() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    for args in [
        &["Backup", "zone1-102"][..],
        &["BackupKeyspace", "commerce"],
    ] {
        let child = seawallctl(&url, args).spawn().unwrap();
        let _connection = timeout(LIMIT, silent.accept()).await.unwrap().unwrap();
        // Ctrl-C is listened to from the moment when the call begins, or just after it.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let stderr = interrupt(child).await;
        assert!(
            stderr.contains("no coordinator has answered yet"),
            "{stderr}"
        );
        assert!(stderr.contains("ListOperations"), "{stderr}");
    }
}

#[tokio::test]
async fn ctrl_c_lets_go_of_the_operation_and_says_how_to_watch_or_end_it() {
    let coordinator = Coordinator::start(running());
    let child = seawallctl(&coordinator.url(), &["Backup", "zone1-102"])
        .spawn()
        .unwrap();
    let (id, _watch) = coordinator.watched().await;
    let stderr = interrupt(child).await;
    assert!(
        stderr.contains(&format!("let go of operation {id}, which goes on")),
        "{stderr}"
    );
    assert!(
        stderr.contains(&format!("seawallctl WatchOperation {id}")),
        "{stderr}"
    );
    assert!(
        stderr.contains(&format!("seawallctl CancelOperation {id}")),
        "{stderr}"
    );
    assert!(
        !coordinator
            .asked()
            .iter()
            .any(|asked| asked.contains("Cancel"))
    );
}

#[tokio::test]
async fn detach_prints_the_id_and_returns() {
    let coordinator = Coordinator::start(running());
    let ended = run(&coordinator.url(), &["Backup", "--detach", "zone1-102"]).await;
    let id = ended.result().to_owned();
    assert!(coordinator.the_request("Operations.Start").contains(&id));
    assert!(
        !coordinator
            .asked()
            .iter()
            .any(|asked| asked.contains("Watch"))
    );
}

#[tokio::test]
async fn the_backups_of_a_keyspace_are_followed_together() {
    let mut other = backup_operation(OperationState::Running, "copy");
    other.id = "0193f9b0-0000-7000-8000-000000000002".into();
    other.shard.as_mut().unwrap().shard = "1".into();
    other.backup = "2026-10-14.174640.zone1-202".into();
    let coordinator = Coordinator::start(Script {
        start_backups: StartBackupsResponse {
            operations: vec![
                backup_operation(OperationState::Running, "copy"),
                other.clone(),
            ],
            refused: vec![],
        },
        ..Default::default()
    });
    let child = seawallctl(
        &coordinator.url(),
        &["-o", "name", "BackupKeyspace", "commerce"],
    )
    .spawn()
    .unwrap();
    let both_watched = async {
        while coordinator.script.lock().unwrap().watches.len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, both_watched).await.unwrap();
    let watches = std::mem::take(&mut coordinator.script.lock().unwrap().watches);
    for (id, watch) in watches {
        let mut operation = if id == other.id {
            other.clone()
        } else {
            backup_operation(OperationState::Running, "copy")
        };
        operation.state = OperationState::Succeeded.into();
        watch.send(Ok(operation)).await.unwrap();
    }
    let ended: Ended = timeout(LIMIT, child.wait_with_output())
        .await
        .unwrap()
        .unwrap()
        .into();
    assert_eq!(
        ended.result().lines().collect::<Vec<_>>(),
        [NAME, "2026-10-14.174640.zone1-202"]
    );
}

#[tokio::test]
async fn watching_an_operation_that_failed_shows_it_and_fails() {
    let coordinator = Coordinator::start(running());
    let id = "0193f9b0-0000-7000-8000-000000000001";
    let child = seawallctl(&coordinator.url(), &["-o", "json", "WatchOperation", id])
        .spawn()
        .unwrap();
    let (_, watch) = coordinator.watched().await;
    let mut failed = backup_operation(OperationState::Cancelled, "copy");
    failed.error = "cancelled: by an operator".into();
    watch.send(Ok(failed)).await.unwrap();
    let ended: Ended = timeout(LIMIT, child.wait_with_output())
        .await
        .unwrap()
        .unwrap()
        .into();
    assert_eq!(ended.code, 1);
    let shown: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(shown["state"], "cancelled");
    assert!(
        ended.stderr.contains("was cancelled: by an operator"),
        "{}",
        ended.stderr
    );
}

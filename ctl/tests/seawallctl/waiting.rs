//! Who waits is told for what, within two seconds.

use std::time::Duration;

use seawall_proto::v1::{OperationState, Progress};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
    time::{Instant, timeout},
};

use crate::fake::{Coordinator, Ended, Script, backup_operation, run, seawallctl};

/// Two seconds, and what starting a program takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(4);

/// The first line on standard error, and after how long.
async fn first_line(child: &mut Child) -> (String, Duration) {
    let began = Instant::now();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = timeout(Duration::from_secs(20), lines.next_line()).await;
    (line.unwrap().unwrap().unwrap(), began.elapsed())
}

#[tokio::test]
async fn what_an_operation_waits_for_is_said_though_nothing_changes() {
    let mut operation = backup_operation(OperationState::Running, "sweep");
    operation.progress = Some(Progress {
        message: "waits: backup of zone1-101 holds the backup lock".into(),
        ..Default::default()
    });
    let coordinator = Coordinator::start(Script {
        operation: operation.clone(),
        ..Default::default()
    });
    let mut child = seawallctl(&coordinator.url(), &["CollectGarbage", "commerce/0"])
        .spawn()
        .unwrap();
    let (_, watch) = coordinator.watched().await;
    watch.send(Ok(operation)).await.unwrap();
    let (line, took) = first_line(&mut child).await;
    assert!(
        line.ends_with("sweep (waits: backup of zone1-101 holds the backup lock)"),
        "{line}"
    );
    assert!(took < LIMIT, "{took:?}");
}

#[tokio::test]
async fn a_store_that_takes_longer_than_the_time_limit_is_waited_for_and_told_of() {
    let coordinator = Coordinator::start(Script {
        delay: Duration::from_secs(3),
        ..Default::default()
    });
    let args = [
        "SetRetention",
        "commerce",
        "--keep-count",
        "2",
        "--dry-run",
        "--timeout",
        "1s",
    ];
    let ended = run(&coordinator.url(), &args).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        ended.stderr,
        "no answer for 2s yet: the coordinator is away, or reads the repository\n"
    );
}

/// Patience is for those who have taken the call.
#[tokio::test]
async fn a_call_that_may_take_long_is_soon_given_up_when_nobody_is_there() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let args = [
        "CollectGarbage",
        "commerce/0",
        "--dry-run",
        "--timeout",
        "1s",
    ];
    let ended = timeout(Duration::from_secs(10), run(&nobody, &args)).await;
    let ended: Ended = ended.unwrap();
    let line = ended.failure(3);
    assert!(line.contains("no coordinator answered within 1s"), "{line}");
}

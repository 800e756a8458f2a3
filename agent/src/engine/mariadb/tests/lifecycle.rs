//! Starting, stopping, surviving, and keeping others out.

use std::{path::Path, process::Command, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::harness::{Server, settings};
use crate::engine::{Engine, mariadb::MariaDb};

#[tokio::test]
async fn a_server_starts_closed_and_stops_cleanly_however_often_it_is_asked() {
    let server = Server::new(1);
    let engine = &server.engine;
    assert!(!engine.is_running().await.unwrap());
    engine.stop().await.unwrap();
    engine.start().await.unwrap();
    engine.start().await.unwrap();
    assert!(engine.is_running().await.unwrap());
    let health = engine.health().await.unwrap();
    assert!(health.version.starts_with("10."), "{health:?}");
    assert!(health.read_only && health.position.is_empty() && health.server_id == 1);
    assert!(!health.replication.configured);
    let process = server.process().unwrap();
    engine.stop().await.unwrap();
    engine.stop().await.unwrap();
    assert!(!process.is_alive());
    assert!(!engine.is_running().await.unwrap());
    assert!(server.data_dir().join("bin.state").exists());
}

/// Not a test of its own: the process that starts a server and is killed, run by the one below.
#[tokio::test]
#[ignore = "run as a process by another test"]
async fn starter() {
    let Ok(directory) = std::env::var("SEAWALL_TEST_DIRECTORY") else {
        return;
    };
    let directory = Path::new(&directory);
    let port = std::env::var("SEAWALL_TEST_PORT").unwrap().parse().unwrap();
    let state = directory.join("state");
    let engine = MariaDb::open(&settings(directory, port, 1), &state).unwrap();
    engine.start().await.unwrap();
    std::fs::write(state.join("started"), "").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn i3_a_server_outlives_the_process_that_started_it() {
    let server = Server::new(1);
    let mut starter = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact"])
        .arg("engine::mariadb::tests::lifecycle::starter")
        .env("SEAWALL_TEST_DIRECTORY", server.path(""))
        .env("SEAWALL_TEST_PORT", server.port.to_string())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = server.path("state").join("started");
    for _ in 0..600 {
        if started.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(started.exists(), "the helper did not start a server");
    let process = server.process().unwrap();
    starter.kill().unwrap();
    starter.wait().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(process.is_alive());
    assert!(server.engine.is_running().await.unwrap());
    assert!(server.engine.health().await.unwrap().read_only);
    let leader = nix::unistd::getsid(Some(Pid::from_raw(process.pid))).unwrap();
    assert_eq!(
        leader.as_raw(),
        process.pid,
        "the server leads its own session"
    );
    server.engine.start().await.unwrap();
    assert_eq!(server.process(), Some(process));
    server.engine.stop().await.unwrap();
    assert!(!process.is_alive());
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_ended_by_a_signal() {
    let mut server = Server::new(1);
    server.engine.start().await.unwrap();
    let process = server.process().unwrap();
    std::fs::write(server.path("password"), "wrong").unwrap();
    server.settings.password_file = Some(server.path("password"));
    server.reopen();
    server.engine.stop().await.unwrap();
    assert!(!process.is_alive());
    assert!(server.data_dir().join("bin.state").exists());
}

#[tokio::test]
async fn a_guard_keeps_every_server_out_and_notices_what_was_touched() {
    let server = Server::new(1);
    let engine = &server.engine;
    engine.start().await.unwrap();
    let error = engine.guard_stopped().await.err().unwrap().to_string();
    assert!(error.contains("has"), "{error}");
    engine.stop().await.unwrap();
    let guard = engine.guard_stopped().await.unwrap();
    // What the copy does: classic locks would be lost with this.
    std::fs::read(server.data_dir().join("ibdata1")).unwrap();
    let before = std::fs::read(server.data_dir().join("ibdata1")).unwrap();
    let command = &server.settings.start_command;
    let mut other = Command::new(&command[0])
        .args(&command[1..])
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(server.path("other.log")).unwrap())
        .spawn()
        .unwrap();
    let log = || std::fs::read_to_string(server.path("other.log")).unwrap();
    for _ in 0..200 {
        if log().contains("Can't lock aria control file") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(log().contains("Can't lock aria control file"), "{}", log());
    assert!(!server.try_sql("SELECT 1").status.success());
    assert!(!engine.is_running().await.unwrap());
    let error = engine.start().await.unwrap_err().to_string();
    assert!(error.contains("held for copying"), "{error}");
    kill(
        Pid::from_raw(other.id().try_into().unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    other.wait().unwrap();
    guard.check().await.unwrap();
    assert!(std::fs::read(server.data_dir().join("ibdata1")).unwrap() == before);
    std::fs::write(server.data_dir().join("ibdata1"), &before).unwrap();
    assert!(guard.check().await.is_err());
    drop(guard);
    engine.start().await.unwrap();
}

#[tokio::test]
async fn a_copy_is_not_begun_after_a_crash() {
    let server = Server::primary(1).await;
    server.kill();
    let error = server
        .engine
        .guard_stopped()
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("did not end cleanly"), "{error}");
    server.engine.start().await.unwrap();
    server.engine.stop().await.unwrap();
    server.engine.guard_stopped().await.unwrap();
}

#[tokio::test]
async fn i3_waiting_for_a_server_ends_when_the_server_does() {
    let server = Server::new(1);
    server.engine.start().await.unwrap();
    let process = Pid::from_raw(server.process().unwrap().pid);
    // Stopped, it has its files open and answers nobody, as one that is being killed.
    kill(process, Signal::SIGSTOP).unwrap();
    let begin = std::time::Instant::now();
    let (waited, ()) = tokio::join!(server.engine.start(), async {
        // The wait has found it by then: it lasts until a connection has been given up.
        tokio::time::sleep(Duration::from_secs(1)).await;
        kill(process, Signal::SIGKILL).unwrap();
    });
    let error = waited.unwrap_err().to_string();
    assert!(error.contains("ended before it answered"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(30), "{error}");
    server.engine.start().await.unwrap();
}

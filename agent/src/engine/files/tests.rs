use std::time::Duration;

use super::*;
use crate::engine::settings::ReplicationSettings;

fn settings(directory: &Path, start: &[&str]) -> EngineSettings {
    EngineSettings {
        checksum_time: Duration::ZERO,
        check_command: Vec::new(),
        kind: "files".to_owned(),
        defaults_file: None,
        data_dir: Some(directory.join("data")),
        socket: None,
        user: "root".to_owned(),
        password_file: None,
        start_command: start.iter().map(|word| (*word).to_owned()).collect(),
        stop_command: Vec::new(),
        running_command: Vec::new(),
        systemd_unit: None,
        start_timeout: Duration::from_secs(10),
        stop_timeout: Duration::from_secs(10),
        replication: ReplicationSettings::default(),
    }
}

#[tokio::test]
async fn a_program_is_started_known_again_and_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    let settings = settings(directory.path(), &["sleep", "600"]);
    let engine = Files::open(&settings, state).unwrap();
    assert_eq!(engine.data_state().await.unwrap(), DataState::Empty);
    engine.initialize().await.unwrap();
    assert_eq!(engine.data_state().await.unwrap(), DataState::Empty);
    engine.start().await.unwrap();
    engine.start().await.unwrap();
    // As after a restart of the agent.
    let again = Files::open(&settings, state).unwrap();
    assert!(again.is_running().await.unwrap());
    assert!(again.guard_stopped().await.is_err());
    again.stop().await.unwrap();
    assert!(!engine.is_running().await.unwrap());
    let guard = engine.guard_stopped().await.unwrap();
    guard.check().await.unwrap();
    fs::write(directory.path().join("data/new"), "x").unwrap();
    assert!(guard.check().await.is_err());
    assert_eq!(engine.data_state().await.unwrap(), DataState::UserData);
    assert!(engine.health().await.is_err());
}

#[tokio::test]
async fn commands_of_its_own_decide_whether_it_runs_and_end_it() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("running").display().to_string();
    let mut settings = settings(directory.path(), &["touch", &mark]);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    settings.running_command = words(&["test", "-e", &mark]);
    settings.stop_command = words(&["rm", &mark]);
    let engine = Files::open(&settings, directory.path()).unwrap();
    assert!(!engine.is_running().await.unwrap());
    engine.start().await.unwrap();
    assert!(engine.is_running().await.unwrap());
    engine.stop().await.unwrap();
    engine.stop().await.unwrap();
    assert!(!engine.is_running().await.unwrap());
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path(), &["sh", "-c", "echo no licence; exit 2"]);
    let engine = Files::open(&settings, directory.path()).unwrap();
    let text = engine.start().await.unwrap_err().to_string();
    assert!(text.contains("no licence"), "{text}");
}

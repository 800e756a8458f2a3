//! Restores, and what is put back when they fail.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_restore_at_an_empty_start_starts_empty_only_when_there_is_no_backup_at_all() {
    let stage = Stage::new(Cluster::with_primary());
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded);
    assert_eq!(ended.result, STARTS_EMPTY);
    assert!(stage.calls().is_empty());
    assert_eq!(type_of(&stage, "zone1-102"), TabletType::Replica);

    *stage.store.backups.lock().unwrap() = vec![StoredBackup {
        name: "2026-11-21.031500.zone1-101".parse().unwrap(),
        state: StoredState::Incomplete,
    }];
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    let error = ended.error.unwrap().message;
    assert!(error.contains("none that can be restored"), "{error}");
    assert!(stage.calls().is_empty(), "the tablet was not touched");
}

#[tokio::test(start_paused = true)]
async fn a_restore_takes_the_newest_backup_and_brings_the_tablet_back() {
    let mut cluster = Cluster::with_primary();
    cluster.backed_up("zone1-101", "0-100-1");
    let newest = cluster.backed_up("zone1-101", "0-100-9");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    assert_eq!(ended.backup, Some(newest));
    assert_eq!(
        stage.steps_called(),
        [
            "drain",
            "fetch",
            "install",
            "start",
            "reinstate",
            "catch_up",
            "serve"
        ]
    );
    assert_eq!(holds(&stage), 0);
}

#[tokio::test(start_paused = true)]
async fn i6_a_restore_that_fails_before_the_install_is_undone_by_its_agent() {
    let mut cluster = Cluster::with_primary();
    cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    stage.tell("fetch", Does::Fail);
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    assert_eq!(stage.steps_called(), ["drain", "fetch", "put_back"]);
    assert_eq!(type_of(&stage, "zone1-102"), TabletType::Replica);
    assert_eq!(stage.discards(), [false], "the next try goes on with it");
}

#[tokio::test(start_paused = true)]
async fn what_was_fetched_goes_when_an_operator_cancels_the_restore() {
    let mut cluster = Cluster::with_primary();
    cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    stage.tell("fetch", Does::Hang);
    let id = stage.start(restore_of("zone1-102")).await;
    stage.called("fetch").await;
    stage.cancel(id).await;
    assert_eq!(stage.ended(id).await.state, OperationState::Cancelled);
    assert_eq!(stage.discards(), [true]);
}

#[tokio::test(start_paused = true)]
async fn a_restore_on_whose_data_no_server_comes_up_is_taken_back() {
    let mut cluster = Cluster::with_primary();
    cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    stage.tell("start", Does::Fail);
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed, "{ended:?}");
    assert!(stage.steps_called().contains(&"put_back".to_owned()));
    let starts = stage.calls().iter().filter(|c| c.step == "start").count();
    assert_eq!(starts, 1);
}

//! Removals: the mark, and the sweep that follows.

use super::*;

#[tokio::test(start_paused = true)]
async fn i5_a_removed_backup_is_swept_under_the_delete_side_of_the_lock() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    let id = stage.start(removal_of(&old, true)).await;
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);
    stage.until(|| done(&stage).len() == 2).await;
    assert_eq!(done(&stage), ["removed while 1 held", "swept while 1 held"]);
    assert_eq!(
        stage.ended(id.derived("sweep")).await.state,
        OperationState::Succeeded
    );
    assert_eq!(holds(&stage), 0);
}

#[tokio::test(start_paused = true)]
async fn a_removal_in_anothers_repository_fails_and_changes_nothing() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    *stage.store.owner.lock().unwrap() = Some(Error::refused("another group owns it"));
    let id = stage.start(removal_of(&old, true)).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    assert!(ended.error.unwrap().message.contains("another group"));
    assert_eq!(known(&stage), [Known::Complete]);
    assert!(done(&stage).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_decided_removal_is_neither_cancelled_nor_overdue_until_its_mark_is_put() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    *stage.store.failures.lock().unwrap() = u32::MAX;
    let minute = Duration::from_secs(60);
    let id = stage.start_within(removal_of(&old, true), minute).await;
    stage
        .until(|| {
            let operation = stage.operation(id);
            let step = operation.step("remove");
            step.is_some_and(|step| step.error.is_some())
        })
        .await;
    let reason = String::new();
    let cancel = operations::Command::Cancel { id, reason };
    let refused = stage.group.propose(Command::Operations(cancel)).await;
    assert!(refused.unwrap_err().message().contains("only goes forward"));
    tokio::time::sleep(minute * 2).await;
    assert!(stage.operation(id).state.is_open(), "it is not marked");
    assert_eq!(known(&stage), [Known::Complete]);
    *stage.store.failures.lock().unwrap() = 0;
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);
    assert_eq!(known(&stage), [Known::Removed]);
    stage.until(|| done(&stage).len() == 2).await;
    assert_eq!(done(&stage), ["removed while 1 held", "swept while 1 held"]);
}

#[tokio::test(start_paused = true)]
async fn a_removal_whose_mark_cannot_be_put_keeps_nobody_from_his_work() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    *stage.store.failures.lock().unwrap() = u32::MAX;
    let removal = stage.start(removal_of(&old, true)).await;
    let step = || stage.operation(removal).step("remove").cloned();
    stage
        .until(|| step().is_some_and(|step| step.error.is_some()))
        .await;
    stage.until(|| holds(&stage) == 0).await;
    assert!(stage.operation(removal).result.contains("store is away"));
    let backup = stage.start(backup_of("zone1-101")).await;
    let referred = stage.operation(backup).references;
    assert!(referred.is_empty(), "{referred:?}");
    assert_eq!(stage.ended(backup).await.state, OperationState::Succeeded);
    *stage.store.failures.lock().unwrap() = 0;
    // It waits for a turn of its own.
    stage.tell("copy", Does::Hang);
    let backup = stage.start(backup_of("zone1-101")).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(known(&stage)[0], Known::Complete);
    stage.untell("copy");
    stage.cancel(backup).await;
    assert_eq!(stage.ended(removal).await.state, OperationState::Succeeded);
    assert_eq!(known(&stage)[0], Known::Removed);
    stage.until(|| holds(&stage) == 0).await;
}

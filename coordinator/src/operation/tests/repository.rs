//! What the repository shows, and whose it is.

use super::*;

#[tokio::test(start_paused = true)]
async fn i5_a_backup_that_lost_its_manifest_is_broken_and_not_counted_as_complete() {
    let mut cluster = Cluster::with_primary();
    let kept = cluster.backed_up("zone1-101", "0-100-1");
    let lost = cluster.backed_up("zone1-101", "0-100-9");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    for stored in stage.store.backups.lock().unwrap().iter_mut() {
        if stored.name == lost {
            stored.state = StoredState::Incomplete;
        }
    }
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.backup, Some(kept), "{ended:?}");
    assert_eq!(known(&stage), [Known::Complete, Known::Broken]);
}

#[tokio::test(start_paused = true)]
async fn a_repository_full_of_backups_is_read_in_commands_that_the_log_takes() {
    let mut cluster = Cluster::with_primary();
    for second in 0..800 {
        cluster.now_unix_ms += 1_000 * second;
        cluster.backed_up("zone1-101", "0-100-1");
    }
    let stage = Stage::new(cluster);
    let stored = |index: u64, state: StoredState| StoredBackup {
        name: BackupName::new(index * 1_000, &alias("zone1-109"), 0).unwrap(),
        state,
    };
    let reason = "\u{e9}\n".repeat(20_000);
    let broken = || StoredState::Broken {
        reason: reason.clone(),
    };
    let removed = || StoredState::Removed {
        reason: reason.clone(),
    };
    *stage.store.backups.lock().unwrap() = (0..300)
        .map(|index| stored(index, broken()))
        .chain((300..600).map(|index| stored(index, removed())))
        .collect();
    refresh::refresh(&stage.context, &shard()).await.unwrap();
    assert_eq!(known(&stage), vec![Known::Broken; 1_100]);
}

#[tokio::test(start_paused = true)]
async fn i5_a_backup_that_is_found_again_is_complete_again() {
    let mut cluster = Cluster::with_primary();
    cluster.backed_up("zone1-101", "0-100-1");
    let stage = Stage::new(cluster);
    keep_in_store(&stage);
    let there = std::mem::take(&mut *stage.store.backups.lock().unwrap());
    refresh::refresh(&stage.context, &shard()).await.unwrap();
    assert_eq!(known(&stage), [Known::Broken]);
    *stage.store.backups.lock().unwrap() = there;
    refresh::refresh(&stage.context, &shard()).await.unwrap();
    assert_eq!(known(&stage), [Known::Complete]);
}

#[tokio::test(start_paused = true)]
async fn i5_in_another_repository_than_the_groups_nothing_is_written() {
    let mut cluster = Cluster::with_primary();
    let old = cluster.backed_up("zone1-101", "0-100-1");
    cluster.state.repository_id = Some("the group's".into());
    let stage = Stage::new(cluster);
    let id = stage.start(removal_of(&old, true)).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    assert!(done(&stage).is_empty());
    assert_eq!(known(&stage), [Known::Complete]);
}

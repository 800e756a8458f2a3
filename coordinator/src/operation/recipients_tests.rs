use std::time::Duration;

use seawall_common::{Error, clock::now_unix_ms};
use tokio::time::Instant;

use super::testing::{Does, REQUEST_TIMEOUT, Stage};
use crate::state::{
    operations::{OperationState, Spec},
    testing::{Cluster, backup_of, shard},
};

fn removal() -> Spec {
    Spec::RemoveRecipient {
        shard: shard(),
        recipient: "0123456789abcdef".into(),
    }
}

fn done(stage: &Stage) -> Vec<String> {
    stage.store.done.lock().unwrap().clone()
}

const BATCH: &str = "remove 0123456789abcdef of commerce/0: 1 held";

#[tokio::test(start_paused = true)]
async fn i5_a_recipient_goes_in_batches_each_under_the_delete_side_of_the_lock() {
    let stage = Stage::new(Cluster::with_primary());
    stage.store.keys.lock().unwrap().0 = 3;
    *stage.store.failures.lock().unwrap() = 2;
    let id = stage.start(removal()).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    assert_eq!(done(&stage), [BATCH; 3]);
    assert!(ended.result.ends_with("deleted: 3"), "{}", ended.result);
    assert_eq!(stage.look(|state| state.locks.holds().count()), 0);
}

#[tokio::test(start_paused = true)]
async fn i5_who_has_the_last_key_of_a_session_keeps_it_and_the_operation_fails() {
    let stage = Stage::new(Cluster::with_primary());
    *stage.store.keys.lock().unwrap() = (1, 2);
    let id = stage.start(removal()).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    let error = ended.error.unwrap().message;
    assert!(
        error.contains("deleted: 1") && error.contains("kept: 2"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn i5_nothing_is_deleted_while_a_backup_of_the_shard_runs() {
    let stage = Stage::new(Cluster::with_primary());
    stage.store.keys.lock().unwrap().0 = 1;
    stage.tell("copy", Does::Hang);
    let backup = stage.start(backup_of("zone1-101")).await;
    stage.called("copy").await;
    let id = stage.start(removal()).await;
    stage
        .until(|| stage.operation(id).step("remove").is_some())
        .await;
    let said = || stage.said(id);
    let in_time = Duration::from_secs(2);
    stage
        .until_within(in_time, || said().starts_with("waits: backup of zone1-101"))
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(done(&stage).is_empty(), "{:?}", done(&stage));
    stage.cancel(backup).await;
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);
    assert!(done(&stage).contains(&BATCH.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_next_leader_goes_on_with_a_removal_and_counts_on() {
    let stage = Stage::new(Cluster::with_primary());
    stage.store.keys.lock().unwrap().0 = 4;
    let id = stage.start(removal()).await;
    stage.until(|| done(&stage).len() == 2).await;
    stage.lead(2);
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    assert!(ended.result.ends_with("deleted: 4"), "{}", ended.result);
    assert!(done(&stage).len() > 4, "no batch was broken off");
    assert_eq!(stage.look(|state| state.locks.holds().count()), 0);
}

#[tokio::test(start_paused = true)]
async fn in_anothers_repository_no_recipient_is_removed() {
    let stage = Stage::new(Cluster::with_primary());
    stage.store.keys.lock().unwrap().0 = 1;
    *stage.store.owner.lock().unwrap() = Some(Error::refused("another group owns it"));
    let id = stage.start(removal()).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    assert!(ended.error.unwrap().message.contains("another group"));
    assert!(done(&stage).is_empty());
}

fn of_another() -> Spec {
    Spec::RemoveRecipient {
        shard: shard(),
        recipient: "fedcba9876543210".into(),
    }
}

/// The deletes of one that was broken off may still be on their way: the next one would take their
/// files for those that stay. How the members' clocks stand is of no matter.
#[tokio::test(start_paused = true)]
async fn i5_after_a_removal_that_was_broken_off_the_next_ones_wait_for_its_last_deletes() {
    const MINUTE_MS: u64 = 60_000;
    let bound = 120 + REQUEST_TIMEOUT.as_secs();
    let waits = bound..bound + 10;
    for (kept, ahead_ms, seconds) in [
        (1, 0, waits.clone()),
        (1, 30 * MINUTE_MS, waits),
        (1, 120 * MINUTE_MS, 0..10),
        (0, 0, 0..10),
    ] {
        let stage = Stage::with(Cluster::with_primary(), |context| {
            context.wall_unix_ms = Box::new(move || now_unix_ms() + ahead_ms);
        });
        *stage.store.keys.lock().unwrap() = (1, kept);
        let first = stage.start(removal()).await;
        let expected = match kept {
            0 => OperationState::Succeeded,
            _ => OperationState::Failed,
        };
        assert_eq!(stage.ended(first).await.state, expected);
        *stage.store.keys.lock().unwrap() = (1, 0);
        let began = Instant::now();
        let second = stage.start(of_another()).await;
        if seconds.start > 0 {
            let names = |said: String| said.contains(&first.to_string());
            let in_time = Duration::from_secs(2);
            stage
                .until_within(in_time, || names(stage.said(second)))
                .await;
        }
        assert_eq!(stage.ended(second).await.state, OperationState::Succeeded);
        let took = began.elapsed().as_secs();
        assert!(
            seconds.contains(&took),
            "{took} s after {kept} were kept, {ahead_ms} ms ahead"
        );
    }
}

/// A leader that was deposed meanwhile asks for nothing more, either.
#[tokio::test(start_paused = true)]
async fn i5_a_batch_that_the_store_does_not_take_in_time_is_broken_off_and_tried_again() {
    let stage = Stage::new(Cluster::with_primary());
    stage.store.keys.lock().unwrap().0 = 1;
    *stage.store.hang_keys.lock().unwrap() = true;
    let id = stage.start(removal()).await;
    stage.until(|| !done(&stage).is_empty()).await;
    let began = Instant::now();
    let holds = || stage.look(|state| state.locks.holds().count());
    assert_eq!(holds(), 1);
    let limit = Duration::from_secs(121);
    stage.until_within(limit, || holds() == 0).await;
    assert!(began.elapsed() > Duration::from_secs(118));
    *stage.store.hang_keys.lock().unwrap() = false;
    assert_eq!(stage.ended(id).await.state, OperationState::Succeeded);
}

/// Each would find the other's key of a session, and leave none.
#[test]
fn i5_two_recipients_of_a_shard_are_not_removed_at_the_same_time() {
    let mut cluster = Cluster::with_primary();
    let first = cluster.start(removal()).unwrap();
    let refused = cluster.start(of_another()).unwrap_err();
    assert!(
        refused.message.contains(&first.id.to_string()),
        "{refused:?}"
    );
    let malformed = Spec::RemoveRecipient {
        shard: shard(),
        recipient: "../x".into(),
    };
    assert!(cluster.start(malformed).is_err());
}

//! Each request, in turn, goes wrong: it fails, hangs, or lies.

use super::{
    recorder::{Change, Fault, Recorder},
    story::Story,
    *,
};

/// The whole story with each of its requests going wrong, of which one of so many is tried.
async fn with_each_request_going_wrong(fault: Fault, one_of: usize) {
    let mut whole = Story::begin(Recorder::honest()).await;
    whole.run().await.unwrap();
    let requests = whole.store.requests(fault);
    let chosen = (0..requests.len()).filter(|at| is_chosen(*at, fault as usize, one_of));
    for wrong in chosen.map(|at| requests[at]) {
        let when = format!("{fault:?} of request {wrong}");
        let mut story = Story::begin(Recorder::new(wrong, fault)).await;
        let ended = story.run().await;
        let may_fail = [Fault::Refuses, Fault::LosesObject, Fault::OtherBytes];
        if !may_fail.contains(&fault) {
            ended.unwrap_or_else(|e| panic!("{when}: {e}"));
        }
        what_was_told_is_there(&story, &when).await;
        // Whatever it was: the next backup is a good one.
        let next = story.back_up().await;
        next.unwrap_or_else(|e| panic!("{when}: the next backup: {e}"));
        what_was_told_is_there(&story, &when).await;
        nothing_needed_was_deleted(&story, &when).await;
    }
}

async fn what_was_told_is_there(story: &Story, when: &str) {
    let changes = story.store.changes();
    let complete = all_complete_restore(&changes, &story.config, when).await;
    let complete: BTreeSet<BackupName> = complete.into_keys().collect();
    assert!(
        names(&story.complete).is_subset(&complete),
        "{when}: told to be complete: {:?}, of which are there {complete:?}",
        names(&story.complete)
    );
}

/// Not even for a while.
async fn nothing_needed_was_deleted(story: &Story, when: &str) {
    let changes = story.store.changes();
    for (count, change) in changes.iter().enumerate() {
        if matches!(change, Change::Delete(_)) {
            all_complete_restore(&changes[..=count], &story.config, when).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_each_request_may_fail_once_or_twice() {
    with_each_request_going_wrong(Fault::FailsOnce, 11).await;
    with_each_request_going_wrong(Fault::FailsTwice, 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_each_request_may_be_refused() {
    with_each_request_going_wrong(Fault::Refuses, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_each_request_may_be_done_and_its_answer_lost() {
    with_each_request_going_wrong(Fault::LosesAnswer, 9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_each_request_may_hang() {
    with_each_request_going_wrong(Fault::Hangs, 14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_each_put_may_be_acknowledged_and_lost() {
    with_each_request_going_wrong(Fault::LosesObject, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_each_delete_may_be_acknowledged_and_not_done() {
    with_each_request_going_wrong(Fault::KeepsObject, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_each_get_may_be_answered_with_another_object() {
    with_each_request_going_wrong(Fault::OtherBytes, 3).await;
}

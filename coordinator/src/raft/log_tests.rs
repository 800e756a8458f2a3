use std::time::Duration;

use openraft::{CommittedLeaderId, EntryPayload};
use tokio::time::timeout;

use super::*;
use crate::platform::{Missing, held_medium::hold};

const OWN: u64 = 1;
const OTHER: u64 = 2;
const TERM: u64 = 5;
/// So long nothing happens, where nothing should.
const A_WHILE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(20);

fn entries(term: u64, range: RangeInclusive<u64>) -> Vec<Entry> {
    let entry = |index| Entry {
        log_id: LogId::new(CommittedLeaderId::new(term, 0), index),
        payload: EntryPayload::Blank,
    };
    range.map(entry).collect()
}

fn vote(member: u64) -> Vote {
    Vote::new_committed(TERM, member)
}

/// One that was closed a moment ago is let go of when its thread has ended.
async fn open(directory: &tempfile::TempDir) -> LogStore {
    for _ in 0..500 {
        match LogStore::open(OWN, directory.path().to_owned(), Missing::Make).await {
            Err(e) if e.message().contains("in use") => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            opened => return opened.unwrap(),
        }
    }
    panic!("the log is never let go of");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaders_own_entries_can_be_sent_before_they_are_on_disk_and_not_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(&directory).await;
    store.save_vote(&vote(OWN)).await.unwrap();
    let held = hold(directory.path());
    // The first is being written when the others come.
    for index in 0..=3 {
        let own = entries(TERM, index..=index);
        timeout(PATIENCE, store.append_in_order(own, true))
            .await
            .unwrap()
            .unwrap();
    }
    let read = store.try_get_log_entries(0..10).await.unwrap();
    assert_eq!(read, entries(TERM, 0..=3));
    let state = store.get_log_state().await.unwrap();
    assert_eq!(state.last_log_id, Some(read[3].log_id));
    let on_disk = store.on_disk().clone();
    assert_eq!(on_disk.first_unsynced(), Some(0));
    assert!(timeout(A_WHILE, on_disk.reaches(0)).await.is_err());
    // That took a while: the disk is late for who expects it sooner, and for nobody else.
    let in_time = |limit| timeout(A_WHILE, on_disk.is_in_time(limit));
    assert!(in_time(A_WHILE / 2).await.is_err());
    in_time(PATIENCE).await.unwrap().unwrap();
    drop(held);
    timeout(PATIENCE, on_disk.reaches(3))
        .await
        .unwrap()
        .unwrap();
    in_time(Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(on_disk.first_unsynced(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_disk_is_not_waited_for_when_later_entries_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    store
        .append_in_order(entries(TERM, 0..=3), false)
        .await
        .unwrap();
    let _held = hold(directory.path());
    store
        .append_in_order(entries(TERM, 4..=5), true)
        .await
        .unwrap();
    let on_disk = store.on_disk();
    timeout(PATIENCE, on_disk.reaches(3))
        .await
        .unwrap()
        .unwrap();
    assert!(timeout(A_WHILE, on_disk.reaches(4)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_from_a_leader_are_on_disk_when_they_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    let held = hold(directory.path());
    let append = store.append_in_order(entries(TERM, 0..=3), false);
    let mut append = Box::pin(append);
    assert!(timeout(A_WHILE, &mut append).await.is_err());
    drop(held);
    timeout(PATIENCE, append).await.unwrap().unwrap();
    assert_eq!(store.on_disk().first_unsynced(), None);
}

#[tokio::test]
async fn entries_are_a_members_own_when_it_leads_in_their_term() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(&directory).await;
    let is_own = |store: &LogStore, term| store.are_own(&entries(term, 7..=8));
    assert!(!is_own(&store, TERM), "nobody leads yet");
    store.save_vote(&Vote::new(TERM, OWN)).await.unwrap();
    assert!(!is_own(&store, TERM), "it only stands for election");
    store.save_vote(&vote(OWN)).await.unwrap();
    assert!(is_own(&store, TERM));
    assert!(!is_own(&store, TERM - 1), "an earlier leader's");
    store.save_vote(&vote(OTHER)).await.unwrap();
    assert!(!is_own(&store, TERM), "another leads");
}

#[tokio::test]
async fn a_leader_that_starts_again_does_not_lead_in_its_old_term() {
    let directory = tempfile::tempdir().unwrap();
    for (member, expected) in [(OWN, Vote::new(TERM, OWN)), (OTHER, vote(OTHER))] {
        let mut store = open(&directory).await;
        store.save_vote(&vote(member)).await.unwrap();
        drop(store);
        let mut store = open(&directory).await;
        assert_eq!(store.read_vote().await.unwrap(), Some(expected));
    }
}

#[tokio::test]
async fn old_entries_are_read_from_the_disk_and_new_ones_from_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(&directory).await;
    // More than memory keeps.
    for first in (0..3000).step_by(100) {
        let some = entries(TERM, first..=first + 99);
        store.append_in_order(some, false).await.unwrap();
    }
    let first_in_memory = store.memory().recent.first().unwrap();
    assert!(first_in_memory > 1000, "{first_in_memory}");
    let across = first_in_memory - 5..first_in_memory + 5;
    let read = store.try_get_log_entries(across.clone()).await.unwrap();
    assert_eq!(read, entries(TERM, across.start..=across.end - 1));
    let all = store.limited_get_log_entries(0, 3000).await.unwrap();
    assert_eq!(
        all[..],
        entries(TERM, 0..=2999)[..all.len()],
        "without a hole"
    );
    assert!(!all.is_empty());
    store
        .truncate(entries(TERM, 2990..=2990)[0].log_id)
        .await
        .unwrap();
    let left = store.try_get_log_entries(2985..3000).await.unwrap();
    assert_eq!(left, entries(TERM, 2985..=2989));
}

#[tokio::test]
async fn what_is_committed_is_noted_with_the_next_append() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(&directory).await;
    store
        .append_in_order(entries(TERM, 0..=3), false)
        .await
        .unwrap();
    let committed = Some(entries(TERM, 2..=2)[0].log_id);
    store.save_committed(committed).await.unwrap();
    assert_eq!(store.read_committed().await.unwrap(), committed);
    store
        .append_in_order(entries(TERM, 4..=4), false)
        .await
        .unwrap();
    drop(store);
    let mut store = open(&directory).await;
    assert_eq!(store.read_committed().await.unwrap(), committed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_purged_before_a_snapshot_is_in_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let (made, covered) = watch::channel(2);
    let mut store = open(&directory).await.purged_when_covered(covered);
    store
        .append_in_order(entries(TERM, 0..=9), false)
        .await
        .unwrap();
    let upto = |index| entries(TERM, index..=index)[0].log_id;
    store.purge(upto(1)).await.unwrap();
    let mut other = store.clone();
    let purge = tokio::spawn(async move { other.purge(upto(5)).await });
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(store.purged().unwrap(), Some(upto(1)));
    made.send_replace(6);
    timeout(PATIENCE, purge).await.unwrap().unwrap().unwrap();
    assert_eq!(store.purged().unwrap(), Some(upto(5)));
    let left = store.try_get_log_entries(0..10).await.unwrap();
    assert_eq!(left, entries(TERM, 6..=9));
}

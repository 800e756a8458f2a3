use std::{collections::BTreeSet, time::Duration};

use seawall_common::{ErrorKind, ids::BackupName};

use super::mark_reaching;
use crate::{
    operation::{
        driver::Run,
        testing::{DAMAGED_TOLD, Does, Stage, keep_in_store},
    },
    state::{
        catalogue::{Entry, Known},
        operations::{OperationState, Spec},
        testing::{Cluster, alias, backup_of, restore_of, shard, verify_of},
        verification::MarkedBy,
    },
};

fn pack(number: u8) -> String {
    format!("{number:032x}")
}

fn test_restore_of(name: &BackupName) -> Spec {
    Spec::TestRestore {
        shard: shard(),
        backup: name.clone(),
        alias: Some(alias("zone1-102")),
        concurrency: 0,
    }
}

fn entry(stage: &Stage, name: &BackupName) -> Entry {
    stage.look(|state| state.catalogue.entry(&shard(), name).unwrap().clone())
}

fn damaged(stage: &Stage) -> Vec<String> {
    stage.look(|state| {
        let shard = shard();
        let packs = state.catalogue.damaged.of(&shard);
        packs.map(str::to_owned).collect()
    })
}

fn needs(stage: &Stage, name: &BackupName, packs: &[u8]) {
    let packs: BTreeSet<String> = packs.iter().map(|n| pack(*n)).collect();
    let mut all = stage.store.packs.lock().unwrap();
    all.insert(name.clone(), packs);
}

/// Three complete backups: the second needs a pack of the first, the third stands alone.
async fn with_backups() -> (Stage, Vec<BackupName>) {
    let stage = Stage::new(Cluster::with_primary());
    let mut names = Vec::new();
    for packs in [&[1, 2][..], &[2, 3], &[4]] {
        let id = stage.start(backup_of("zone1-101")).await;
        let ended = stage.ended(id).await;
        let name = ended.backup.unwrap();
        needs(&stage, &name, packs);
        names.push(name);
    }
    keep_in_store(&stage);
    (stage, names)
}

#[tokio::test(start_paused = true)]
async fn a_verification_works_beside_a_replica_and_stands_on_the_entry() {
    let (stage, names) = with_backups().await;
    let id = stage.start(verify_of(&names[0], 5)).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    let call = stage.calls().pop().unwrap();
    assert_eq!(call.step, "verify");
    assert_ne!(call.tablet, "zone1-100", "the primary was asked");
    let verified = entry(&stage, &names[0]).verified.unwrap();
    assert!(verified.passed, "{verified:?}");
    assert_eq!(verified.alias, call.tablet);
    assert_eq!(stage.look(|state| state.locks.holds().count()), 0);
}

#[tokio::test(start_paused = true)]
async fn damage_in_a_pack_breaks_every_backup_that_reaches_it_and_no_other() {
    let (stage, names) = with_backups().await;
    stage.find_damaged(&[pack(2)]);
    let id = stage.start(verify_of(&names[0], 100)).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    let error = seawall_common::Error::from(ended.error.unwrap());
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(&pack(2)), "{error}");
    assert_eq!(damaged(&stage), [pack(2)]);
    let known: Vec<Known> = names.iter().map(|n| entry(&stage, n).known).collect();
    assert_eq!(known, [Known::Broken, Known::Broken, Known::Complete]);
    let second = entry(&stage, &names[1]);
    assert!(second.note.contains(&pack(2)), "{}", second.note);
    assert!(second.verified.is_none(), "it was not read itself");

    // An empty start passes them over, and says so.
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.backup.as_ref(), Some(&names[2]), "{ended:?}");

    // Repaired: what a verification marked, a verification of everything clears.
    stage.find_damaged(&[]);
    let id = stage.start(verify_of(&names[0], 99)).await;
    stage.ended(id).await;
    assert_eq!(
        entry(&stage, &names[0]).known,
        Known::Broken,
        "a share proves nothing"
    );
    let id = stage.start(verify_of(&names[0], 100)).await;
    stage.ended(id).await;
    assert_eq!(entry(&stage, &names[0]).known, Known::Complete);
    assert_eq!(damaged(&stage), Vec::<String>::new());
    assert_eq!(
        entry(&stage, &names[1]).known,
        Known::Broken,
        "not read yet"
    );
}

#[tokio::test(start_paused = true)]
async fn an_empty_start_takes_the_older_backup_and_tells_of_the_one_passed_over() {
    let (stage, names) = with_backups().await;
    stage.find_damaged(&[pack(4)]);
    let id = stage.start(verify_of(&names[2], 100)).await;
    stage.ended(id).await;
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    assert_eq!(ended.backup.as_ref(), Some(&names[1]));
    let says = format!("{} is broken", names[2]);
    assert!(ended.result.contains(&says), "{}", ended.result);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_takes_over_marks_what_its_predecessor_has_found() {
    let (stage, names) = with_backups().await;
    stage.find_damaged(&[pack(2)]);
    *stage.store.packs_failures.lock().unwrap() = u32::MAX;
    let id = stage.start(verify_of(&names[0], 100)).await;
    stage
        .until_within(std::time::Duration::from_secs(600), || {
            stage
                .operation(id)
                .step("mark")
                .is_some_and(|s| s.error.is_some())
        })
        .await;
    assert_eq!(entry(&stage, &names[0]).known, Known::Broken);
    assert_eq!(entry(&stage, &names[1]).known, Known::Complete);
    *stage.store.packs_failures.lock().unwrap() = 0;
    stage.lead(2);
    stage.ended(id).await;
    assert_eq!(entry(&stage, &names[1]).known, Known::Broken);
    let asked = stage.steps_called();
    let asked = asked.iter().filter(|step| *step == "verify").count();
    assert_eq!(asked, 1, "it was read twice");
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_completes_on_a_damaged_pack_is_broken_at_once() {
    let (stage, names) = with_backups().await;
    stage.find_damaged(&[pack(2)]);
    let id = stage.start(verify_of(&names[0], 100)).await;
    stage.ended(id).await;
    stage.tell(
        "copy",
        Does::BreakTimes(1, std::time::Duration::from_secs(5)),
    );
    let id = stage.start(backup_of("zone1-101")).await;
    let name = stage.operation(id).backup.unwrap();
    needs(&stage, &name, &[2]);
    stage.ended(id).await;
    assert_eq!(entry(&stage, &name).known, Known::Broken);
}

#[tokio::test(start_paused = true)]
async fn no_database_stays_down_while_it_is_seen_what_is_damaged() {
    let (stage, names) = with_backups().await;
    stage.find_damaged(&[pack(2)]);
    let id = stage.start(verify_of(&names[0], 100)).await;
    stage.ended(id).await;
    *stage.store.hang_packs.lock().unwrap() = true;
    let calls = stage.calls().len();
    stage.start(backup_of("zone1-101")).await;
    let served = || {
        let calls = &stage.calls()[calls..];
        calls.iter().any(|call| call.step == "serve")
    };
    stage.until(served).await;
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_meets_damage_marks_it() {
    let (stage, names) = with_backups().await;
    stage.fail_as(
        "fetch",
        "corrupt",
        &format!(
            "object keyspaces/commerce/0/packs/{}/{} is missing",
            names[2],
            pack(4)
        ),
    );
    let id = stage.start(restore_of("zone1-102")).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Failed);
    let marked = entry(&stage, &names[2]);
    assert_eq!(marked.known, Known::Broken);
    assert_eq!(marked.mark.unwrap().by, MarkedBy::Verification);
    assert_eq!(damaged(&stage), [pack(4)]);
    // One that fails for another reason marks nothing.
    stage.fail_as("fetch", "unavailable", "no room");
    let id = stage.start(restore_of("zone1-102")).await;
    stage.ended(id).await;
    assert_eq!(entry(&stage, &names[1]).known, Known::Complete);
}

#[tokio::test(start_paused = true)]
async fn a_restore_test_is_recorded_beside_the_reading_back() {
    let (stage, names) = with_backups().await;
    let id = stage.start(test_restore_of(&names[0])).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    let found = entry(&stage, &names[0]);
    assert!(found.tested.unwrap().passed && found.verified.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_verification_is_called_off_on_its_agent() {
    let (stage, names) = with_backups().await;
    stage.tell("verify", Does::Hang);
    let id = stage.start(verify_of(&names[0], 100)).await;
    stage.called("verify").await;
    stage.cancel(id).await;
    let ended = stage.ended(id).await;
    assert_eq!(ended.state, OperationState::Cancelled);
    assert!(stage.steps_called().contains(&"put_back".to_owned()));
    let found = entry(&stage, &names[0]);
    assert!(found.verified.is_none() && found.known == Known::Complete);
}

#[tokio::test(start_paused = true)]
async fn what_a_restore_test_has_found_counts_when_it_is_cancelled_then_or_overdue() {
    for is_cancelled in [true, false] {
        let (stage, names) = with_backups().await;
        stage.tell("test_restore", Does::Hang);
        stage.find_before_it_is_called_off("CHECK TABLE shop.a: Corrupt");
        let minutes = Duration::from_secs(300);
        let spec = test_restore_of(&names[0]);
        let id = stage.start_within(spec, minutes).await;
        stage.called("test_restore").await;
        if is_cancelled {
            stage.cancel(id).await;
        }
        let ended = stage.ended(id).await;
        let state = match is_cancelled {
            true => OperationState::Cancelled,
            false => OperationState::Failed,
        };
        assert_eq!(ended.state, state, "{ended:?}");
        assert!(ended.result.contains("damaged all the same"), "{ended:?}");
        let found = entry(&stage, &names[0]);
        assert_eq!(found.known, Known::Broken);
        assert_eq!(found.mark.unwrap().by, MarkedBy::Test);
        assert_eq!(found.note, "CHECK TABLE shop.a: Corrupt");
        assert!(!found.tested.unwrap().passed);
        assert_eq!(entry(&stage, &names[1]).known, Known::Complete);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_marked_where_nothing_is_damaged() {
    let (stage, names) = with_backups().await;
    *stage.store.packs_failures.lock().unwrap() = u32::MAX;
    let run = Run {
        context: stage.context.clone(),
        term: 1,
        id: seawall_common::ids::OperationId::generate(),
    };
    mark_reaching(&run, &shard()).await.unwrap();
    assert_eq!(entry(&stage, &names[0]).known, Known::Complete);
}

#[tokio::test(start_paused = true)]
async fn i5_with_more_damage_than_is_told_the_next_backup_refers_to_nothing() {
    for (damaged, is_told) in [(DAMAGED_TOLD, true), (DAMAGED_TOLD + 1, false)] {
        let (stage, names) = with_backups().await;
        // None that another of these backups needs.
        let packs = (1000..1000 + damaged).map(|n| format!("{n:032x}"));
        stage.find_damaged(&packs.collect::<Vec<_>>());
        let id = stage.start(verify_of(&names[0], 100)).await;
        let error = seawall_common::Error::from(stage.ended(id).await.error.unwrap());
        let hint = error.hint_text().unwrap();
        assert_eq!(hint.contains("sends everything"), !is_told, "{hint}");
        assert_eq!(entry(&stage, &names[2]).known, Known::Complete);
        stage.tell("prepare", Does::Hang);
        let id = stage.start(backup_of("zone1-101")).await;
        let references = stage.look(|state| state.operations.get(&id).unwrap().references.len());
        assert_eq!(references, if is_told { 2 } else { 0 });
    }
}

use seawall_common::{ErrorKind, ids::BackupName};

use super::*;
use crate::state::{
    Command as Any,
    operations::{Effect, Outcome, Spec},
    testing::{Cluster, alias, backup_of, shard, verify_of},
};

fn result(passed: bool, percent: u32) -> Verification {
    Verification {
        at_unix_ms: 9,
        passed,
        percent,
        seed: 1,
        message: "object packs/x is missing".into(),
        alias: "zone1-101".into(),
        bytes: 10,
    }
}

fn with_backup() -> (Cluster, BackupName) {
    let mut cluster = Cluster::with_primary();
    let name = cluster.backed_up("zone1-101", "0-100-7");
    (cluster, name)
}

fn entry<'a>(cluster: &'a Cluster, name: &BackupName) -> &'a Entry {
    cluster.state.catalogue.entry(&shard(), name).unwrap()
}

fn mark(cluster: &mut Cluster, name: &BackupName, undo: bool) -> Result<Response> {
    let mark = Command::Mark {
        shard: shard(),
        name: name.clone(),
        reason: "wrong data".into(),
        undo,
        now_unix_ms: 5,
    };
    cluster.state.apply(&Any::Verification(mark)).into_result()
}

fn recorded(cluster: &mut Cluster, name: &BackupName, result: &Verification) {
    record(&mut cluster.state.catalogue, &shard(), name, result, false);
}

#[test]
fn an_operators_mark_is_taken_back_by_an_operator_only() {
    let (mut cluster, name) = with_backup();
    mark(&mut cluster, &name, false).unwrap();
    assert_eq!(entry(&cluster, &name).known, Known::Broken);
    assert_eq!(entry(&cluster, &name).note, "wrong data");
    recorded(&mut cluster, &name, &result(true, 100));
    assert_eq!(entry(&cluster, &name).known, Known::Broken);
    // Nor does damage change whose mark it is.
    recorded(&mut cluster, &name, &result(false, 100));
    assert_eq!(entry(&cluster, &name).note, "wrong data");
    mark(&mut cluster, &name, true).unwrap();
    assert_eq!(entry(&cluster, &name).known, Known::Complete);
    assert_eq!(
        mark(&mut cluster, &name, true).unwrap_err().kind(),
        ErrorKind::Refused
    );
}

#[test]
fn a_verifications_mark_is_cleared_by_a_whole_one_that_passes() {
    let (mut cluster, name) = with_backup();
    recorded(&mut cluster, &name, &result(false, 5));
    assert_eq!(entry(&cluster, &name).known, Known::Broken);
    recorded(&mut cluster, &name, &result(true, 50));
    assert_eq!(entry(&cluster, &name).known, Known::Broken);
    record(
        &mut cluster.state.catalogue,
        &shard(),
        &name,
        &result(true, 100),
        true,
    );
    assert_eq!(
        entry(&cluster, &name).known,
        Known::Broken,
        "a restore test reads no packs"
    );
    recorded(&mut cluster, &name, &result(true, 100));
    assert_eq!(entry(&cluster, &name).known, Known::Complete);
}

fn tested(cluster: &mut Cluster, name: &BackupName, passed: bool) {
    let result = result(passed, 100);
    let catalogue = &mut cluster.state.catalogue;
    record(catalogue, &shard(), name, &result, true);
}

#[test]
fn the_mark_of_a_failed_restore_test_is_cleared_by_one_that_passes_only() {
    let (mut cluster, name) = with_backup();
    tested(&mut cluster, &name, false);
    assert_eq!(
        entry(&cluster, &name).mark.clone().unwrap().by,
        MarkedBy::Test
    );
    recorded(&mut cluster, &name, &result(true, 100));
    assert_eq!(entry(&cluster, &name).known, Known::Broken);
    tested(&mut cluster, &name, true);
    assert_eq!(entry(&cluster, &name).known, Known::Complete);

    // Both failed: each is to be mended.
    tested(&mut cluster, &name, false);
    recorded(&mut cluster, &name, &result(false, 100));
    recorded(&mut cluster, &name, &result(true, 100));
    assert_eq!(
        entry(&cluster, &name).mark.clone().unwrap().by,
        MarkedBy::Test
    );
    recorded(&mut cluster, &name, &result(false, 100));
    tested(&mut cluster, &name, true);
    assert_eq!(entry(&cluster, &name).known, Known::Broken);
    recorded(&mut cluster, &name, &result(true, 100));
    assert_eq!(entry(&cluster, &name).known, Known::Complete);
}

#[test]
fn a_verification_clears_only_damage_that_was_found_before_it_began() {
    let (mut cluster, _) = with_backup();
    let packs: Vec<String> = ["a", "b"].map(|c| c.repeat(32)).to_vec();
    let damage = |at| Command::Damage {
        shard: shard(),
        packs: packs[usize::from(at > 1)..].to_vec(),
        broken: vec![],
        now_unix_ms: at,
    };
    for at in [1, 7] {
        cluster.apply(Any::Verification(damage(at))).unwrap();
    }
    let whole = |begun_unix_ms| {
        Any::Verification(Command::Whole {
            shard: shard(),
            packs: packs.clone(),
            begun_unix_ms,
        })
    };
    let left = |cluster: &Cluster| {
        let damaged = &cluster.state.catalogue.damaged;
        damaged.of(&shard()).map(str::to_owned).collect::<Vec<_>>()
    };
    cluster.apply(whole(Some(5))).unwrap();
    assert_eq!(left(&cluster), [packs[1].clone()]);
    cluster.apply(whole(None)).unwrap();
    assert_eq!(left(&cluster), [""; 0]);
}

#[test]
fn what_is_not_complete_cannot_be_marked_or_verified() {
    let mut cluster = Cluster::with_primary();
    let operation = cluster.start(backup_of("zone1-101")).unwrap();
    let name = operation.backup.unwrap();
    let error = mark(&mut cluster, &name, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    let verify = verify_of(&name, 100);
    assert!(cluster.start(verify).is_err());
}

#[test]
fn i5_a_verification_holds_the_backup_side_and_lets_others_work() {
    let (mut cluster, name) = with_backup();
    let verify = |cluster: &mut Cluster| {
        cluster.start(Spec::Verify {
            shard: shard(),
            backup: name.clone(),
            percent: 100,
            alias: Some(alias("zone1-101")),
            concurrency: 0,
        })
    };
    let first = verify(&mut cluster).unwrap();
    verify(&mut cluster).unwrap();
    assert!(cluster.state.locks.is_valid(&first.hold_id(), first.token));
    // The tablet is not taken away.
    cluster.start(backup_of("zone1-101")).unwrap();
    let removal = crate::state::testing::removal_of(&name, true);
    assert!(
        cluster.start(removal).is_err(),
        "deleted from under a verification"
    );
}

#[test]
fn a_part_that_passes_does_not_take_the_place_of_a_whole_that_passed() {
    let (mut cluster, name) = with_backup();
    let percent = |cluster: &Cluster| entry(cluster, &name).verified.clone().unwrap().percent;
    recorded(&mut cluster, &name, &result(true, 10));
    recorded(&mut cluster, &name, &result(true, 20));
    assert_eq!(percent(&cluster), 20);
    recorded(&mut cluster, &name, &result(true, 100));
    recorded(&mut cluster, &name, &result(true, 30));
    assert_eq!(percent(&cluster), 100);
    recorded(&mut cluster, &name, &result(false, 40));
    assert_eq!(percent(&cluster), 40);
}

#[test]
fn a_broken_backup_is_restored_by_name_and_consent_only() {
    let (mut cluster, name) = with_backup();
    mark(&mut cluster, &name, false).unwrap();
    let restore = |backup: Option<&BackupName>, allow_broken| Spec::Restore {
        alias: alias("zone1-102"),
        backup: backup.cloned(),
        empty_start: false,
        concurrency: 0,
        allow_broken,
    };
    let refused = cluster.start(restore(Some(&name), false)).unwrap_err();
    assert!(Error::from(refused).to_string().contains("--allow-broken"));
    assert!(cluster.start(restore(None, true)).is_err());
    cluster.start(restore(Some(&name), true)).unwrap();
}

#[test]
fn verifications_stand_back_for_a_collection_that_has_waited_for_an_hour() {
    let (mut cluster, name) = with_backup();
    let verify = verify_of(&name, 100);
    let collection = cluster.start(Spec::Collect { shard: shard() }).unwrap();
    let begin = crate::state::operations::Command::StepStarted {
        id: collection.id,
        step: "sweep".into(),
        now_unix_ms: cluster.now_unix_ms,
    };
    cluster.operate(begin).unwrap();
    let hour = 3_600_000;
    cluster.now_unix_ms += hour;
    // It has just had its turn: it works, and does not starve.
    let take = crate::state::operations::Command::TakeDeleteSide {
        id: collection.id,
        now_unix_ms: cluster.now_unix_ms,
    };
    cluster.operate(take).unwrap();
    let release = crate::state::operations::Command::ReleaseDeleteSide {
        id: collection.id,
        deleted: Default::default(),
        note: String::new(),
    };
    cluster.operate(release).unwrap();
    cluster.start(verify.clone()).unwrap();
    cluster.now_unix_ms += hour - 1_000;
    cluster.start(verify.clone()).unwrap();
    cluster.now_unix_ms += 1_000;
    let refusal = cluster.start(verify.clone()).unwrap_err();
    assert!(refusal.message.contains(&collection.id.to_string()));
    cluster.backed_up("zone1-101", "0-100-9");
    let open: Vec<_> = cluster.state.operations.open().map(|o| o.id).collect();
    for id in open.into_iter().filter(|id| *id != collection.id) {
        cluster.finish(id).unwrap();
    }
    // It could go on now: whatever keeps it is none of theirs.
    cluster.start(verify).unwrap();
}

#[test]
fn a_verifications_result_after_its_cancellation_is_not_taken() {
    let (mut cluster, name) = with_backup();
    let operation = cluster.start(verify_of(&name, 100)).unwrap();
    let cancel = crate::state::operations::Command::Cancel {
        id: operation.id,
        reason: String::new(),
    };
    cluster.apply(Any::Operations(cancel)).unwrap();
    let ended = crate::state::operations::Command::StepEnded {
        id: operation.id,
        step: "verify".into(),
        now_unix_ms: 1,
        error: None,
        outcome: Outcome {
            verification: Some(result(false, 100)),
            ..Outcome::default()
        },
        effect: Effect::Verified,
    };
    assert!(cluster.apply(Any::Operations(ended)).is_err());
    assert_eq!(entry(&cluster, &name).known, Known::Complete);
}

#[test]
fn damaged_packs_have_a_bound_and_the_oldest_go_first() {
    let mut damaged = DamagedPacks::default();
    assert!(!damaged.add(&shard(), &["first".into()], 1));
    let many: Vec<String> = (0..DAMAGED_MAX).map(|n| format!("{n:032x}")).collect();
    assert!(damaged.add(&shard(), &many, 2), "it does not say so");
    assert_eq!(damaged.of(&shard()).count(), DAMAGED_MAX);
    assert!(!damaged.of(&shard()).any(|pack| pack == "first"));
}

#[test]
fn state_of_before_there_were_verifications_is_read() {
    let (cluster, name) = with_backup();
    let mut json = serde_json::to_value(entry(&cluster, &name)).unwrap();
    for field in ["mark", "verified", "tested"] {
        json.as_object_mut().unwrap().remove(field);
    }
    let read: Entry = serde_json::from_value(json).unwrap();
    assert_eq!(&read, entry(&cluster, &name));
    let start = serde_json::json!({"Restore": {"alias": "zone1-101", "backup": null, "empty_start": true, "concurrency": 1}});
    let spec: Spec = serde_json::from_value(start).unwrap();
    assert!(matches!(
        spec,
        Spec::Restore {
            allow_broken: false,
            ..
        }
    ));
}

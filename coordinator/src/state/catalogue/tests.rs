use super::*;
use crate::state::{
    Command as Any, collection,
    operations::Effect,
    testing::{Cluster, alias, backup_of, removal_of, shard},
};

fn facts(hash: &str) -> Facts {
    Facts {
        manifest_hash: hash.into(),
        ..Facts::default()
    }
}

fn found(name: &BackupName, known: Known, hash: &str) -> Found {
    Found {
        name: name.clone(),
        alias: "zone1-101".into(),
        known,
        facts: facts(hash),
        note: String::new(),
    }
}

fn import(cluster: &mut Cluster, found: Vec<Found>, missing: Vec<BackupName>) {
    let shard = shard();
    let command = Command::Import {
        shard,
        found,
        missing,
    };
    cluster.apply(Any::Catalogue(command)).unwrap();
}

#[test]
fn i2_names_are_never_used_again_even_when_the_clock_goes_back() {
    let mut cluster = Cluster::with_primary();
    let mut names = std::collections::BTreeSet::new();
    for step in 0..20_u64 {
        cluster.now_unix_ms = 1_792_000_000_000 - step * 400;
        assert!(names.insert(cluster.backed_up("zone1-101", "0-100-1")));
    }
}

#[test]
fn i2_a_manifest_is_announced_only_by_the_running_attempt_under_its_token() {
    let mut cluster = Cluster::with_primary();
    let operation = cluster.start(backup_of("zone1-101")).unwrap();
    let name = operation.backup.clone().unwrap();
    let announce = |token: u64, attempt: u32, name: &BackupName| {
        Any::Catalogue(Command::Announce {
            operation: operation.id,
            attempt,
            token,
            name: name.clone(),
            facts: Box::new(facts("h")),
        })
    };
    let other = BackupName::new(0, &alias("zone1-101"), 0).unwrap();
    for stale in [
        announce(operation.token - 1, 1, &name),
        announce(operation.token, 0, &name),
        announce(operation.token, 1, &other),
    ] {
        assert_eq!(cluster.apply(stale).unwrap_err().kind, "fenced");
    }
    cluster.apply(announce(operation.token, 1, &name)).unwrap();
    cluster.apply(announce(operation.token, 1, &name)).unwrap();
    cluster.cancel(operation.id).unwrap();
    let late = cluster.apply(announce(operation.token, 1, &name));
    assert_eq!(late.unwrap_err().kind, "cancelled");
}

#[test]
fn a_scan_shows_what_is_in_an_old_repository_and_never_what_it_cannot_know() {
    let mut cluster = Cluster::with_primary();
    let complete = cluster.backed_up("zone1-101", "0-100-1");
    let running = cluster.start(backup_of("zone1-101")).unwrap();
    let running_name = running.backup.clone().unwrap();
    let hash = cluster
        .state
        .catalogue
        .entry(&shard(), &complete)
        .unwrap()
        .facts
        .manifest_hash
        .clone();
    let old = BackupName::new(0, &alias("zone1-109"), 0).unwrap();
    import(
        &mut cluster,
        vec![
            found(&old, Known::Complete, "old"),
            found(&running_name, Known::Incomplete, ""),
            found(&complete, Known::Incomplete, ""),
            found(&complete, Known::Complete, &hash),
        ],
        vec![],
    );
    let known = |cluster: &Cluster, name: &BackupName| {
        cluster.state.catalogue.entry(&shard(), name).unwrap().known
    };
    assert_eq!(known(&cluster, &old), Known::Complete);
    assert_eq!(known(&cluster, &running_name), Known::Running);
    assert_eq!(known(&cluster, &complete), Known::Complete);

    cluster.state.catalogue.remove(&shard(), &old, "gone");
    import(
        &mut cluster,
        vec![found(&old, Known::Complete, "old")],
        vec![],
    );
    assert_eq!(known(&cluster, &old), Known::Removed, "removed is for ever");
    let again = found(&old, Known::Complete, "old");
    assert!(!is_news(&cluster.state, &shard(), &again));
}

#[test]
fn i5_a_manifest_that_is_not_the_announced_one_makes_the_backup_broken() {
    let mut cluster = Cluster::with_primary();
    let one = cluster.backed_up("zone1-101", "0-100-1");
    let two = cluster.backed_up("zone1-101", "0-100-2");
    let forged = found(&one, Known::Complete, "forged");
    assert!(is_news(&cluster.state, &shard(), &forged));
    import(&mut cluster, vec![forged], vec![two.clone()]);
    for name in [&one, &two] {
        let entry = cluster.state.catalogue.entry(&shard(), name).unwrap();
        assert_eq!(entry.known, Known::Broken);
        assert!(!entry.note.is_empty());
    }
}

#[test]
fn a_mark_of_a_backup_that_nobody_knows_is_not_taken_up() {
    let mut cluster = Cluster::with_primary();
    let old = BackupName::new(0, &alias("zone1-109"), 0).unwrap();
    let mark = found(&old, Known::Removed, "");
    assert!(!is_news(&cluster.state, &shard(), &mark));
    import(&mut cluster, vec![mark], vec![]);
    assert!(cluster.state.catalogue.entry(&shard(), &old).is_err());
}

#[test]
fn i5_a_mark_that_nobody_here_has_put_deletes_nothing_and_an_operator_decides() {
    let mut cluster = Cluster::with_primary();
    let name = cluster.backed_up("zone1-101", "0-100-1");
    let hash = cluster.state.catalogue.entry(&shard(), &name);
    let hash = hash.unwrap().facts.manifest_hash.clone();
    let mark = found(&name, Known::Removed, "");
    let standing = |cluster: &Cluster| {
        let entry = cluster.state.catalogue.entry(&shard(), &name).unwrap();
        (entry.known, entry.note.clone())
    };
    for _ in 0..2 {
        import(&mut cluster, vec![mark.clone()], vec![]);
        let (known, note) = standing(&cluster);
        assert_eq!(known, Known::Broken);
        assert!(note.contains("RemoveBackup removes it"), "{note}");
    }
    assert!(!is_news(&cluster.state, &shard(), &mark));
    let expected = collection::expected(&cluster.state, &shard());
    assert_eq!(expected[&name], hash, "nothing of it goes");
    // The mark was a mistake, and is gone.
    import(
        &mut cluster,
        vec![found(&name, Known::Complete, &hash)],
        vec![],
    );
    assert_eq!(standing(&cluster), (Known::Complete, String::new()));

    import(&mut cluster, vec![mark.clone()], vec![]);
    let removal = cluster.start(removal_of(&name, false)).unwrap();
    import(&mut cluster, vec![mark.clone()], vec![]);
    assert_eq!(standing(&cluster).0, Known::Broken, "its operation says");
    cluster
        .end_step(
            removal.id,
            "remove",
            Effect::BackupRemoved { reason: "x".into() },
        )
        .unwrap();
    cluster.finish(removal.id).unwrap();
    assert_eq!(standing(&cluster).0, Known::Removed);
    assert!(collection::may_go(&cluster.state, &shard(), None).is_empty());
}

#[test]
fn i5_the_mark_of_a_removal_under_way_is_for_its_operation_to_record() {
    let mut cluster = Cluster::with_primary();
    let name = cluster.backed_up("zone1-101", "0-100-1");
    cluster.start(removal_of(&name, true)).unwrap();
    let mark = found(&name, Known::Removed, "");
    assert!(!is_news(&cluster.state, &shard(), &mark));
    import(&mut cluster, vec![mark], vec![]);
    let entry = cluster.state.catalogue.entry(&shard(), &name).unwrap();
    assert_eq!(entry.known, Known::Complete);
}

#[test]
fn i5_marks_of_others_count_from_when_this_group_saw_them_first() {
    let mut cluster = Cluster::with_primary();
    let others = BackupName::new(0, &alias("zone1-109"), 0).unwrap();
    let seen = |cluster: &mut Cluster, now_unix_ms| {
        let command = Command::MarksSeen {
            shard: shard(),
            names: vec![others.clone()],
            now_unix_ms,
        };
        cluster.apply(Any::Catalogue(command)).unwrap();
    };
    let goes = |cluster: &Cluster, before| {
        collection::may_go(&cluster.state, &shard(), before).contains(&others)
    };
    assert!(!goes(&cluster, Some(u64::MAX)), "nobody has seen it yet");
    seen(&mut cluster, 1000);
    seen(&mut cluster, 3000);
    assert!(!goes(&cluster, Some(999)));
    assert!(goes(&cluster, Some(1000)));
    assert!(!goes(&cluster, None), "the clock cannot be believed");
}

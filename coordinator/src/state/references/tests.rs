use super::*;
use crate::state::{
    operations::{self, Operation},
    testing::{Cluster, alias, backup_of, removal_of, shard},
};

/// A backup that was given up.
fn given_up(cluster: &mut Cluster, tablet: &str) -> (Operation, BackupName) {
    let operation = cluster.start(backup_of(tablet)).unwrap();
    cluster.cancel(operation.id).unwrap();
    cluster.abandon(operation.id).unwrap();
    cluster.finish(operation.id).unwrap();
    let name = operation.backup.clone().unwrap();
    (operation, name)
}

fn named(cluster: &Cluster, tablet: &str) -> Vec<BackupName> {
    let references = referable(&cluster.state, &shard(), &alias(tablet));
    references.into_iter().map(|r| r.backup).collect()
}

#[test]
fn backups_of_the_same_tablet_come_first_and_the_newest_of_them() {
    let mut cluster = Cluster::with_primary();
    let first = cluster.backed_up("zone1-101", "0-100-1");
    let other = cluster.backed_up("zone1-102", "0-100-2");
    let last = cluster.backed_up("zone1-101", "0-100-3");
    assert_eq!(
        named(&cluster, "zone1-101"),
        [last.clone(), first.clone(), other.clone()]
    );
    assert_eq!(named(&cluster, "zone1-102"), [other, last, first]);
    let references = referable(&cluster.state, &shard(), &alias("zone1-101"));
    for reference in references {
        let entry = cluster.state.catalogue.entry(&shard(), &reference.backup);
        assert_eq!(reference.manifest_hash, entry.unwrap().facts.manifest_hash);
    }
}

#[test]
fn i5_what_is_removed_or_broken_is_not_named() {
    let mut cluster = Cluster::with_primary();
    let removed = cluster.backed_up("zone1-101", "0-100-1");
    let broken = cluster.backed_up("zone1-101", "0-100-2");
    let good = cluster.backed_up("zone1-101", "0-100-3");
    let removal = cluster.start(removal_of(&removed, false)).unwrap();
    let left = [good.clone(), broken.clone()];
    assert_eq!(named(&cluster, "zone1-101"), left, "it is being removed");
    cluster.abandon(removal.id).unwrap();
    cluster.finish(removal.id).unwrap();
    let catalogue = &mut cluster.state.catalogue;
    catalogue.set_known(&shard(), &broken, Known::Broken, "a test");
    assert_eq!(named(&cluster, "zone1-101"), [good]);
}

#[test]
fn i5_an_attempt_is_named_until_its_sweep_begins() {
    let mut cluster = Cluster::with_primary();
    let complete = cluster.backed_up("zone1-101", "0-100-1");
    let (operation, attempt) = given_up(&mut cluster, "zone1-101");
    let expected = [attempt.clone(), complete.clone()];
    assert_eq!(named(&cluster, "zone1-101"), expected);
    assert_eq!(named(&cluster, "zone1-102"), expected);
    let references = referable(&cluster.state, &shard(), &alias("zone1-101"));
    assert_eq!(references[0].manifest_hash, "");

    let sweep = operation.id.derived("sweep");
    let begin = operations::Command::StepStarted {
        id: sweep,
        step: "sweep".into(),
        now_unix_ms: cluster.now_unix_ms,
    };
    cluster.operate(begin).unwrap();
    assert_eq!(named(&cluster, "zone1-101"), [complete]);
}

#[test]
fn what_was_named_stays_the_same_for_the_whole_backup_and_is_forgotten_with_its_end() {
    let mut cluster = Cluster::with_primary();
    let first = cluster.backed_up("zone1-101", "0-100-1");
    let running = cluster.start(backup_of("zone1-102")).unwrap();
    assert_eq!(running.references.len(), 1);
    let catalogue = &mut cluster.state.catalogue;
    catalogue.set_known(&shard(), &first, Known::Broken, "a test");
    let now = |cluster: &Cluster| {
        let operation = cluster.state.operations.get(&running.id).unwrap();
        operation.references.clone()
    };
    assert_eq!(now(&cluster), running.references);
    cluster.complete_copy(running.id, "0-100-2").unwrap();
    assert_eq!(now(&cluster), running.references);
    cluster.finish(running.id).unwrap();
    assert_eq!(now(&cluster), []);
}

#[test]
fn a_bounded_number_is_named() {
    let mut cluster = Cluster::with_primary();
    for number in 0..40 {
        cluster.backed_up("zone1-101", &format!("0-100-{number}"));
        if number % 4 == 0 {
            given_up(&mut cluster, "zone1-102");
        }
    }
    let references = referable(&cluster.state, &shard(), &alias("zone1-101"));
    assert_eq!(references.len(), REFERENCES_MAX);
    let attempts = references.iter().filter(|r| r.manifest_hash.is_empty());
    assert_eq!(attempts.count(), ATTEMPTS_MAX);
}

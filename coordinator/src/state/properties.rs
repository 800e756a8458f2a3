//! Random sequences of commands keep what must always hold.

use std::collections::BTreeSet;

use proptest::prelude::*;
use seawall_common::ids::OperationId;

use super::{
    Command, State,
    catalogue::{self, Known, Pin},
    collection::{Deleted, SWEEP_STEP, expected, kept},
    epochs::NewEpoch,
    locks::{self, Scope, Side, Which},
    operations::{self, Spec},
    testing::{Cluster, backup_of, removal_of, reparent_to, restore_of, shard},
    topology,
};

#[derive(Clone, Debug)]
enum Act {
    Backup(u8),
    Restore(u8),
    Remove(u8),
    RemoveRecipient(u8),
    Reparent(u8),
    NewEpoch(u8),
    Copied(u8),
    Abandon(u8),
    Cancel(u8),
    Finish(u8),
    TakeDelete(u8),
    ReleaseDelete(u8),
    Pin(u8),
    MarkByNobody(u8),
    Acquire(u8),
    Break,
    Expire,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => any::<u8>().prop_map(Act::Backup),
        1 => any::<u8>().prop_map(Act::Restore),
        2 => any::<u8>().prop_map(Act::Remove),
        2 => any::<u8>().prop_map(Act::RemoveRecipient),
        1 => any::<u8>().prop_map(Act::Reparent),
        1 => any::<u8>().prop_map(Act::NewEpoch),
        3 => any::<u8>().prop_map(Act::Copied),
        2 => any::<u8>().prop_map(Act::Abandon),
        1 => any::<u8>().prop_map(Act::Cancel),
        4 => any::<u8>().prop_map(Act::Finish),
        2 => any::<u8>().prop_map(Act::TakeDelete),
        1 => any::<u8>().prop_map(Act::ReleaseDelete),
        1 => any::<u8>().prop_map(Act::Pin),
        1 => any::<u8>().prop_map(Act::MarkByNobody),
        1 => any::<u8>().prop_map(Act::Acquire),
        1 => Just(Act::Break),
        1 => Just(Act::Expire),
    ]
}

fn tablet(n: u8) -> &'static str {
    ["zone1-100", "zone1-101", "zone1-102"][usize::from(n) % 3]
}

fn open(cluster: &Cluster, n: u8) -> Option<OperationId> {
    let open: Vec<_> = cluster.state.operations.open().map(|o| o.id).collect();
    (!open.is_empty()).then(|| open[usize::from(n) % open.len()])
}

/// Refusals are as good as successes here: only what holds afterwards counts.
fn act(cluster: &mut Cluster, act: &Act) {
    match *act {
        Act::Backup(n) => drop(cluster.start(backup_of(tablet(n)))),
        Act::Restore(n) => drop(cluster.start(restore_of(tablet(n)))),
        Act::Remove(n) => {
            let names: Vec<_> = cluster
                .state
                .catalogue
                .entries(&shard())
                .map(|e| e.name.clone())
                .collect();
            if !names.is_empty() {
                let name = &names[usize::from(n) % names.len()];
                drop(cluster.start(removal_of(name, n.is_multiple_of(2))));
            }
        }
        Act::RemoveRecipient(n) => drop(cluster.start(Spec::RemoveRecipient {
            shard: shard(),
            recipient: format!("{n:016x}"),
        })),
        Act::Reparent(n) => drop(cluster.start(reparent_to(tablet(n)))),
        Act::NewEpoch(n) => new_epoch(cluster, n),
        Act::Copied(n) => on_open(cluster, n, |c, id| drop(c.complete_copy(id, "0-100-1"))),
        Act::Abandon(n) => on_open(cluster, n, |c, id| drop(c.abandon(id))),
        Act::Cancel(n) => on_open(cluster, n, |c, id| drop(c.cancel(id))),
        Act::Finish(n) => on_open(cluster, n, |c, id| drop(c.finish(id))),
        Act::TakeDelete(n) => on_open(cluster, n, |c, id| {
            let take = operations::Command::TakeDeleteSide {
                id,
                now_unix_ms: c.now_unix_ms,
            };
            drop(c.operate(take));
        }),
        Act::ReleaseDelete(n) => on_open(cluster, n, |c, id| {
            let release = operations::Command::ReleaseDeleteSide {
                id,
                deleted: Deleted::default(),
                note: String::new(),
            };
            if matches!(
                c.state.operations.get(&id).unwrap().spec,
                Spec::Sweep { .. } | Spec::RemoveRecipient { .. } | Spec::RemoveBackup { .. }
            ) {
                drop(c.operate(release));
            }
        }),
        Act::Pin(n) => pin_or_unpin(cluster, n),
        Act::MarkByNobody(n) => mark_by_nobody(cluster, n),
        Act::Acquire(n) => drop(
            cluster.apply(Command::Locks(locks::Command::Acquire {
                id: format!("hand-{n}"),
                side: Side::Backup,
                scope: [
                    Scope::Cluster,
                    Scope::Keyspace("commerce".into()),
                    Scope::Shard(shard()),
                ][usize::from(n) % 3]
                    .clone(),
                owner: "o".into(),
                reason: "r".into(),
                now_unix_ms: cluster.now_unix_ms,
                duration_ms: 30,
                lease_ms: None,
            })),
        ),
        Act::Break => drop(cluster.apply(Command::Locks(locks::Command::Break {
            which: Which {
                id: String::new(),
                scope: Scope::Shard(shard()),
            },
            reason: "r".into(),
            operator: "o".into(),
            now_unix_ms: cluster.now_unix_ms,
        }))),
        Act::Expire => {
            let ids = cluster.state.locks.holds().map(|h| h.id.clone()).collect();
            drop(cluster.apply(Command::Locks(locks::Command::Expire { ids })));
        }
    }
}

fn pin_or_unpin(cluster: &mut Cluster, n: u8) {
    let names: Vec<_> = cluster
        .state
        .catalogue
        .entries(&shard())
        .map(|e| e.name.clone())
        .collect();
    if names.is_empty() {
        return;
    }
    let pin = n.is_multiple_of(2).then_some(Pin {
        until_unix_ms: None,
    });
    drop(cluster.apply(Command::Catalogue(catalogue::Command::Pin {
        shard: shard(),
        name: names[usize::from(n) % names.len()].clone(),
        pin,
        now_unix_ms: cluster.now_unix_ms,
    })));
}

/// A scan finds a mark that is in no log.
fn mark_by_nobody(cluster: &mut Cluster, n: u8) {
    let entries: Vec<_> = cluster.state.catalogue.entries(&shard()).collect();
    if entries.is_empty() {
        return;
    }
    let entry = entries[usize::from(n) % entries.len()];
    let import = catalogue::Command::Import {
        shard: shard(),
        found: vec![catalogue::Found {
            name: entry.name.clone(),
            alias: entry.alias.clone(),
            known: Known::Removed,
            facts: catalogue::Facts::default(),
            note: "marked".into(),
        }],
        missing: vec![],
    };
    cluster.apply(Command::Catalogue(import)).unwrap();
}

fn on_open(cluster: &mut Cluster, n: u8, then: impl Fn(&mut Cluster, OperationId)) {
    if let Some(id) = open(cluster, n) {
        then(cluster, id);
    }
}

fn new_epoch(cluster: &mut Cluster, n: u8) {
    let reparent = cluster
        .state
        .operations
        .open()
        .find_map(|operation| match &operation.spec {
            Spec::PlannedReparent { new_primary, .. } => Some((operation.id, new_primary.clone())),
            _ => None,
        });
    let Some((operation, alias)) = reparent else {
        return;
    };
    let newest = cluster
        .state
        .topology
        .newest_epoch(&shard())
        .unwrap()
        .number;
    drop(
        cluster.apply(Command::Topology(topology::Command::NewEpoch(NewEpoch {
            operation,
            shard: shard(),
            expected: newest.saturating_sub(u64::from(n % 2)),
            alias,
            start_position: "0-100-1".parse().unwrap(),
            repository_epoch: 0,
            now_unix_ms: cluster.now_unix_ms,
        }))),
    );
}

fn check(cluster: &Cluster) {
    let state = &cluster.state;
    let holds: Vec<_> = state.locks.holds().collect();
    for a in holds.iter().filter(|hold| hold.side == Side::Backup) {
        for b in holds.iter().filter(|hold| hold.side == Side::Delete) {
            assert!(!a.scope.overlaps(&b.scope), "{a:?} and {b:?}");
        }
    }
    let backups = state
        .operations
        .open()
        .filter(|operation| matches!(operation.spec, Spec::Backup { .. }));
    assert!(backups.count() <= 1, "two backups of one shard");
    let of_recipients = state
        .operations
        .open()
        .filter(|operation| matches!(operation.spec, Spec::RemoveRecipient { .. }));
    assert!(
        of_recipients.count() <= 1,
        "two recipients of one shard go at once"
    );
    let line = state.topology.line(&shard());
    for (index, epoch) in line.iter().enumerate() {
        assert_eq!(epoch.number, index as u64 + 1);
    }
    let primaries = state
        .topology
        .tablets()
        .filter(|tablet| tablet.wanted_type == topology::TabletType::Primary);
    let primaries: Vec<_> = primaries.map(|tablet| &tablet.alias).collect();
    assert_eq!(primaries, [&line.last().unwrap().alias]);
    for entry in state.catalogue.entries(&shard()) {
        let writer = entry
            .operation
            .and_then(|id| state.operations.get(&id).ok());
        if entry.known == Known::Running {
            assert!(writer.is_some_and(|operation| operation.state.is_open()));
        }
        // Until a sweep has begun, a collector is told of every backup that must not be touched.
        let is_swept = state.operations.iter().any(|operation| {
            matches!(operation.spec, Spec::Sweep { .. })
                && operation.backup.as_ref() == Some(&entry.name)
                && (!operation.state.is_open() || operation.step(SWEEP_STEP).is_some())
        });
        assert!(
            entry.known == Known::Running
                || expected(state, &shard()).contains_key(&entry.name)
                || kept(state, &shard()).contains(&entry.name)
                || is_swept,
            "{entry:?}"
        );
    }
}

/// Whoever goes by the changes alone must miss none.
fn check_changes(before: &topology::Topology, after: &topology::Topology) {
    let changed = after.changed_since(before.changes()).unwrap();
    let changed: BTreeSet<_> = changed.collect();
    let aliases = before.tablets().chain(after.tablets()).map(|t| &t.alias);
    for alias in aliases.collect::<BTreeSet<_>>() {
        let seen = |topology: &topology::Topology| {
            let tablet = topology.tablet(alias).ok()?;
            let newest = topology.newest_epoch(&tablet.shard);
            Some((tablet.clone(), newest.map(|epoch| epoch.number)))
        };
        assert!(
            seen(before) == seen(after) || changed.contains(alias),
            "{alias}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_commands_keep_the_invariants(sequence in proptest::collection::vec(acts(), 1..80)) {
        let mut cluster = Cluster::with_primary();
        let mut tokens = std::collections::BTreeMap::new();
        let mut newest_token = 0;
        for next in &sequence {
            cluster.now_unix_ms += 7;
            let topology = cluster.state.topology.clone();
            act(&mut cluster, next);
            check(&cluster);
            check_changes(&topology, &cluster.state.topology);
            for hold in cluster.state.locks.holds() {
                let granted = tokens.insert((hold.id.clone(), hold.granted_unix_ms), hold.token);
                prop_assert!(granted.is_none_or(|token| token == hold.token));
                if granted.is_none() {
                    prop_assert!(hold.token > newest_token, "token {} after {newest_token}", hold.token);
                    newest_token = hold.token;
                }
            }
        }
    }

    /// One replica applies the log as it came, one as it stands on a disk; this one is made anew
    /// from a snapshot now and then. After each entry both have the same bytes and the same answer.
    #[test]
    fn replicas_of_one_log_are_equal_to_the_byte_also_when_one_comes_from_a_snapshot(
        sequence in proptest::collection::vec(acts(), 1..60),
        snapshots in proptest::collection::vec(any::<bool>(), 16),
    ) {
        let mut cluster = Cluster::with_primary();
        for next in &sequence {
            cluster.now_unix_ms += 7;
            act(&mut cluster, next);
        }
        let (mut one, mut other) = (State::default(), State::default());
        for (command, from_snapshot) in cluster.log.iter().zip(snapshots.iter().cycle()) {
            let stored = serde_json::to_vec(command).unwrap();
            let read: Command = serde_json::from_slice(&stored).unwrap();
            prop_assert_eq!(one.apply(command), other.apply(&read));
            let bytes = serde_json::to_vec(&one).unwrap();
            prop_assert!(bytes == serde_json::to_vec(&other).unwrap(), "after {command:?}");
            if *from_snapshot {
                other = serde_json::from_slice(&bytes).unwrap();
                prop_assert_eq!(&other, &one);
            }
        }
        prop_assert_eq!(one, cluster.state);
    }
}

use proptest::prelude::*;

use super::*;
use crate::state::{
    Command as Any, catalogue,
    operations::{OperationState, Spec},
    testing::{Cluster, removal_of, shard},
};

const DAY: u64 = 24 * 3600 * 1000;
const NOW: u64 = 1_792_000_000_000;

fn name(number: usize) -> BackupName {
    let alias = "zone1-101".parse().unwrap();
    BackupName::new(NOW, &alias, number as u32).unwrap()
}

/// Backups of the given ages in days, numbered from the oldest, in the order in which they ended.
fn complete(ages: &[u64]) -> Vec<Candidate> {
    let backup = |(number, age): (usize, &u64)| Candidate {
        name: name(number),
        standing: Standing::Complete,
        order: (1, 1000 - u128::from(*age), 0),
        at_unix_ms: NOW - age * DAY,
        is_pinned: false,
    };
    ages.iter().enumerate().map(backup).collect()
}

fn keep_count(count: u32) -> Policy {
    Policy {
        keep_count: Some(count),
        ..Policy::default()
    }
}

fn keep_days(days: u64) -> Policy {
    Policy {
        keep_age_ms: Some(days * DAY),
        ..Policy::default()
    }
}

fn gone(policy: &Policy, backups: &[Candidate]) -> Vec<usize> {
    let expired = expired(policy, backups, NOW);
    let number = |gone: &BackupName| backups.iter().position(|b| b.name == *gone).unwrap();
    expired.iter().map(|(name, _)| number(name)).collect()
}

#[test]
fn without_count_and_age_nothing_goes() {
    let policy = Policy {
        daily: 1,
        ..Policy::default()
    };
    assert!(!policy.removes());
    assert_eq!(gone(&policy, &complete(&[900, 800, 1])), [0; 0]);
}

#[test]
fn count_and_age_are_limits_and_the_minimum_is_none() {
    let backups = complete(&[40, 30, 20, 10, 1]);
    assert_eq!(gone(&keep_count(2), &backups), [0, 1, 2]);
    assert_eq!(gone(&keep_days(20), &backups), [0, 1]);
    let both = Policy {
        keep_count: Some(4),
        ..keep_days(15)
    };
    assert_eq!(gone(&both, &backups), [0, 1, 2]);
    let reasons = expired(&both, &backups, NOW);
    assert!(reasons[0].1.contains("keeps 4"), "{reasons:?}");
    assert!(
        reasons[1].1.contains("older than the 15days"),
        "{reasons:?}"
    );
    let at_least = Policy { minimum: 4, ..both };
    assert_eq!(gone(&at_least, &backups), [0]);
    assert_eq!(gone(&keep_count(0), &backups), [0, 1, 2, 3], "one stays");
    let reasons = expired(&keep_count(0), &backups, NOW);
    assert_eq!(reasons[0].1, "retention keeps none for their number");
}

#[test]
fn the_newest_is_so_by_epoch_and_position_and_not_by_its_clock() {
    let mut backups = complete(&[3, 2, 1]);
    backups[0].order = (2, 0, 0);
    assert_eq!(gone(&keep_count(1), &backups), [1, 2]);
}

#[test]
fn tiers_keep_the_newest_of_each_day_week_and_month() {
    // Two on each of ten days.
    let mut backups = complete(&[9, 9, 8, 8, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0]);
    for (number, backup) in backups.iter_mut().enumerate() {
        backup.at_unix_ms -= 1000 * u64::from(number.is_multiple_of(2));
        backup.order.1 = number as u128;
    }
    let policy = Policy {
        daily: 3,
        ..keep_count(0)
    };
    let mut expected: Vec<usize> = (0..20).collect();
    expected.retain(|number| ![15, 17, 19].contains(number));
    assert_eq!(gone(&policy, &backups), expected);
}

#[test]
fn pins_hold_and_what_is_broken_or_incomplete_does_not_count() {
    let mut backups = complete(&[50, 40, 30, 20, 10]);
    backups[0].is_pinned = true;
    backups[4].standing = Standing::Broken;
    backups[3].standing = Standing::Incomplete;
    let policy = Policy {
        minimum: 2,
        ..keep_days(5)
    };
    // Complete are only 1 and 2 besides the pinned one: the minimum. The broken one has nobody
    // newer to stand in for it.
    assert_eq!(gone(&policy, &backups), [3]);
    backups[2].is_pinned = true;
    backups[4].standing = Standing::Complete;
    assert_eq!(gone(&policy, &backups), [1, 3]);
    backups[3].at_unix_ms = NOW - DAY;
    assert_eq!(gone(&policy, &backups), [1], "it may still be completed");
}

prop_compose! {
    fn policies()(
        keep_count in proptest::option::of(0..8_u32),
        keep_age in proptest::option::of(0..60_u64),
        (minimum, daily, weekly, monthly) in (0..5_u32, 0..5_u32, 0..4_u32, 0..4_u32),
    ) -> Policy {
        let keep_age_ms = keep_age.map(|days| days * DAY);
        Policy { keep_count, keep_age_ms, minimum, daily, weekly, monthly }
    }
}

prop_compose! {
    fn shards()(
        all in proptest::collection::vec((0..100_u64 * 24, 0..10_u8, 0..3_u64, any::<u32>()), 0..30),
    ) -> Vec<Candidate> {
        all.into_iter().enumerate().map(|(number, (hours, kind, epoch, position))| Candidate {
            name: name(number),
            standing: match kind {
                0 => Standing::Broken,
                1 => Standing::Incomplete,
                _ => Standing::Complete,
            },
            order: (epoch, u128::from(position), 0),
            at_unix_ms: NOW - hours * 3_600_000,
            is_pinned: kind == 2,
        }).collect()
    }
}

fn is_gone(gone: &[(BackupName, String)], backup: &Candidate) -> bool {
    gone.iter().any(|(name, _)| *name == backup.name)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn i5_the_newest_the_minimum_the_pinned_and_the_tiers_stay(policy in policies(), backups in shards()) {
        let gone = expired(&policy, &backups, NOW);
        let mut complete: Vec<_> = backups.iter().filter(|b| b.standing == Standing::Complete).collect();
        complete.sort_by_key(|b| std::cmp::Reverse((b.order, &b.name)));
        for newest in complete.iter().take(policy.minimum.max(1) as usize) {
            prop_assert!(!is_gone(&gone, newest), "{newest:?} of the minimum");
        }
        for pinned in backups.iter().filter(|b| b.is_pinned && b.standing != Standing::Incomplete) {
            prop_assert!(!is_gone(&gone, pinned), "{pinned:?}");
        }
        let days: BTreeSet<u64> = complete.iter().map(|b| b.at_unix_ms / DAY).collect();
        for day in days.iter().rev().take(policy.daily as usize) {
            let newest = complete.iter().find(|b| b.at_unix_ms / DAY == *day).unwrap();
            prop_assert!(!is_gone(&gone, newest), "{newest:?} of its day");
        }
    }

    #[test]
    fn a_backup_more_and_the_time_that_passes_never_bring_one_back(
        policy in policies(), backups in shards(), later in 0..100_u64,
    ) {
        let with_all = expired(&policy, &backups, NOW);
        for left_out in 0..backups.len() {
            let mut fewer = backups.clone();
            fewer.remove(left_out);
            for (name, _) in expired(&policy, &fewer, NOW) {
                prop_assert!(with_all.iter().any(|(gone, _)| *gone == name));
            }
        }
        let later = expired(&policy, &backups, NOW + later * 3_600_000);
        for (name, _) in &with_all {
            prop_assert!(later.iter().any(|(gone, _)| gone == name));
        }
    }

    #[test]
    fn what_is_left_stays(policy in policies(), backups in shards()) {
        let gone = expired(&policy, &backups, NOW);
        let left: Vec<_> = backups.iter().filter(|b| !is_gone(&gone, b)).cloned().collect();
        prop_assert_eq!(expired(&policy, &left, NOW), []);
    }
}

fn set(cluster: &mut Cluster, scope: Scope, policy: Option<Policy>) {
    let set = Command::Set { scope, policy };
    cluster.apply(Any::Retention(set)).unwrap();
}

fn by_retention(backup: &BackupName) -> Spec {
    Spec::RemoveBackup {
        shard: shard(),
        backup: backup.clone(),
        force: false,
        reason: "a rule".into(),
        by_retention: true,
    }
}

#[test]
fn a_shards_own_policy_beats_that_of_its_keyspace() {
    let mut cluster = Cluster::with_primary();
    let of_shard = Scope::Shard(shard());
    let of_keyspace = Scope::Keyspace("commerce".into());
    let count = |cluster: &Cluster| {
        let in_force = cluster.state.retention.in_force(&shard());
        in_force.map(|(scope, policy)| (scope, policy.keep_count))
    };
    assert_eq!(count(&cluster), None);
    set(&mut cluster, of_keyspace.clone(), Some(keep_count(5)));
    assert_eq!(count(&cluster), Some((of_keyspace.clone(), Some(5))));
    set(&mut cluster, of_shard.clone(), Some(Policy::default()));
    assert_eq!(count(&cluster), Some((of_shard.clone(), None)));
    set(&mut cluster, of_shard, None);
    assert_eq!(count(&cluster), Some((of_keyspace, Some(5))));
}

#[test]
fn i5_a_removal_by_retention_is_admitted_only_while_the_rules_want_it() {
    let mut cluster = Cluster::with_primary();
    let first = cluster.backed_up("zone1-101", "0-100-1");
    let second = cluster.backed_up("zone1-101", "0-100-2");
    let third = cluster.backed_up("zone1-101", "0-100-3");
    let refused = cluster.start(by_retention(&first)).unwrap_err();
    assert!(refused.message.contains("does not want"), "{refused:?}");

    set(&mut cluster, Scope::Shard(shard()), Some(keep_count(1)));
    pin(&mut cluster, &second, Some(None)).unwrap();
    let refused = cluster.start(by_retention(&second)).unwrap_err();
    assert!(refused.message.contains("does not want"), "{refused:?}");
    let removal = cluster.start(by_retention(&first)).unwrap();
    assert_eq!(removal.state, OperationState::Running);
    assert!(cluster.start(by_retention(&third)).is_err(), "the newest");

    pin(&mut cluster, &second, None).unwrap();
    let stop = Command::Stop {
        why: "the clock".into(),
    };
    cluster.apply(Any::Retention(stop)).unwrap();
    assert!(cluster.start(by_retention(&second)).is_err(), "stopped");
    let now_unix_ms = cluster.now_unix_ms;
    cluster
        .apply(Any::Retention(Command::Resume { now_unix_ms }))
        .unwrap();
    cluster.start(by_retention(&second)).unwrap();
}

#[test]
fn i5_what_is_being_removed_by_hand_does_not_count_towards_the_minimum() {
    let mut cluster = Cluster::with_primary();
    let first = cluster.backed_up("zone1-101", "0-100-1");
    let second = cluster.backed_up("zone1-101", "0-100-2");
    set(&mut cluster, Scope::Shard(shard()), Some(keep_count(1)));
    cluster.start(removal_of(&second, false)).unwrap();
    assert!(cluster.start(by_retention(&first)).is_err());
}

fn pin(
    cluster: &mut Cluster,
    backup: &BackupName,
    until: Option<Option<u64>>,
) -> Result<Response, crate::state::Refusal> {
    let pin = until.map(|until_unix_ms| catalogue::Pin { until_unix_ms });
    cluster.apply(Any::Catalogue(catalogue::Command::Pin {
        shard: shard(),
        name: backup.clone(),
        pin,
        now_unix_ms: cluster.now_unix_ms,
    }))
}

#[test]
fn a_pinned_backup_is_removed_by_hand_only_by_force_and_not_when_its_pin_has_ended() {
    let mut cluster = Cluster::with_primary();
    let first = cluster.backed_up("zone1-101", "0-100-1");
    cluster.backed_up("zone1-101", "0-100-2");
    pin(&mut cluster, &first, Some(None)).unwrap();
    let refused = cluster.start(removal_of(&first, false)).unwrap_err();
    assert!(refused.message.ends_with("is pinned"), "{refused:?}");
    assert!(refused.hint.unwrap().contains("--force"));
    let passed = pin(&mut cluster, &first, Some(Some(1000))).unwrap_err();
    let says = "the end of the pin, 1970-01-01T00:00:01Z, has passed already";
    assert_eq!(passed.message, says);
    assert!(passed.hint.unwrap().contains("--until"));
    let soon = cluster.now_unix_ms + 1;
    pin(&mut cluster, &first, Some(Some(soon))).unwrap();
    // The clock of the cluster goes on with each start.
    let removal = cluster.start(removal_of(&first, false)).unwrap();
    let refused = pin(&mut cluster, &first, Some(None)).unwrap_err();
    assert!(refused.message.contains("being removed"), "{refused:?}");
    drop(removal);

    let mut cluster = Cluster::with_primary();
    let only = cluster.backed_up("zone1-101", "0-100-1");
    pin(&mut cluster, &only, Some(None)).unwrap();
    cluster.start(removal_of(&only, true)).unwrap();
}

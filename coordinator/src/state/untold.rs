//! Damage of which the group does not know where it lies: more packs of a shard were found damaged
//! than can be told, or remembered, one by one.
//!
//! Then no backup that had its name by that time is referred to any more: the next one sends
//! everything, and those after it refer to that. Names are given in the order of time, whatever the
//! clocks of the tablets say.

use std::collections::BTreeMap;

use seawall_common::ids::{BackupName, ShardId};
use serde::{Deserialize, Serialize};

use super::catalogue::Catalogue;

/// The time of the newest name that such damage may concern.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UntoldDamage(BTreeMap<ShardId, u64>);

impl UntoldDamage {
    /// Whether packs that a backup reaches may be damaged without being known.
    pub fn may_concern(&self, shard: &ShardId, name: &BackupName) -> bool {
        let Some(newest) = self.0.get(shard) else {
            return false;
        };
        // Names count in seconds.
        let given = name.given_unix_ms().map(|given| given / 1000);
        given.is_none_or(|given| given <= newest / 1000)
    }
}

impl Catalogue {
    /// `is_more`: others are damaged as well.
    pub(super) fn note_damage(
        &mut self,
        shard: &ShardId,
        packs: &[String],
        is_more: bool,
        at_unix_ms: u64,
    ) {
        let forgotten = self.damaged.add(shard, packs, at_unix_ms);
        if !is_more && !forgotten {
            return;
        }
        let names = self.entries(shard).map(|entry| &entry.name);
        let given = names.filter_map(BackupName::given_unix_ms).max();
        let newest = given.max(self.newest_name_unix_ms(shard)).unwrap_or(0);
        let untold = self.untold_damage.0.entry(shard.clone()).or_default();
        *untold = newest.max(*untold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{
        Command as Any,
        operations::{self, Effect, Outcome},
        references::referable,
        testing::{Cluster, alias, backup_of, shard, verify_of},
        verification::{self, DAMAGED_MAX},
    };

    fn named(cluster: &Cluster) -> Vec<BackupName> {
        let references = referable(&cluster.state, &shard(), &alias("zone1-101"));
        references.into_iter().map(|r| r.backup).collect()
    }

    fn packs(from: usize, count: usize) -> Vec<String> {
        (from..from + count).map(|n| format!("{n:032x}")).collect()
    }

    fn damage(cluster: &mut Cluster, packs: Vec<String>) {
        let damage = verification::Command::Damage {
            shard: shard(),
            packs,
            broken: Vec::new(),
            now_unix_ms: cluster.now_unix_ms,
        };
        cluster.apply(Any::Verification(damage)).unwrap();
    }

    /// What a verification of `name` found, as its step ends.
    fn verified(cluster: &mut Cluster, name: &BackupName, more_damaged: bool) {
        let operation = cluster.start(verify_of(name, 100)).unwrap();
        let ended = operations::Command::StepEnded {
            id: operation.id,
            step: "verify".into(),
            now_unix_ms: cluster.now_unix_ms,
            error: None,
            outcome: Outcome {
                verification: Some(verification::Verification {
                    at_unix_ms: cluster.now_unix_ms,
                    passed: false,
                    percent: 100,
                    seed: 0,
                    message: "many packs are missing".into(),
                    alias: "zone1-101".into(),
                    bytes: 1,
                }),
                damaged_packs: packs(0, 1),
                more_damaged,
                ..Outcome::default()
            },
            effect: Effect::Verified,
        };
        cluster.apply(Any::Operations(ended)).unwrap();
        cluster.finish(operation.id).unwrap();
    }

    #[test]
    fn i5_with_damage_that_is_not_told_no_backup_until_then_is_referred_to() {
        let mut cluster = Cluster::with_primary();
        let first = cluster.backed_up("zone1-101", "0-100-1");
        let second = cluster.backed_up("zone1-102", "0-100-2");
        let attempt = cluster.start(backup_of("zone1-101")).unwrap();
        cluster.cancel(attempt.id).unwrap();
        cluster.abandon(attempt.id).unwrap();
        cluster.finish(attempt.id).unwrap();
        let running = cluster.start(backup_of("zone1-102")).unwrap();
        assert_eq!(running.references.len(), 3);
        let all = [attempt.backup.unwrap(), first.clone(), second];

        cluster.now_unix_ms += 5_000;
        verified(&mut cluster, &first, false);
        assert_eq!(named(&cluster), [all[0].clone(), all[2].clone()]);
        verified(&mut cluster, &first, true);
        assert_eq!(named(&cluster), []);
        // Not the one under way either: it refers to what may be damaged.
        cluster.complete_copy(running.id, "0-100-3").unwrap();
        cluster.finish(running.id).unwrap();
        assert_eq!(named(&cluster), []);
        for reference in &running.references {
            let untold = &cluster.state.catalogue.untold_damage;
            assert!(untold.may_concern(&shard(), &reference.backup));
        }

        // The next one sends everything, and those after it refer to that.
        let next = cluster.backed_up("zone1-101", "0-100-4");
        assert_eq!(named(&cluster), [next]);
    }

    #[test]
    fn i5_what_is_forgotten_for_its_number_counts_as_not_told() {
        let mut cluster = Cluster::with_primary();
        let name = cluster.backed_up("zone1-101", "0-100-1");
        damage(&mut cluster, packs(0, DAMAGED_MAX));
        assert_eq!(named(&cluster), [name]);
        cluster.now_unix_ms += 1;
        damage(&mut cluster, packs(DAMAGED_MAX, 1));
        let known: Vec<_> = cluster.state.catalogue.damaged.of(&shard()).collect();
        assert_eq!(known.len(), DAMAGED_MAX);
        assert_eq!(named(&cluster), []);
    }
}

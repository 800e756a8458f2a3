//! What the catalogue says of each shard's backups, as numbers.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use seawall_common::ids::ShardId;

use crate::state::{
    State,
    catalogue::{Entry, Known},
    verification::Verification,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Shard {
    keyspace: String,
    shard: String,
}

impl From<&ShardId> for Shard {
    fn from(id: &ShardId) -> Self {
        Self {
            keyspace: id.keyspace().to_owned(),
            shard: id.shard().to_owned(),
        }
    }
}

type Numbers = Family<Shard, Gauge<u64, AtomicU64>>;

/// One number a shard.
pub struct BackupNumbers {
    complete: Numbers,
    broken: Numbers,
    damaged_packs: Numbers,
    verified: Numbers,
    tested: Numbers,
}

impl BackupNumbers {
    pub fn new(registry: &mut Registry) -> Self {
        let mut numbers = |name: &str, help: &str| {
            let numbers = Numbers::default();
            registry.register(name, help, numbers.clone());
            numbers
        };
        Self {
            complete: numbers("backups_complete", "Complete backups of a shard"),
            broken: numbers(
                "backups_broken",
                "Backups of a shard that are broken, and not restored by themselves",
            ),
            damaged_packs: numbers(
                "packs_damaged",
                "Packs of a shard that were found damaged and not found whole since",
            ),
            verified: numbers(
                "backup_verified_timestamp_seconds",
                "When a backup of a shard last passed being read back; 0: never",
            ),
            tested: numbers(
                "backup_tested_timestamp_seconds",
                "When a backup of a shard last passed a restore test; 0: never",
            ),
        }
    }

    pub fn set(&self, state: &State) {
        for id in state.topology.shards() {
            let labels = Shard::from(&id);
            let count = |known: Known| {
                let entries = state.catalogue.entries(&id);
                entries.filter(|entry| entry.known == known).count() as u64
            };
            let latest = |of: fn(&Entry) -> Option<&Verification>| {
                let passed = state.catalogue.entries(&id).filter_map(of);
                let passed = passed.filter(|result| result.passed);
                passed.map(|result| result.at_unix_ms / 1000).max()
            };
            let set = |numbers: &Numbers, value: u64| {
                numbers.get_or_create(&labels).set(value);
            };
            set(&self.complete, count(Known::Complete));
            set(&self.broken, count(Known::Broken));
            let damaged = state.catalogue.damaged.of(&id).count();
            set(&self.damaged_packs, damaged as u64);
            let verified = latest(|entry| entry.verified.as_ref());
            set(&self.verified, verified.unwrap_or(0));
            set(
                &self.tested,
                latest(|entry| entry.tested.as_ref()).unwrap_or(0),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::state::testing::{Cluster, shard};

    #[test]
    fn a_broken_backup_raises_its_shards_alarm() {
        let mut cluster = Cluster::with_primary();
        let name = cluster.backed_up("zone1-101", "0-100-7");
        let mut registry = Registry::with_prefix("seawall_coordinator");
        let numbers = BackupNumbers::new(&mut registry);
        let text = |cluster: &Cluster| {
            numbers.set(&cluster.state);
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        let alarm = |count| {
            format!(
                "seawall_coordinator_backups_broken{{keyspace=\"commerce\",shard=\"0\"}} {count}\n"
            )
        };
        let before = text(&cluster);
        assert!(before.contains(&alarm(0)), "{before}");
        let damage = crate::state::verification::Command::Damage {
            shard: shard(),
            packs: vec!["ab".repeat(16)],
            broken: vec![(name, "its pack is missing".into())],
            now_unix_ms: 1,
        };
        cluster
            .apply(crate::state::Command::Verification(damage))
            .unwrap();
        let after = text(&cluster);
        assert!(after.contains(&alarm(1)), "{after}");
        assert!(
            after.contains("packs_damaged{keyspace=\"commerce\",shard=\"0\"} 1"),
            "{after}"
        );
    }
}

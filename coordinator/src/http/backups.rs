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
    completed: Numbers,
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
            completed: numbers(
                "backup_completed_timestamp_seconds",
                "When the copy of the newest complete backup of a shard ended; 0: there is none",
            ),
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
                "When one of the complete backups of a shard last passed being read back as a whole; 0: none has",
            ),
            tested: numbers(
                "backup_tested_timestamp_seconds",
                "When one of the complete backups of a shard last passed a restore test; 0: none has",
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
            // Of a part that was read, of what is broken or gone, nothing follows.
            let latest = |of: fn(&Entry) -> Option<&Verification>| {
                let results = state.catalogue.complete_ones(&id).filter_map(of);
                let passed = results.filter(|result| result.passed && result.percent >= 100);
                passed.map(|result| result.at_unix_ms / 1000).max()
            };
            let set = |numbers: &Numbers, value: u64| {
                numbers.get_or_create(&labels).set(value);
            };
            set(&self.complete, count(Known::Complete));
            let ended = |entry: &Entry| entry.facts.ended_unix_ms / 1000;
            let completed = state.catalogue.complete_ones(&id).map(ended).max();
            set(&self.completed, completed.unwrap_or(0));
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
    use seawall_common::ids::BackupName;

    use super::*;
    use crate::state::testing::{Cluster, shard};

    /// The numbers as a scraper reads them.
    fn scraped(cluster: &Cluster) -> String {
        let mut registry = Registry::with_prefix("seawall_coordinator");
        BackupNumbers::new(&mut registry).set(&cluster.state);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    fn passed(at_unix_ms: u64, percent: u32) -> Verification {
        Verification {
            at_unix_ms,
            passed: true,
            percent,
            seed: 0,
            message: String::new(),
            alias: "zone1-101".into(),
            bytes: 1,
        }
    }

    #[test]
    fn only_what_was_read_as_a_whole_and_still_exists_counts_as_verified() {
        let mut cluster = Cluster::with_primary();
        let names = [1, 2, 3, 4].map(|n| cluster.backed_up("zone1-101", &format!("0-100-{n}")));
        let [whole, in_part, removed, broken] = &names;
        let record = |cluster: &mut Cluster, name: &BackupName, result: &Verification| {
            cluster.verified(name, false, result);
            cluster.verified(name, true, result);
        };
        record(&mut cluster, whole, &passed(10_000, 100));
        record(&mut cluster, in_part, &passed(20_000, 99));
        record(&mut cluster, removed, &passed(30_000, 100));
        record(&mut cluster, broken, &passed(40_000, 100));
        cluster.removed(removed);
        let failed = Verification {
            passed: false,
            ..passed(50_000, 100)
        };
        cluster.verified(broken, false, &failed);
        let said = |cluster: &Cluster, what: &str, seconds: u64| {
            let line = format!(
                "backup_{what}_timestamp_seconds{{keyspace=\"commerce\",shard=\"0\"}} {seconds}\n"
            );
            let text = scraped(cluster);
            assert!(text.contains(&line), "no {line} in {text}");
        };
        for what in ["verified", "tested"] {
            said(&cluster, what, 10);
        }
        cluster.verified(whole, false, &failed);
        said(&cluster, "verified", 0);
        said(&cluster, "tested", 0);
    }

    #[test]
    fn a_broken_backup_raises_its_shards_alarm() {
        let mut cluster = Cluster::with_primary();
        let name = cluster.backed_up("zone1-101", "0-100-7");
        let alarm = |count| {
            format!(
                "seawall_coordinator_backups_broken{{keyspace=\"commerce\",shard=\"0\"}} {count}\n"
            )
        };
        let newest = |seconds| {
            format!(
                "backup_completed_timestamp_seconds{{keyspace=\"commerce\",shard=\"0\"}} {seconds}\n"
            )
        };
        let before = scraped(&cluster);
        assert!(before.contains(&alarm(0)), "{before}");
        let ended = newest(cluster.now_unix_ms / 1000);
        assert!(before.contains(&ended), "no {ended} in {before}");
        let damage = crate::state::verification::Command::Damage {
            shard: shard(),
            packs: vec!["ab".repeat(16)],
            broken: vec![(name, "its pack is missing".into())],
            now_unix_ms: 1,
        };
        cluster
            .apply(crate::state::Command::Verification(damage))
            .unwrap();
        let after = scraped(&cluster);
        assert!(after.contains(&alarm(1)), "{after}");
        assert!(after.contains(&newest(0)), "{after}");
        assert!(
            after.contains("packs_damaged{keyspace=\"commerce\",shard=\"0\"} 1"),
            "{after}"
        );
    }
}

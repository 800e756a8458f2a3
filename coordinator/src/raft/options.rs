//! How a member takes part: what its owner sets, and what is fixed.

use std::{path::PathBuf, time::Duration};

use openraft::{Config, SnapshotPolicy};
use seawall_common::{Error, Result, tls::Dialer};

const PURGE_BATCH_ENTRIES: u64 = 256;
const MESSAGE_ENTRIES_MAX: u64 = 256;
const SNAPSHOT_CHUNK_BYTES: u64 = 512 * 1024;
const SNAPSHOT_TIMEOUT_MS: u64 = 10_000;

pub struct NodeOptions {
    pub data_dir: PathBuf,
    pub heartbeat_interval: Duration,
    /// Elections begin after this, and up to three tenths more, without a leader.
    pub election_timeout: Duration,
    /// Reaches the other members.
    pub dialer: Dialer,
    pub compaction: Compaction,
}

/// How long the log grows.
#[derive(Clone, Copy, Debug)]
pub struct Compaction {
    pub snapshot_after_entries: u64,
    /// Before a snapshot, for followers that are a little behind.
    pub entries_kept: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            snapshot_after_entries: 5000,
            entries_kept: 1000,
        }
    }
}

/// The Raft library lets a follower stand for election when the lease of a leader that is silent is
/// over, which is the longest of its own election timeouts, and then a time between the shortest
/// and the longest of them. Of our timeout these are so many hundredths, so that it is one to the
/// other from its whole to three tenths more.
const SHORTEST_HUNDREDTHS: u64 = 35;
const LONGEST_HUNDREDTHS: u64 = 65;

impl NodeOptions {
    pub(super) fn raft_config(&self) -> Result<Config> {
        let millis =
            |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4);
        let election_ms = millis(self.election_timeout);
        let Compaction {
            snapshot_after_entries,
            entries_kept,
        } = self.compaction;
        Config {
            cluster_name: "seawall".to_owned(),
            heartbeat_interval: millis(self.heartbeat_interval),
            election_timeout_min: hundredths(election_ms, SHORTEST_HUNDREDTHS),
            election_timeout_max: hundredths(election_ms, LONGEST_HUNDREDTHS),
            install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
            max_payload_entries: MESSAGE_ENTRIES_MAX,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_after_entries),
            snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
            max_in_snapshot_log_to_keep: entries_kept,
            purge_batch_size: PURGE_BATCH_ENTRIES,
            replication_lag_threshold: snapshot_after_entries + entries_kept,
            ..Config::default()
        }
        .validate()
        .map_err(|e| {
            Error::invalid(format!(
                "heartbeat_interval and election_timeout do not fit: {e}"
            ))
            .hint("Make election_timeout at least three times as long as heartbeat_interval.")
        })
    }
}

fn hundredths(of: u64, count: u64) -> u64 {
    of.saturating_mul(count) / 100
}

#[cfg(test)]
mod tests {
    use seawall_common::tls::Tls;

    use super::*;

    fn config(heartbeat_ms: u64, election_ms: u64) -> Result<Config> {
        let options = NodeOptions {
            data_dir: PathBuf::new(),
            heartbeat_interval: Duration::from_millis(heartbeat_ms),
            election_timeout: Duration::from_millis(election_ms),
            dialer: Dialer::new(Tls::off()?),
            compaction: Compaction::default(),
        };
        options.raft_config()
    }

    #[test]
    fn an_election_begins_after_the_timeout_and_not_much_later() {
        let config = config(250, 1000).unwrap();
        let lease = config.election_timeout_max;
        assert_eq!(lease + config.election_timeout_min, 1000);
        assert_eq!(lease + config.election_timeout_max, 1300);
    }

    #[test]
    fn a_timeout_in_which_few_heartbeats_fit_is_refused_with_a_way_out() {
        let refused = config(500, 1000).unwrap_err();
        assert!(refused.to_string().contains("three times"), "{refused}");
    }
}

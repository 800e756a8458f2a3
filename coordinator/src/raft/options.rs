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
    /// Elections begin after this to twice this time without a leader.
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
            election_timeout_min: election_ms,
            election_timeout_max: election_ms.saturating_mul(2),
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
        })
    }
}

//! The agent's settings: what a file, the environment and flags may say, and what they mean.
//!
//! [`SETTINGS`] is the one description from which flags, help, environment variables and the check
//! for unknown keys come; [`Settings`] is what the rest of the agent sees, already checked.

mod addresses;
mod durations;
mod rates;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use seawall_common::{
    Error, Result,
    config::{Kind, Setting},
    ids::{Alias, ShardId},
    repository::{REPOSITORY_SETTINGS, RepositoryConfig, WAYS_TO_AN_IDENTITY},
    tls::{ServerUrl, TLS_SETTINGS, TlsConfig},
};
use serde::Deserialize;

use crate::engine::{ENGINE_SETTINGS, EngineSettings};

const OWN: &[Setting] = &[
    Setting::new("alias", Kind::Text, "Name of this tablet: cell-uid"),
    Setting::new("keyspace", Kind::Text, "Keyspace of this tablet"),
    Setting::new("shard", Kind::Text, "Shard of this tablet"),
    Setting::new(
        "coordinators",
        Kind::List,
        "Addresses of the coordinators, https://host:port or http://host:port",
    ),
    Setting::new("listen", Kind::Text, "Address of the gRPC listener").default("127.0.0.1:7611"),
    Setting::new("http_listen", Kind::Text, "Address of the HTTP listener")
        .default("127.0.0.1:7612"),
    Setting::new(
        "advertise_address",
        Kind::Text,
        "Where coordinators reach the gRPC listener, https://host:port or http://host:port; by default where it listens",
    )
    .default(""),
    Setting::new(
        "state_dir",
        Kind::Text,
        "Directory of the agent's journal; one for each agent",
    ),
    Setting::new(
        "restore_from_backup",
        Kind::Bool,
        "At a start without user data: restore the newest complete backup of the shard",
    )
    .default("false"),
    Setting::new(
        "restore_concurrency",
        Kind::Integer,
        "Packs fetched in parallel by a restore (1 to 64)",
    )
    .default("4"),
    Setting::new(
        "restore_alone_after",
        Kind::Text,
        "At a start without user data: how long to look for a coordinator before restoring from the repository alone",
    )
    .default("60s"),
    Setting::new(
        "partial_restore_kept",
        Kind::Text,
        "How long the beginning of a restore that was cut off is kept, for the next try to go on with",
    )
    .default("24h"),
    Setting::new(
        "transfer_limit",
        Kind::Text,
        "Bytes per second to and from the repository (50MB), until BackupThrottle sets another limit; 0: paused",
    )
    .default("unlimited"),
    Setting::new(
        "initialize",
        Kind::Bool,
        "Make a new database where there is none and nothing to restore",
    )
    .default("false"),
    Setting::new(
        "drain_time",
        Kind::Text,
        "How long to wait between leaving the serving set and the first touch of the database",
    )
    .default("2s"),
    Setting::new(
        "operation_silence",
        Kind::Text,
        "With no word from a coordinator for this long in the middle of an operation, everything is put back",
    )
    .default("120s"),
    Setting::new(
        "lag_limit",
        Kind::Text,
        "A replica that is further behind its primary does not serve; 0s: no limit",
    )
    .default("0s"),
    Setting::new(
        "scratch_dir",
        Kind::Text,
        "Directory below which backups are restored aside to test them, where that leaves as much \
         free as it takes (at most 16 GiB); none: this agent does not",
    ),
    Setting::new(
        "replace",
        Kind::Bool,
        "Take the alias over from an instance that is no longer seen",
    )
    .default("false"),
    Setting::new("log_format", Kind::Text, "text or json").default("text"),
    Setting::new(
        "insecure",
        Kind::Bool,
        "Listen without TLS on addresses that are not loopback",
    )
    .default("false"),
];

const RESTORE_CONCURRENCY_MAX: usize = 64;

/// Every setting of the agent: its own, the repository's and the engine's.
pub fn settings() -> Vec<Setting> {
    [OWN, TLS_SETTINGS, REPOSITORY_SETTINGS, ENGINE_SETTINGS].concat()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub alias: Alias,
    keyspace: String,
    shard: String,
    pub coordinators: Vec<String>,
    #[serde(deserialize_with = "addresses::read")]
    pub listen: SocketAddr,
    #[serde(deserialize_with = "addresses::read")]
    pub http_listen: SocketAddr,
    advertise_address: String,
    pub state_dir: PathBuf,
    pub restore_from_backup: bool,
    pub restore_concurrency: usize,
    #[serde(deserialize_with = "durations::read")]
    pub restore_alone_after: Duration,
    #[serde(deserialize_with = "durations::read")]
    pub partial_restore_kept: Duration,
    /// `None`: no limit; `Some(0)`: paused.
    #[serde(deserialize_with = "rates::read")]
    pub transfer_limit: Option<u64>,
    pub initialize: bool,
    #[serde(deserialize_with = "durations::read")]
    pub drain_time: Duration,
    #[serde(deserialize_with = "durations::read")]
    pub operation_silence: Duration,
    #[serde(deserialize_with = "durations::read")]
    pub lag_limit: Duration,
    pub scratch_dir: Option<PathBuf>,
    pub replace: bool,
    pub log_format: String,
    pub insecure: bool,
    #[serde(default)]
    pub tls: TlsConfig,
    pub repository: RepositoryConfig,
    pub engine: EngineSettings,
}

impl Settings {
    /// What no single value shows: names that must fit together, and what may not be combined.
    pub fn check(&self) -> Result<()> {
        self.shard()?;
        if self.coordinators.is_empty() {
            return Err(Error::invalid("coordinators names no coordinator")
                .hint("Give at least one: coordinators = [\"http://127.0.0.1:7601\"]."));
        }
        for address in &self.coordinators {
            check_address("coordinators", address)?;
        }
        if !self.advertise_address.is_empty() {
            check_address("advertise_address", &self.advertise_address)?;
        }
        if !(1..=RESTORE_CONCURRENCY_MAX).contains(&self.restore_concurrency) {
            return Err(Error::invalid(format!(
                "restore_concurrency is {}, not between 1 and {RESTORE_CONCURRENCY_MAX}",
                self.restore_concurrency
            )));
        }
        self.tls.check()?;
        for (key, listen) in [("listen", self.listen), ("http_listen", self.http_listen)] {
            self.tls.check_listener(key, listen, self.insecure)?;
        }
        if self.restore_from_backup
            && !self.repository.recipients.is_empty()
            && !self.repository.has_identity()
        {
            return Err(Error::invalid(
                "restore_from_backup is set and the repository is encrypted, but there is no identity to open it with",
            )
            .hint(format!(
                "Set {WAYS_TO_AN_IDENTITY}. Or set restore_from_backup = false."
            )));
        }
        Ok(())
    }

    pub fn shard(&self) -> Result<ShardId> {
        ShardId::new(&self.keyspace, &self.shard)
    }

    /// Where coordinators reach this agent.
    pub fn agent_address(&self) -> String {
        if self.advertise_address.is_empty() {
            format!("{}://{}", self.tls.scheme(), self.listen)
        } else {
            self.advertise_address.clone()
        }
    }
}

fn check_address(key: &str, address: &str) -> Result<()> {
    let url: Result<ServerUrl> = address.parse();
    // As it is written, with its scheme.
    if url.is_ok_and(|url| url.to_string() == address.trim_end_matches('/')) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{key}: {address:?} is not an address of the form https://host:port or http://host:port"
    )))
}

#[cfg(test)]
mod tests;

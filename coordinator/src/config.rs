//! The coordinator's settings, and what its command line asks for.

mod limits;
mod line;
mod peers;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use limits::LIMIT_SETTINGS;
pub use limits::Limits;
pub use line::{command, understand};
pub use peers::is_address;
use peers::members;
use seawall_common::{
    Error, Result,
    config::{Kind, Setting},
    repository::{REPOSITORY_SETTINGS, RepositoryConfig},
    tls::{TLS_SETTINGS, TlsConfig},
};
use serde::Deserialize;

use crate::{raft::Members, restoring};

const SETTINGS: &[Setting] = &[
    Setting::new("data_dir", Kind::Text, "Directory of this member's state"),
    Setting::new("listen", Kind::Text, "Address of the gRPC listener").default("127.0.0.1:7601"),
    Setting::new("http_listen", Kind::Text, "Address of the HTTP listener")
        .default("127.0.0.1:7602"),
    Setting::new(
        "peers",
        Kind::List,
        "Members of the group, as given to init (1=host:port,...); with it, an empty data directory is refused",
    )
    .default(""),
    Setting::new(
        "insecure",
        Kind::Bool,
        "Listen without TLS on addresses that are not loopback",
    )
    .default("false"),
    Setting::new(
        "removal_grace",
        Kind::Text,
        "How long the objects of a removed backup are kept",
    )
    .default("24h"),
    Setting::new(
        "retention_interval",
        Kind::Text,
        "How often retention is applied, besides after each backup",
    )
    .default("1h"),
    Setting::new(
        "agent_lease",
        Kind::Text,
        "How long an agent may be silent in a backup or restore before its work is given up",
    )
    .default("60s"),
    Setting::new(
        "take_over_repository",
        Kind::Bool,
        "Take the repository over from the group that owns it",
    )
    .default("false"),
    Setting::new(
        "heartbeat_interval",
        Kind::Text,
        "How often the leading coordinator is heard by the others",
    )
    .default("250ms"),
    Setting::new(
        "election_timeout",
        Kind::Text,
        "How long the others wait for it, at least, before they elect another",
    )
    .default("1s"),
    Setting::new("log_format", Kind::Text, "Format of the log: text or json").default("text"),
];

/// The settings as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    data_dir: PathBuf,
    listen: String,
    http_listen: String,
    peers: Vec<String>,
    insecure: bool,
    removal_grace: String,
    retention_interval: String,
    agent_lease: String,
    take_over_repository: bool,
    heartbeat_interval: String,
    election_timeout: String,
    log_format: String,
    limits: Limits,
    #[serde(default)]
    tls: TlsConfig,
    #[serde(default)]
    repository: RepositoryConfig,
}

/// The settings as understood.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub http_listen: SocketAddr,
    /// Empty: not said.
    pub peers: Members,
    pub removal_grace: Duration,
    pub retention_interval: Duration,
    pub agent_lease: Duration,
    pub take_over_repository: bool,
    pub heartbeat_interval: Duration,
    pub election_timeout: Duration,
    pub log_format: String,
    pub limits: Limits,
    pub tls: TlsConfig,
    pub repository: RepositoryConfig,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    Run(Box<Settings>),
    /// `--print-config`, with what to print.
    Print(String),
    Init {
        data_dir: PathBuf,
        id: u64,
        members: Members,
    },
    Join {
        data_dir: PathBuf,
        id: u64,
        addresses: Vec<String>,
    },
    Restore(Box<restoring::Request>),
}

fn all_settings() -> Vec<Setting> {
    [SETTINGS, LIMIT_SETTINGS, TLS_SETTINGS, REPOSITORY_SETTINGS].concat()
}

fn resolve(written: Written) -> Result<Settings> {
    written.tls.check()?;
    written.limits.check()?;
    Ok(Settings {
        listen: listener("listen", &written.listen, &written)?,
        http_listen: listener("http_listen", &written.http_listen, &written)?,
        peers: members(written.peers.iter().map(String::as_str))?,
        removal_grace: duration("removal_grace", &written.removal_grace)?,
        retention_interval: duration("retention_interval", &written.retention_interval)?,
        agent_lease: agent_lease(&written.agent_lease)?,
        take_over_repository: written.take_over_repository,
        heartbeat_interval: duration("heartbeat_interval", &written.heartbeat_interval)?,
        election_timeout: duration("election_timeout", &written.election_timeout)?,
        log_format: written.log_format,
        data_dir: written.data_dir,
        limits: written.limits,
        tls: written.tls,
        repository: written.repository,
    })
}

fn duration(key: &str, text: &str) -> Result<Duration> {
    humantime::parse_duration(text).map_err(|e| {
        Error::invalid(format!("{key} is not a duration: {text:?} ({e})"))
            .hint("Write it with its unit: 250ms, 10s, 24h.")
    })
}

/// Agents send a heartbeat each second: a shorter lease would end in a moment's delay.
const AGENT_LEASE_MIN: Duration = Duration::from_secs(3);

fn agent_lease(text: &str) -> Result<Duration> {
    let lease = duration("agent_lease", text)?;
    if lease >= AGENT_LEASE_MIN {
        return Ok(lease);
    }
    Err(Error::invalid(format!(
        "agent_lease is {text}, less than {} s",
        AGENT_LEASE_MIN.as_secs()
    ))
    .hint("Agents are heard once a second; 60s is the default."))
}

fn listener(key: &str, text: &str, written: &Written) -> Result<SocketAddr> {
    use std::net::ToSocketAddrs as _;
    let address = text
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| {
            Error::invalid(format!(
                "{key} is not an address that can be found: {text:?}"
            ))
            .hint("Write it host:port, such as 127.0.0.1:7601.")
        })?;
    written.tls.check_listener(key, address, written.insecure)?;
    Ok(address)
}

#[cfg(test)]
mod tests;

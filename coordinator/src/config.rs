//! The coordinator's settings and command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Arg, ArgMatches, Command};
use seawall_common::{
    Error, Result,
    access::CallLimits,
    config::{Kind, Loaded, Setting, load, with_settings},
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

/// Each is a bound of one member; whoever comes beyond it is refused, and told so.
const LIMIT_SETTINGS: &[Setting] = &[
    Setting::new(
        "limits.connections",
        Kind::Integer,
        "Connections to each listener; each agent keeps one",
    )
    .default("16384"),
    Setting::new(
        "limits.requests",
        Kind::Integer,
        "Calls under way, watches and sessions of agents not counted",
    )
    .default("16384"),
    Setting::new(
        "limits.requests_per_connection",
        Kind::Integer,
        "Calls under way on one connection; another coordinator's is not counted",
    )
    .default("4096"),
    Setting::new("limits.watchers", Kind::Integer, "Watches under way").default("16384"),
    Setting::new(
        "limits.agents",
        Kind::Integer,
        "Sessions of agents under way",
    )
    .default("16384"),
];

/// Longest name of a host, as DNS has it.
const HOST_BYTES_MAX: usize = 253;

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

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub connections: usize,
    requests: usize,
    requests_per_connection: usize,
    watchers: usize,
    agents: usize,
}

/// More than any machine has files and memory for.
const LIMIT_MAX: usize = 1_000_000;

impl Limits {
    pub fn calls(&self) -> CallLimits {
        CallLimits {
            requests: self.requests,
            requests_per_connection: self.requests_per_connection,
            watchers: self.watchers,
            agents: self.agents,
        }
    }

    fn check(&self) -> Result<()> {
        for (key, value) in [
            ("connections", self.connections),
            ("requests", self.requests),
            ("requests_per_connection", self.requests_per_connection),
            ("watchers", self.watchers),
            ("agents", self.agents),
        ] {
            if !(1..=LIMIT_MAX).contains(&value) {
                return Err(Error::invalid(format!(
                    "limits.{key} is {value}, not between 1 and {LIMIT_MAX}"
                )));
            }
        }
        Ok(())
    }
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

pub fn command() -> Command {
    let init = Command::new("init")
        .about("Makes a data directory that of one member of a new group of several")
        .args(member_args())
        .arg(
            Arg::new("peers")
                .long("peers")
                .value_name("1=HOST:PORT,...")
                .required(true)
                .help("All members of the group, this one too, with their gRPC addresses"),
        );
    let join = Command::new("join")
        .about("Makes an empty data directory that of a new member of a group that is there")
        .after_help(
            "Start the coordinator on the directory then, and run: seawallctl AddMember N HOST:PORT",
        )
        .args(member_args())
        .arg(
            Arg::new("peers")
                .long("peers")
                .value_name("HOST:PORT,...")
                .required(true)
                .help("gRPC addresses of members of the group; one is enough"),
        );
    with_settings(
        Command::new("seawall-coordinator")
            .about("Decides about order: timestamps, locks, primaries, operations")
            .version(env!("CARGO_PKG_VERSION"))
            .subcommand(init)
            .subcommand(join)
            .subcommand(with_settings(restore_command(), &all_settings()))
            .args_conflicts_with_subcommands(true),
        &all_settings(),
    )
}

fn restore_command() -> Command {
    Command::new("restore")
        .about("Makes a new group from a backup of one whose members are lost")
        .after_help(
            "The new group takes the repository over from the old one. See docs/coordinators.md.",
        )
        .args([
            Arg::new("backup")
                .long("backup")
                .value_name("NAME")
                .help("Which coordinator backup; without it, the newest that can be read"),
            Arg::new("above")
                .long("above")
                .value_name("N")
                .value_parser(clap::value_parser!(u64))
                .help(
                    "Give no timestamp at or below N; demanded when the repository has no bounds",
                ),
            Arg::new("id")
                .long("id")
                .value_name("N")
                .value_parser(clap::value_parser!(u64).range(1..))
                .default_value("1")
                .help("Number of the new group's first member"),
            Arg::new("address")
                .long("address")
                .value_name("HOST:PORT")
                .help("Where other members will reach it; without it, the address of listen"),
        ])
}

fn understand_restore(
    args: &ArgMatches,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Request> {
    let loaded: Loaded<Written> = load(&all_settings(), args, environment)?;
    if loaded.print_only {
        return Ok(Request::Print(loaded.printed));
    }
    let settings = resolve(loaded.settings)?;
    let address = args.get_one::<String>("address").cloned();
    let address = address.unwrap_or_else(|| settings.listen.to_string());
    if !is_address(&address) {
        return Err(Error::invalid(format!("malformed address {address:?}"))
            .hint("It is written host:port, as the other members will reach it."));
    }
    Ok(Request::Restore(Box::new(restoring::Request {
        data_dir: settings.data_dir,
        repository: settings.repository,
        backup: args.get_one("backup").cloned(),
        above: args.get_one("above").copied(),
        member: args.get_one("id").copied().unwrap_or(1),
        address,
    })))
}

fn member_args() -> [Arg; 2] {
    [
        Arg::new("data-dir")
            .long("data-dir")
            .env("SEAWALL_DATA_DIR")
            .value_name("DIR")
            .required(true)
            .help("Directory of this member's state"),
        Arg::new("id")
            .long("id")
            .value_name("N")
            .value_parser(clap::value_parser!(u64).range(1..))
            .required(true)
            .help("Number of this member, never used before in its group"),
    ]
}

pub fn understand(
    matches: &ArgMatches,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Request> {
    if let Some(("restore", args)) = matches.subcommand() {
        return understand_restore(args, environment);
    }
    if let Some((name, args)) = matches.subcommand() {
        let text = |name: &str| args.get_one::<String>(name).cloned().unwrap_or_default();
        let peers = text("peers");
        let peers = peers.split(',').map(str::trim);
        let data_dir = text("data-dir").into();
        let id = args.get_one::<u64>("id").copied().unwrap_or_default();
        return Ok(match name {
            "join" => Request::Join {
                data_dir,
                id,
                addresses: peers.map(joined_peer).collect::<Result<_>>()?,
            },
            _ => Request::Init {
                data_dir,
                id,
                members: members(peers)?,
            },
        });
    }
    let loaded: Loaded<Written> = load(&all_settings(), matches, environment)?;
    let settings = resolve(loaded.settings)?;
    Ok(if loaded.print_only {
        Request::Print(loaded.printed)
    } else {
        Request::Run(Box::new(settings))
    })
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

/// Whether `text` is host:port.
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = !host.is_empty() && host.len() <= HOST_BYTES_MAX;
    let is_odd = |c: char| c == '/' || c == '@' || c.is_whitespace() || c.is_control();
    is_host && is_port && !text.contains(is_odd)
}

/// Reads the address of a member of the group that is joined; as given to init it will do, too.
fn joined_peer(peer: &str) -> Result<String> {
    let address = peer.split_once('=').map_or(peer, |(_, address)| address);
    if is_address(address) {
        return Ok(address.to_owned());
    }
    Err(Error::invalid(format!("malformed peer {peer:?}"))
        .hint("Peers are written host:port, separated by commas: a:7601,b:7601."))
}

/// Reads `1=host:port` pairs.
fn members<'a>(pairs: impl Iterator<Item = &'a str>) -> Result<Members> {
    let mut members = Members::new();
    for pair in pairs {
        let malformed = || {
            Error::invalid(format!("malformed peer {pair:?}"))
                .hint("Peers are written number=host:port, separated by commas: 1=a:7601,2=b:7601,3=c:7601.")
        };
        let (id, address) = pair.split_once('=').ok_or_else(malformed)?;
        let id: u64 = id.parse().map_err(|_| malformed())?;
        if id == 0 || !is_address(address) {
            return Err(malformed());
        }
        if members.values().any(|known| known == address) {
            return Err(Error::invalid(format!(
                "two peers have the address {address}"
            )));
        }
        if members.insert(id, address.to_owned()).is_some() {
            return Err(Error::invalid(format!("two peers have the number {id}")));
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understand_args(args: &[&str]) -> Result<Request> {
        let args = std::iter::once("seawall-coordinator").chain(args.iter().copied());
        let matches = command()
            .try_get_matches_from(args)
            .map_err(|e| Error::invalid(e.to_string()))?;
        understand(&matches, |_| None)
    }

    #[test]
    fn the_least_that_can_be_said_is_enough() {
        let args = ["--data-dir", "/d", "--repository", "file:///r"];
        let Request::Run(settings) = understand_args(&args).unwrap() else {
            panic!("not a run");
        };
        assert_eq!(settings.listen.port(), 7601);
        assert_eq!(settings.removal_grace, Duration::from_secs(24 * 3600));
        assert_eq!(settings.repository.url, "file:///r");
        assert!(settings.peers.is_empty());
    }

    #[test]
    fn a_listener_that_others_reach_needs_tls_or_insecure() {
        let args = ["--data-dir", "/d", "--listen", "0.0.0.0:1"];
        let error = understand_args(&args).unwrap_err();
        assert!(error.to_string().contains("--insecure"), "{error}");
        assert!(error.to_string().contains("tls.cert_file"), "{error}");
        understand_args(&[&args[..], &["--insecure"]].concat()).unwrap();
        let certified = ["--tls-cert-file", "/c", "--tls-key-file", "/k"];
        understand_args(&[&args[..], &certified].concat()).unwrap();
        let authority = ["--tls-ca-file", "/ca"];
        understand_args(&[&args[..], &authority].concat()).unwrap_err();
    }

    #[test]
    fn peers_that_make_no_sense_are_named() {
        let init =
            |peers| understand_args(&["init", "--data-dir", "/d", "--id", "1", "--peers", peers]);
        for bad in [
            "",
            "1",
            "1=a",
            "1=a:x",
            "0=a:1",
            "1=a:1,1=b:1",
            "1=a:1,2=a:1",
            "1=http://a:1",
        ] {
            assert!(init(bad).is_err(), "{bad:?} was taken");
        }
        let Request::Init { id, members, .. } = init("1=a:1, 2=[::1]:2").unwrap() else {
            panic!("not init");
        };
        assert_eq!((id, members.len(), members[&2].as_str()), (1, 2, "[::1]:2"));
    }

    #[test]
    fn one_that_joins_names_where_the_group_is() {
        let join =
            |peers| understand_args(&["join", "--data-dir", "/d", "--id", "4", "--peers", peers]);
        for bad in ["", "a", "a:x", "http://a:1", "a:1,", "a@b:1", "a b:1"] {
            assert!(join(bad).is_err(), "{bad:?} was taken");
        }
        let Request::Join { id, addresses, .. } = join("a:1, 2=[::1]:2").unwrap() else {
            panic!("not join");
        };
        assert_eq!((id, addresses), (4, vec!["a:1".into(), "[::1]:2".into()]));
    }

    #[test]
    fn a_lease_that_a_moment_would_end_is_refused() {
        let error = understand_args(&["--data-dir", "/d", "--agent-lease", "1s"]).unwrap_err();
        assert!(error.to_string().contains("agent_lease"), "{error}");
    }

    #[test]
    fn a_limit_of_nothing_or_without_end_is_refused_by_name() {
        for bad in ["0", "2000000"] {
            let args = ["--data-dir", "/d", "--limits-watchers", bad];
            let error = understand_args(&args).unwrap_err();
            assert!(error.to_string().contains("limits.watchers"), "{error}");
        }
    }

    #[test]
    fn a_duration_without_a_unit_is_refused_by_name() {
        let error = understand_args(&["--data-dir", "/d", "--removal-grace", "5"]).unwrap_err();
        assert!(error.to_string().contains("removal_grace"), "{error}");
    }
}

//! The command line: options that every command has, and what is done with mistakes in it.

use std::{collections::BTreeSet, ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use clap::{CommandFactory as _, Parser, error::ErrorKind};
use seawall_common::{
    Error,
    config::mistake,
    tls::{Dialer, ServerUrl, Tls, TlsConfig},
};

use crate::{
    client::Client,
    command::Command,
    exit::{Failure, Outcome},
    output::Output,
};

const COORDINATOR_VARIABLE: &str = "SEAWALL_COORDINATOR";
const COORDINATOR_DEFAULT: &str = "http://127.0.0.1:7601";

const AFTER_HELP: &str = "\
Commands may be written in kebab case too: list-backups. An alias is cell-uid (zone1-101), a shard \
keyspace/shard (commerce/0).

Exit status: 0 done; 1 refused or failed, with one line that says what, why and what to do; 2 wrong \
usage; 3 no coordinator answered in time. Ctrl-C lets go of an operation, which goes on (1).";

/// Backs up and restores clusters of sharded databases.
#[derive(Debug, Parser)]
#[command(
    name = "seawallctl",
    version,
    after_help = AFTER_HELP,
    max_term_width = 110,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Common options")]
pub struct Global {
    /// Members of the coordinator group; any one will do, each is tried in turn
    /// [env: SEAWALL_COORDINATOR] [default: http://127.0.0.1:7601]
    #[arg(
        long,
        global = true,
        value_name = "URL[,URL...]",
        value_delimiter = ','
    )]
    coordinator: Vec<ServerUrl>,

    /// For people, for programs (docs/json.md), or only the names
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub output: Output,

    /// How long to try to get an answer from a coordinator before giving up (exit status 3)
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        value_parser = duration,
        default_value = "10s"
    )]
    pub timeout: Duration,

    #[command(flatten)]
    tls: TlsOptions,
}

/// For coordinators that speak TLS (https://).
#[derive(Debug, clap::Args)]
struct TlsOptions {
    /// Certificates (PEM) of the authorities that the coordinators' certificates come from; by
    /// default those that this system trusts [env: SEAWALL_TLS_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    tls_ca_file: Option<PathBuf>,

    /// The certificate (PEM) that says who you are, an operator or a viewer
    /// [env: SEAWALL_TLS_CERT_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    tls_cert_file: Option<PathBuf>,

    /// The private key (PEM) of that certificate [env: SEAWALL_TLS_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    tls_key_file: Option<PathBuf>,
}

impl Global {
    /// The coordinators that the flag names: for commands that need none, and ask one if they are told to.
    pub fn named_coordinators(&self) -> Option<Vec<ServerUrl>> {
        (!self.coordinator.is_empty()).then(|| self.coordinator.clone())
    }

    /// To the coordinators that are named, or can be taken for granted.
    pub fn client(&self, environment: impl Fn(&str) -> Option<String>) -> Outcome<Client> {
        let members = self.members(&environment).map_err(Failure::usage)?;
        self.client_of(members, environment)
    }

    pub fn client_of(
        &self,
        members: Vec<ServerUrl>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Outcome<Client> {
        let file = |option: &Option<PathBuf>, variable: &str| {
            let variable = || environment(variable).filter(|text| !text.trim().is_empty());
            option.clone().or_else(|| variable().map(PathBuf::from))
        };
        let tls = Tls::load(TlsConfig {
            cert_file: file(&self.tls.tls_cert_file, "SEAWALL_TLS_CERT_FILE"),
            key_file: file(&self.tls.tls_key_file, "SEAWALL_TLS_KEY_FILE"),
            ca_file: file(&self.tls.tls_ca_file, "SEAWALL_TLS_CA_FILE"),
            http_client_auth: false,
        });
        let dialer = Dialer::new(tls.map_err(Failure::usage)?);
        Client::new(members, dialer, self.timeout)
    }

    /// Whom to ask: by the flag, else by the environment, else the usual place on this machine.
    ///
    /// Only commands that ask somebody call this: the others work whatever the variable says.
    fn members(
        &self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<ServerUrl>, Error> {
        if !self.coordinator.is_empty() {
            return Ok(self.coordinator.clone());
        }
        let text = environment(COORDINATOR_VARIABLE)
            .filter(|text| !text.trim().is_empty())
            .unwrap_or_else(|| COORDINATOR_DEFAULT.to_owned());
        let members: Result<_, Error> = text.split(',').map(str::parse).collect();
        members.map_err(|e| e.context(COORDINATOR_VARIABLE))
    }
}

/// A duration as people write it: `90s`, `15m`, `24h`.
pub fn duration(text: &str) -> Result<Duration, Error> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => Err(Error::invalid("a duration of nothing").hint("Give a longer one: 90s, 15m.")),
        Err(_) => Err(Error::invalid(format!("malformed duration {text:?}"))
            .hint("It is written like 90s, 15m or 24h.")),
    }
}

/// Help was asked for, or the command line makes no sense.
#[derive(Debug)]
pub enum Stop {
    /// On standard output when it was asked for, on standard error when nothing was asked for.
    Help(clap::Error),
    Usage(Failure),
}

impl Stop {
    pub fn exit(&self) -> ExitCode {
        match self {
            Stop::Help(help) => {
                // Fails only when nobody reads it.
                let _ = help.print();
                ExitCode::from(if help.use_stderr() { 2 } else { 0 })
            }
            Stop::Usage(failure) => failure.exit(),
        }
    }
}

pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli, Stop> {
    let command = Cli::command();
    let args = with_double_dashes(args, &long_options(&command));
    Cli::try_parse_from(args).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Stop::Help(error),
        _ => Stop::Usage(Failure::usage(mistake(&error, "seawallctl"))),
    })
}

/// Vitess writes its options with one dash and underscores (`-allow_primary`, `-concurrency=4`):
/// both are taken.
fn with_double_dashes(
    args: impl Iterator<Item = OsString>,
    long_options: &BTreeSet<String>,
) -> Vec<OsString> {
    args.map(|arg| {
        let Some(text) = arg.to_str() else { return arg };
        let Some(body) = text.strip_prefix("--").or_else(|| text.strip_prefix('-')) else {
            return arg;
        };
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let name = name.replace('_', "-");
        if !long_options.contains(&name) {
            return arg;
        }
        match value {
            Some(value) => format!("--{name}={value}").into(),
            None => format!("--{name}").into(),
        }
    })
    .collect()
}

fn long_options(command: &clap::Command) -> BTreeSet<String> {
    command
        .get_arguments()
        .flat_map(|arg| {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            arg.get_long().into_iter().chain(aliases)
        })
        .map(str::to_owned)
        .chain(command.get_subcommands().flat_map(long_options))
        .filter(|name| name.len() > 1)
        .collect()
}

#[cfg(test)]
mod tests;

//! What the MariaDB engine takes from the `[engine]` section, checked before anything is started.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use mysql_async::{Opts, OptsBuilder};
use seawall_common::{Error, Result};
use secrecy::{ExposeSecret, SecretString};

use crate::engine::{
    EngineSettings, Source,
    settings::{check_command, check_readable, find_program, read_secret, required},
};

const KIND: &str = "mariadb";
/// Rows of status tables are small; this bounds what a server can make us hold.
const PACKET_BYTES_MAX: usize = 16 << 20;

#[derive(Clone, Debug)]
pub(super) struct MariaDbSettings {
    pub defaults_file: Option<PathBuf>,
    pub data_dir: PathBuf,
    pub socket: PathBuf,
    user: String,
    password_file: Option<PathBuf>,
    pub start: Start,
    pub start_timeout: Duration,
    pub stop_timeout: Duration,
    /// What checksums may cost a backup; zero: none are made.
    pub checksum_time: Duration,
    pub replication_user: String,
    replication_password_file: PathBuf,
    /// Where other tablets reach this server.
    pub address: Source,
}

/// How the server is started.
#[derive(Clone, Debug)]
pub(super) enum Start {
    Command {
        program: PathBuf,
        arguments: Vec<String>,
    },
    Unit(String),
}

impl MariaDbSettings {
    pub fn check(settings: &EngineSettings) -> Result<Self> {
        let data_dir = required(settings.data_dir.as_deref(), "engine.data_dir", KIND)?;
        check_data_dir(data_dir)?;
        let socket = required(settings.socket.as_deref(), "engine.socket", KIND)?;
        if let Some(file) = &settings.defaults_file {
            check_readable(file, "engine.defaults_file")?;
        }
        if let Some(file) = &settings.password_file {
            read_secret(file, "engine.password_file")?;
        }
        let replication = &settings.replication;
        let key = "engine.replication.password_file";
        let replication_password_file = required(replication.password_file.as_deref(), key, KIND)?;
        read_secret(replication_password_file, key)?;
        Ok(Self {
            defaults_file: settings.defaults_file.clone(),
            data_dir: data_dir.components().collect(),
            socket: socket.to_owned(),
            user: settings.user.clone(),
            password_file: settings.password_file.clone(),
            start: start(settings)?,
            start_timeout: settings.start_timeout,
            stop_timeout: settings.stop_timeout,
            checksum_time: settings.checksum_time,
            replication_user: required(
                replication.user.as_deref(),
                "engine.replication.user",
                KIND,
            )?
            .to_owned(),
            replication_password_file: replication_password_file.to_owned(),
            address: Source {
                host: required(replication.host.as_deref(), "engine.replication.host", KIND)?
                    .to_owned(),
                port: *required(replication.port.as_ref(), "engine.replication.port", KIND)?,
            },
        })
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    /// The administrator's password, read anew each time so that it can be changed under us.
    pub fn password(&self) -> Result<Option<SecretString>> {
        self.password_file
            .as_deref()
            .map(|file| read_secret(file, "engine.password_file"))
            .transpose()
    }

    pub fn replication_password(&self) -> Result<SecretString> {
        read_secret(
            &self.replication_password_file,
            "engine.replication.password_file",
        )
    }

    /// How the agent's own server is reached.
    pub fn local(&self) -> Result<Opts> {
        let password = self.password()?;
        Ok(options()
            .socket(Some(self.socket.to_string_lossy()))
            .user(Some(&self.user))
            .pass(password.as_ref().map(ExposeSecret::expose_secret))
            .into())
    }

    /// How another tablet's server is reached, as the replication user.
    pub fn remote(&self, source: &Source) -> Result<Opts> {
        Ok(options()
            .ip_or_hostname(&source.host)
            .tcp_port(source.port)
            .user(Some(&self.replication_user))
            .pass(Some(self.replication_password()?.expose_secret()))
            .into())
    }

    /// Whether the start command is the server program, not a script around it.
    pub fn starts_server_itself(&self) -> bool {
        match &self.start {
            Start::Command { program, .. } => program
                .file_name()
                .is_some_and(|name| name == "mariadbd" || name == "mysqld"),
            Start::Unit(_) => false,
        }
    }

    /// What makes the server print its settings. A script in the way is passed by: it might start
    /// a server, whatever it is asked.
    pub fn help_command(&self) -> Result<(PathBuf, Vec<String>)> {
        let (program, mut arguments) = match &self.start {
            Start::Command { program, arguments } if self.starts_server_itself() => {
                (program.clone(), arguments.clone())
            }
            Start::Command { .. } | Start::Unit(_) => {
                let program = find_program("mariadbd").ok_or_else(|| {
                    Error::invalid("there is no program mariadbd")
                        .hint("Install the MariaDB server on this machine.")
                })?;
                (program, vec![self.defaults_argument()])
            }
        };
        arguments.extend(["--verbose".to_owned(), "--help".to_owned()]);
        Ok((program, arguments))
    }

    pub fn defaults_argument(&self) -> String {
        self.defaults_file.as_ref().map_or_else(
            || "--no-defaults".to_owned(),
            |file| format!("--defaults-file={}", file.display()),
        )
    }

    /// An argument of the start command that stands there as `--name=value`.
    pub fn start_argument(&self, name: &str) -> Option<&str> {
        let Start::Command { arguments, .. } = &self.start else {
            return None;
        };
        arguments
            .iter()
            .rev()
            .find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
    }
}

pub(super) fn options() -> OptsBuilder {
    // The limits are given here so that the client does not ask the server for them.
    OptsBuilder::default()
        .prefer_socket(false)
        .max_allowed_packet(Some(PACKET_BYTES_MAX))
        .wait_timeout(Some(3600))
}

fn start(settings: &EngineSettings) -> Result<Start> {
    match (&settings.systemd_unit, settings.start_command.as_slice()) {
        (Some(_), [_, ..]) => Err(Error::invalid(
            "engine.systemd_unit and engine.start_command are both given",
        )
        .hint("Keep the one that starts this server.")),
        (Some(unit), []) => Ok(Start::Unit(unit.clone())),
        (None, []) => Err(Error::invalid(
            "setting engine.start_command is missing (engine mariadb)",
        )
        .hint("Give engine.start_command, or engine.systemd_unit where systemd runs the server.")),
        (None, command @ [_, arguments @ ..]) => Ok(Start::Command {
            program: check_command(command, "engine.start_command")?,
            arguments: arguments.to_vec(),
        }),
    }
}

/// The data directory itself may be missing: a restore makes it, in a parent that must be there.
fn check_data_dir(path: &Path) -> Result<()> {
    if !path.is_absolute() {
        return Err(Error::invalid(format!(
            "engine.data_dir is not an absolute path: {}",
            path.display()
        )));
    }
    let parent = path.parent().unwrap_or(path);
    let probe = if path.exists() { path } else { parent };
    if !probe.is_dir() {
        return Err(Error::invalid(format!(
            "engine.data_dir: {} is not a directory",
            probe.display()
        )));
    }
    nix::unistd::access(probe, nix::unistd::AccessFlags::W_OK).map_err(|e| {
        Error::invalid(format!(
            "engine.data_dir: cannot write to {}: {}",
            probe.display(),
            e.desc()
        ))
        .hint("Run the agent as the user that owns the data directory, or as root.")
    })
}

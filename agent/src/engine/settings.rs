//! The `[engine]` section of the agent's configuration, as one table for all engines.
//!
//! Each engine reads what concerns it and refuses what it cannot do without, in one clear line.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use seawall_common::{
    Error, Result,
    config::{Kind, Setting},
    exposed,
};
use secrecy::SecretString;
use serde::Deserialize;

pub const ENGINE_SETTINGS: &[Setting] = &[
    Setting::new("engine.kind", Kind::Text, "The database: mariadb or files").default("mariadb"),
    Setting::new(
        "engine.defaults_file",
        Kind::Text,
        "The server's own configuration file",
    ),
    Setting::new("engine.data_dir", Kind::Text, "The data directory"),
    Setting::new(
        "engine.socket",
        Kind::Text,
        "The Unix socket that the server listens on",
    ),
    Setting::new(
        "engine.user",
        Kind::Text,
        "The administrator that the agent comes as",
    )
    .default("root"),
    Setting::new(
        "engine.password_file",
        Kind::Text,
        "File with the administrator's password, mode 0600; none: no password is sent",
    ),
    Setting::new(
        "engine.start_command",
        Kind::Words,
        "What starts the server, in the foreground",
    ),
    Setting::new(
        "engine.stop_command",
        Kind::Words,
        "files: what ends the program; none: SIGTERM",
    ),
    Setting::new(
        "engine.running_command",
        Kind::Words,
        "files: ends with 0 while the program runs; none: the started process decides",
    ),
    Setting::new(
        "engine.systemd_unit",
        Kind::Text,
        "The server's systemd unit, instead of a start command",
    ),
    Setting::new(
        "engine.start_timeout",
        Kind::Text,
        "How long the server may take until it answers",
    )
    .default("10m"),
    Setting::new(
        "engine.stop_timeout",
        Kind::Text,
        "How long the server may take to shut down cleanly",
    )
    .default("10m"),
    Setting::new(
        "engine.checksum_time",
        Kind::Text,
        "How long a backup may take to note checksums of tables for restore tests; 0s: none",
    )
    .default("5s"),
    Setting::new(
        "engine.check_command",
        Kind::Words,
        "files: what looks at a restored directory, given as its last argument, in a restore test",
    ),
    Setting::new(
        "engine.replication.user",
        Kind::Text,
        "The user that replicas come as",
    ),
    Setting::new(
        "engine.replication.password_file",
        Kind::Text,
        "File with the replication user's password, mode 0600",
    ),
    Setting::new(
        "engine.replication.host",
        Kind::Text,
        "Where other tablets reach this server",
    ),
    Setting::new(
        "engine.replication.port",
        Kind::Integer,
        "The port that other tablets reach this server at",
    )
    .default("3306"),
];

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSettings {
    pub kind: String,
    pub defaults_file: Option<PathBuf>,
    pub data_dir: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    #[serde(default = "root")]
    pub user: String,
    pub password_file: Option<PathBuf>,
    #[serde(default)]
    pub start_command: Vec<String>,
    #[serde(default)]
    pub stop_command: Vec<String>,
    #[serde(default)]
    pub running_command: Vec<String>,
    pub systemd_unit: Option<String>,
    #[serde(default = "ten_minutes", deserialize_with = "duration")]
    pub start_timeout: Duration,
    #[serde(default = "ten_minutes", deserialize_with = "duration")]
    pub stop_timeout: Duration,
    #[serde(default = "five_seconds", deserialize_with = "duration")]
    pub checksum_time: Duration,
    #[serde(default)]
    pub check_command: Vec<String>,
    #[serde(default)]
    pub replication: ReplicationSettings,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicationSettings {
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub host: Option<String>,
    pub port: Option<u16>,
}

fn root() -> String {
    "root".to_owned()
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|e| {
        serde::de::Error::custom(format!("{text:?} is not a duration like 30s or 10m: {e}"))
    })
}

/// The value of a setting that this engine cannot do without.
pub(super) fn required<'a, T: ?Sized>(
    value: Option<&'a T>,
    key: &str,
    kind: &str,
) -> Result<&'a T> {
    value.ok_or_else(|| Error::invalid(format!("setting {key} is missing (engine {kind})")))
}

/// What was said last of each file that others can read: they are read for every connection.
static TOLD: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());

/// Reads a secret from its file, without the line end that editors put there. One that others can
/// read is told of, once.
pub(super) fn read_secret(path: &Path, key: &str) -> Result<SecretString> {
    read_secret_telling(path, key, |warning| tracing::warn!("{warning}"))
}

fn read_secret_telling(path: &Path, key: &str, tell: impl FnOnce(&str)) -> Result<SecretString> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::invalid(format!("{key}: cannot read {}: {e}", path.display())))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.contains('\0') {
        return Err(Error::invalid(format!(
            "{key}: {} holds a zero byte",
            path.display()
        )));
    }
    if let Some(warning) = new_warning(path, key) {
        tell(&warning);
    }
    Ok(SecretString::from(secret))
}

/// Unless it was the last thing to be said of this file.
fn new_warning(path: &Path, key: &str) -> Option<String> {
    let warning = exposed::warning(&format!("{key}: {}", path.display()), path);
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let before = match &warning {
        Some(warning) => told.insert(path.to_owned(), warning.clone()),
        None => told.remove(path),
    };
    if before == warning { None } else { warning }
}

/// An error unless `path` is a file that can be read.
pub(super) fn check_readable(path: &Path, key: &str) -> Result<()> {
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(data) if data.is_file() => Ok(()),
        Ok(_) => Err(Error::invalid(format!(
            "{key}: {} is not a file",
            path.display()
        ))),
        Err(e) => Err(Error::invalid(format!(
            "{key}: cannot read {}: {e}",
            path.display()
        ))),
    }
}

/// Where `program` is found, as the shell would look for it.
pub(super) fn find_program(program: &str) -> Option<PathBuf> {
    let executable = |path: &Path| {
        path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
    };
    if program.contains('/') {
        let path = PathBuf::from(program);
        return executable(&path).then_some(path);
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    // A service often starts with a short search path that leaves the server programs out.
    std::env::split_paths(&search)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|path| executable(path))
}

/// An error unless `command` names a program that can be run.
pub(super) fn check_command(command: &[String], key: &str) -> Result<PathBuf> {
    let Some(program) = command.first() else {
        return Err(Error::invalid(format!("setting {key} is empty")));
    };
    find_program(program).ok_or_else(|| {
        Error::invalid(format!("{key}: there is no program {program:?}"))
            .hint("Give its full path, or mend the search path of the agent.")
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;

    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_password_that_others_can_read_is_used_and_told_of_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("repl.password");
        write(&file, "replicate\n").unwrap();
        let told = |mode: u32| {
            set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let mut told = Vec::new();
            let tell = |warning: &str| told.push(warning.to_owned());
            let key = "engine.replication.password_file";
            let secret = read_secret_telling(&file, key, tell).unwrap();
            assert_eq!(secret.expose_secret(), "replicate");
            told
        };
        assert_eq!(told(0o600), Vec::<String>::new());
        let [warning] = told(0o640).try_into().unwrap();
        let says = format!("engine.replication.password_file: {}", file.display());
        assert!(warning.starts_with(&says), "{warning}");
        assert!(warning.contains("mode 0640"), "{warning}");
        // Each connection reads it again.
        assert_eq!(told(0o640), Vec::<String>::new());
        // It is worse now; and was mended, and is open again.
        assert_eq!(told(0o644).len(), 1);
        assert_eq!(told(0o600), Vec::<String>::new());
        assert_eq!(told(0o644).len(), 1);
    }
}

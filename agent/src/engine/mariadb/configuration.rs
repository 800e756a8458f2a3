//! The server's own configuration, as the server itself reads it.
//!
//! `mariadbd --verbose --help` prints the value of every setting after all files and arguments, with
//! no data directory needed. (Where there is one it makes and removes one empty file in it: not to be
//! done while the files are copied.) So there is one truth about where files lie, whether
//! or not the server runs, and a mistake in the configuration shows before it is started.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use seawall_common::{Error, Result};

use super::settings::MariaDbSettings;
use crate::engine::process;

const HELP_LIMIT: Duration = Duration::from_secs(20);
const NO_VALUE: &str = "(No default value)";

#[derive(Clone, Debug)]
pub(super) struct Configuration {
    values: BTreeMap<String, String>,
    data_dir: PathBuf,
    version: String,
}

impl Configuration {
    pub async fn read(settings: &MariaDbSettings) -> Result<Self> {
        let (program, arguments) = settings.help_command()?;
        let text = process::run(&program, &arguments, HELP_LIMIT)
            .await
            .map_err(|e| {
                Error::invalid(format!(
                    "the database does not take its configuration: {}",
                    e.message()
                ))
            })?;
        let configuration = Self {
            values: parse(&text),
            data_dir: settings.data_dir.clone(),
            version: program_version(&text),
        };
        if configuration.values.is_empty() {
            return Err(Error::invalid(format!(
                "{} printed no settings when asked with --verbose --help",
                program.display()
            )));
        }
        if settings.starts_server_itself() {
            configuration.check_paths(settings)?;
        }
        Ok(configuration)
    }

    /// The agent and the server must mean the same database.
    fn check_paths(&self, settings: &MariaDbSettings) -> Result<()> {
        let pairs = [
            ("data_dir", &settings.data_dir, "datadir"),
            ("socket", &settings.socket, "socket"),
        ];
        for (ours, path, theirs) in pairs {
            let Some(value) = self.value(theirs) else {
                continue;
            };
            if !same_path(path, &self.resolve(value)) {
                return Err(Error::invalid(format!(
                    "engine.{ours} is {}, but the server's configuration says {value}",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// Of the program that printed it; empty when it did not say.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A setting by its name with dashes; none when it is unset or empty.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty() && *value != NO_VALUE)
    }

    pub fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Some("TRUE" | "ON" | "1"))
    }

    /// A directory setting, by default the data directory.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.value(name)
            .map_or_else(|| self.data_dir.clone(), |value| self.resolve(value))
    }

    /// A path as the server means it: relative ones begin at its data directory.
    pub fn resolve(&self, path: &str) -> PathBuf {
        let path = path.strip_prefix("./").unwrap_or(path);
        let joined = self.data_dir.join(path);
        // Taken apart and put together again: no trailing slash, no dots in between.
        joined.components().collect()
    }

    /// The files of InnoDB's system tablespace.
    pub fn system_tablespace(&self) -> Vec<PathBuf> {
        let home = self.directory("innodb-data-home-dir");
        self.value("innodb-data-file-path")
            .unwrap_or("ibdata1")
            .split(';')
            .filter_map(|file| file.split(':').next())
            .filter(|name| !name.is_empty())
            .map(|name| home.join(name))
            .collect()
    }

    /// What each running server holds locked.
    pub fn locked_files(&self) -> Vec<PathBuf> {
        let mut files = self.system_tablespace();
        files.push(self.directory("aria-log-dir-path").join("aria_log_control"));
        files
    }

    /// Directory and name that binary logs begin with, where they are on and named.
    pub fn binary_log(&self) -> Option<PathBuf> {
        self.value("log-bin").map(|name| self.resolve(name))
    }
}

/// The word behind `Ver` in the first line that the program prints.
fn program_version(text: &str) -> String {
    let mut words = text.lines().next().unwrap_or_default().split_whitespace();
    words.find(|word| *word == "Ver");
    words.next().unwrap_or_default().to_owned()
}

fn parse(help: &str) -> BTreeMap<String, String> {
    help.lines()
        .skip_while(|line| !line.starts_with("Variables (--variable-name=value)"))
        .skip_while(|line| !line.starts_with("---"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let (name, value) = line.split_once(char::is_whitespace)?;
            Some((name.to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// Whether two paths are one file or directory; ones that do not exist are compared as text.
pub(super) fn same_path(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| {
        path.canonicalize()
            .unwrap_or_else(|_| path.components().collect())
    };
    real(a) == real(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_what_the_server_prints() {
        let help = "/usr/sbin/mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64\n\
                    Usage\n  --foo bar\n\nVariables (--variable-name=value)\nand boolean options \
                    {FALSE|TRUE}  Value (after reading options)\n--------- -------\n\
                    innodb-data-file-path   ibdata1:12M;more/ibdata2:1G:autoextend\n\
                    log-bin                 bin\n\
                    log-error               \n\
                    read-only               TRUE\n\
                    innodb-undo-directory   (No default value)\n\
                    innodb-log-group-home-dir  /fast/redo/\n\nTo see what values\nread-only FALSE\n";
        let configuration = Configuration {
            values: parse(help),
            data_dir: PathBuf::from("/srv/data"),
            version: program_version(help),
        };
        assert_eq!(configuration.version(), "10.11.19-MariaDB-0+deb12u1");
        assert!(configuration.flag("read-only"));
        assert!(!configuration.flag("skip-slave-start"));
        assert_eq!(configuration.value("log-error"), None);
        assert_eq!(
            configuration.directory("innodb-undo-directory"),
            Path::new("/srv/data")
        );
        assert_eq!(
            configuration.directory("innodb-log-group-home-dir"),
            Path::new("/fast/redo")
        );
        assert_eq!(
            configuration.binary_log().unwrap(),
            Path::new("/srv/data/bin")
        );
        assert_eq!(
            configuration.system_tablespace(),
            [
                Path::new("/srv/data/ibdata1"),
                Path::new("/srv/data/more/ibdata2")
            ]
        );
    }
}

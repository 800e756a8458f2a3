//! Layered settings: flag over environment over file over default.
//!
//! A program describes each of its settings once, as a [`Setting`]. From that table come its
//! flags, its environment variables, its help, the check for unknown keys with the nearest right
//! one, and `--print-config`. The merged result is then read into the program's own struct.

mod load;
mod mistake;
mod print;

pub use load::{Loaded, load};
pub use mistake::{get_matches, mistake};

use clap::{Arg, ArgAction, Command};

/// What a setting's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Bool,
    Integer,
    /// In the file an array, in flag and environment separated by commas.
    List,
    /// In the file an array of words; in flag and environment separated by spaces.
    Words,
}

/// One setting of a program.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Dotted path in the file: `engine.replication.user`.
    pub key: &'static str,
    pub kind: Kind,
    pub default: Option<&'static str>,
    /// Its flag, when it is not the key in kebab case.
    pub flag: Option<&'static str>,
    /// Never a flag, never printed.
    pub secret: bool,
    pub help: &'static str,
}

impl Setting {
    pub const fn new(key: &'static str, kind: Kind, help: &'static str) -> Self {
        Self {
            key,
            kind,
            default: None,
            flag: None,
            secret: false,
            help,
        }
    }

    #[must_use]
    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    #[must_use]
    pub const fn flag(mut self, name: &'static str) -> Self {
        self.flag = Some(name);
        self
    }

    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    pub fn flag_name(&self) -> String {
        self.flag
            .map_or_else(|| self.key.replace(['.', '_'], "-"), str::to_owned)
    }

    pub fn env_name(&self) -> String {
        format!("SEAWALL_{}", self.key.replace('.', "_").to_uppercase())
    }

    fn arg(&self) -> Arg {
        let mut help = format!("{} [env: {}]", self.help, self.env_name());
        if let Some(default) = self.default {
            help.push_str(&format!(" [default: {default}]"));
        }
        let arg = Arg::new(self.key).long(self.flag_name()).help(help);
        match self.kind {
            Kind::Bool => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("true|false"),
            Kind::Integer => arg.value_name("N"),
            Kind::List => arg.value_name("A,B,..."),
            Kind::Words => arg.value_name("COMMAND"),
            Kind::Text => arg.value_name("VALUE"),
        }
    }
}

/// Adds `--config`, `--print-config` and a flag for each setting to a program's command.
pub fn with_settings(command: Command, settings: &[Setting]) -> Command {
    command
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("Configuration file (TOML) [env: SEAWALL_CONFIG]"),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print the settings in force and where each came from, then exit"),
        )
        .args(
            settings
                .iter()
                .filter(|setting| !setting.secret)
                .map(Setting::arg),
        )
}

#[cfg(test)]
mod tests;

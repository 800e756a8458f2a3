//! Gathers the settings from flags, environment and file, and says where each came from.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::ArgMatches;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{Kind, Setting, print};
use crate::{
    alike,
    error::{Error, Result},
};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Flag(String),
    Environment(String),
    File(PathBuf),
    Default,
}

/// A program's settings, and, as text, where each came from.
#[derive(Debug)]
pub struct Loaded<T> {
    pub settings: T,
    /// For `--print-config`: one line a setting, secrets masked.
    pub printed: String,
    /// Whether `--print-config` was given.
    pub print_only: bool,
}

/// Reads the settings of a program from its flags, `environment` and its file.
pub fn load<T: DeserializeOwned>(
    settings: &[Setting],
    matches: &ArgMatches,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Loaded<T>> {
    let file_path = matches
        .get_one::<String>("config")
        .cloned()
        .or_else(|| environment("SEAWALL_CONFIG"))
        .map(PathBuf::from);
    let mut file = BTreeMap::new();
    if let Some(path) = &file_path {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::invalid(format!("cannot read configuration {}: {e}", path.display()))
        })?;
        let table: Table = text.parse().map_err(|e: toml::de::Error| {
            Error::invalid(format!(
                "configuration {} is not valid TOML: {}",
                path.display(),
                e.to_string().trim_end().replace('\n', " ")
            ))
        })?;
        flatten("", &table, settings, &mut file)
            .map_err(|e| e.context(format_args!("configuration {}", path.display())))?;
    }

    let mut merged = Table::new();
    let mut sources = Vec::new();
    for setting in settings {
        let flag = (!setting.secret)
            .then(|| matches.get_one::<String>(setting.key))
            .flatten();
        let env_name = setting.env_name();
        let (value, source) = if let Some(text) = flag {
            let name = format!("--{}", setting.flag_name());
            (parse(setting, text, &name)?, Source::Flag(name))
        } else if let Some(text) = environment(&env_name) {
            (
                parse(setting, &text, &env_name)?,
                Source::Environment(env_name),
            )
        } else if let (Some(value), Some(path)) = (file.remove(setting.key), &file_path) {
            (value, Source::File(path.clone()))
        } else if let Some(text) = setting.default {
            (parse(setting, text, setting.key)?, Source::Default)
        } else {
            continue;
        };
        insert(&mut merged, setting.key, value.clone());
        sources.push((setting, value, source));
    }
    let printed = print::render(&sources);
    let settings = serde_path_to_error::deserialize(Value::Table(merged)).map_err(|e| {
        let file = file_path.as_deref();
        misread(&e, &sources, settings, file)
    })?;
    Ok(Loaded {
        settings,
        printed,
        print_only: matches.get_flag("print-config"),
    })
}

/// Turns the file's tables into dotted keys and refuses those that no setting has.
fn flatten(
    prefix: &str,
    table: &Table,
    settings: &[Setting],
    into: &mut BTreeMap<String, Value>,
) -> Result<()> {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        if settings.iter().any(|s| s.key == key) {
            into.insert(key, value.clone());
            continue;
        }
        let is_section = settings
            .iter()
            .any(|s| s.key.starts_with(&format!("{key}.")));
        match value {
            Value::Table(inner) if is_section => flatten(&key, inner, settings, into)?,
            _ if is_section => {
                return Err(Error::invalid(format!("{key:?} is a section, not a value")));
            }
            _ => {
                let error = Error::invalid(format!("unknown key {key:?}"));
                return Err(match nearest(&key, value.is_table(), settings) {
                    Some(right) => error.hint(format!("Did you mean {right:?}?")),
                    None => error,
                });
            }
        }
    }
    Ok(())
}

type Misread = serde_path_to_error::Error<toml::de::Error>;

/// Says of a value that does not fit which one it is and where it came from, or which is missing.
fn misread(
    error: &Misread,
    sources: &[(&Setting, Value, Source)],
    settings: &[Setting],
    file: Option<&Path>,
) -> Error {
    let message = error.inner().message();
    let path = error.path().to_string();
    let wrong = sources
        .iter()
        .find(|(setting, ..)| is_or_lies_in(&path, setting.key));
    if let Some((setting, _, source)) = wrong {
        let name = match source {
            Source::Flag(name) | Source::Environment(name) => name.clone(),
            Source::File(file) => format!("configuration {}: {path}", file.display()),
            Source::Default => path,
        };
        // Serde's message quotes the value.
        let message = if setting.secret {
            "does not fit"
        } else {
            message
        };
        return Error::invalid(format!("{name}: {message}"));
    }
    let file = file.map_or_else(String::new, |file| format!(" {}", file.display()));
    let error = Error::invalid(format!("configuration{file}: {message}"));
    match missing(message, &path, settings) {
        Some(setting) => error.hint(format!(
            "Set {} in the file, --{} or {}.",
            setting.key,
            setting.flag_name(),
            setting.env_name()
        )),
        None => error,
    }
}

/// Whether a path (`coordinators[1]`) is that of a setting's value, or of something in it.
fn is_or_lies_in(path: &str, key: &str) -> bool {
    path.strip_prefix(key)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The setting whose absence from the section at `path` serde complains of.
fn missing<'a>(message: &str, path: &str, settings: &'a [Setting]) -> Option<&'a Setting> {
    let field = message.strip_prefix("missing field `")?.strip_suffix('`')?;
    let key = match path {
        "." => field.to_owned(),
        section => format!("{section}.{field}"),
    };
    settings.iter().find(|setting| setting.key == key)
}

/// The right name that is most like a wrong one: of a section for a section, of a setting otherwise.
fn nearest(key: &str, is_section: bool, settings: &[Setting]) -> Option<&'static str> {
    let sections = settings.iter().flat_map(|setting| {
        let dots = setting.key.match_indices('.');
        dots.map(|(at, _)| &setting.key[..at])
    });
    let keys = settings.iter().map(|setting| setting.key);
    let names: Vec<&str> = match is_section {
        true => sections.collect(),
        false => keys.collect(),
    };
    alike::nearest(key, names)
}

fn parse(setting: &Setting, text: &str, name: &str) -> Result<Value> {
    let list = |separator: fn(char) -> bool| {
        Value::Array(
            text.split(separator)
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(|part| Value::String(part.to_owned()))
                .collect(),
        )
    };
    Ok(match setting.kind {
        Kind::Text => Value::String(text.to_owned()),
        Kind::List => list(|c| c == ','),
        Kind::Words => list(char::is_whitespace),
        Kind::Bool => Value::Boolean(
            text.parse()
                .map_err(|_| Error::invalid(format!("{name} is true or false, not {text:?}")))?,
        ),
        Kind::Integer => Value::Integer(
            text.parse()
                .map_err(|_| Error::invalid(format!("{name} is a whole number, not {text:?}")))?,
        ),
    })
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = table
                .entry(section.to_owned())
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

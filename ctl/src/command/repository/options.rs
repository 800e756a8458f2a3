//! Which repository, and with which keys: the section `[repository]` that every program has, by
//! flags, environment or a file.

use clap::{ArgMatches, Args, Command, FromArgMatches};
use seawall_common::{
    Error, ErrorKind,
    config::{Loaded, load, with_settings},
    repository::{REPOSITORY_SETTINGS, Repository, RepositoryConfig},
};
use serde::Deserialize;

use crate::{
    exit::{Failure, Outcome},
    terminal::Terminal,
};

#[derive(Clone, Debug)]
pub struct RepositoryOptions(ArgMatches);

#[derive(Debug, Deserialize)]
struct Settings {
    repository: RepositoryConfig,
}

impl RepositoryOptions {
    /// The settings, with which to open the repository; `None`: they were to be printed only.
    pub fn config(&self) -> Outcome<Option<RepositoryConfig>> {
        let environment = |name: &str| std::env::var(name).ok();
        let loaded: Loaded<Settings> = load(REPOSITORY_SETTINGS, &self.0, environment)
            .map_err(|error| Failure::usage(of_another_program(error)))?;
        if loaded.print_only {
            crate::output::to_stdout(&loaded.printed)?;
            return Ok(None);
        }
        Ok(Some(loaded.settings.repository))
    }
}

/// A configuration of an agent or a coordinator has the section, and much that is not ours.
fn of_another_program(error: Error) -> Error {
    let is_unknown = error.message().contains(": unknown key ");
    // One that is only misspelt says already what it should be.
    let is_explained = error.hint_text().is_some();
    if !is_unknown || is_explained || error.message().contains("unknown key \"repository") {
        return error;
    }
    error.hint(
        "A file for \"seawallctl repository\" holds the section [repository] alone: copy that of the agent's or the coordinator's into one of its own.",
    )
}

/// Opens a repository that must be there. What is wrong with the settings is wrong usage.
pub async fn open(config: &RepositoryConfig) -> Outcome<Repository> {
    Repository::open_asking(config, &Terminal)
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::Invalid => Failure::usage(error),
            _ => Failure::failed(error),
        })
}

impl FromArgMatches for RepositoryOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(matches.clone()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = matches.clone();
        Ok(())
    }
}

impl Args for RepositoryOptions {
    fn augment_args(command: Command) -> Command {
        with_settings(
            command.next_help_heading("Which repository"),
            REPOSITORY_SETTINGS,
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

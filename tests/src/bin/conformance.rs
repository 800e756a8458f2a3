//! Checks that a store does what a repository needs of it, in a process of its own, since
//! credentials stand in the environment: `conformance --repository URL ...`, and with `--put BYTES`
//! only puts one object of that size.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, Command, value_parser};
use seawall_common::{
    config::{Loaded, load, with_settings},
    repository::{REPOSITORY_SETTINGS, RepositoryConfig, conformance, put_and_read_back},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Settings {
    repository: RepositoryConfig,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        // One line, also where a backtrace is asked for.
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let put = Arg::new("put")
        .long("put")
        .value_name("BYTES")
        .value_parser(value_parser!(usize));
    let command = with_settings(Command::new("conformance").arg(put), REPOSITORY_SETTINGS);
    let matches = command.get_matches();
    let environment = |name: &str| std::env::var(name).ok();
    let loaded: Loaded<Settings> = load(REPOSITORY_SETTINGS, &matches, environment)?;
    let config = loaded.settings.repository;
    match matches.get_one::<usize>("put") {
        Some(&bytes) => put_and_read_back(&config, bytes).await?,
        None => conformance(&config).await?,
    }
    Ok(())
}

//! `seawall-agent`: does everything that touches the data of one database server.

mod call;
mod config;
mod coordinators;
mod engine;
mod execute;
mod http;
mod instance;
mod job;
mod journal;
mod live;
mod metrics;
mod reconcile;
mod scratch;
mod server;
mod service;
mod session;
mod shard;
mod startup;
mod status;
mod tablet;
#[cfg(test)]
mod testing;
mod transfers;
mod watchdog;
mod writer;

use std::process::ExitCode;

use config::Settings;
use seawall_common::{
    Error, Result,
    config::{Loaded, get_matches, load, with_settings},
    repository::take_passphrase_descriptor,
    telemetry,
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let line = e.to_string().replace('\n', " ");
            eprintln!("seawall-agent: {line}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let command = clap::Command::new("seawall-agent")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Backs up and restores the database server beside it, as the coordinators decide");
    let settings = config::settings();
    let matches = get_matches(with_settings(command, &settings));
    let loaded: Loaded<Settings> = load(&settings, &matches, |name| std::env::var(name).ok())?;
    loaded.settings.check()?;
    if loaded.print_only {
        print!("{}", loaded.printed);
        return Ok(());
    }
    // Before anything else is opened or started.
    take_passphrase_descriptor(&loaded.settings.repository)?;
    telemetry::init(&loaded.settings.log_format)?;
    // Fails only when one is installed already, which will do as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal(format!("cannot start the runtime: {e}")))?;
    let ended = runtime.block_on(server::run(loaded.settings));
    // Steps under way are cut off here; the journal knows them at the next start.
    runtime.shutdown_background();
    ended
}

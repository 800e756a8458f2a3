//! `seawallctl`, the operator's hand: it asks the coordinator, watches, and prints.
//!
//! Results go to standard output, everything else to standard error. See `exit` for the codes.

mod cli;
mod client;
mod command;
mod exit;
mod operation;
mod output;
mod terminal;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(stop) => return stop.exit(),
    };
    match command::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit(),
    }
}

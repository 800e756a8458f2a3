//! `sim`: one run of the coordinator group in a simulated world, from a seed.
//!
//! The members are the program's own code over a simulated network, clock and disk; what goes wrong
//! in the world, and when, comes from the seed, and so does all other chance: a seed gives the same
//! run again, to the last message. What clients asked and were answered is checked afterwards: each
//! invariant in a file of its own.

mod agents;
mod catalogue;
mod copies;
mod epochs;
mod membership;
mod nemesis;
mod operations;
mod seats;
mod world;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use rand::{SeedableRng as _, rngs::StdRng};
use seawall_coordinator::sim::{Bug, plant};
use seawall_tests::proof::verdict::Doubt;

/// Neither right nor wrong is known.
const NOT_CHECKED: u8 = 3;

#[derive(Parser)]
struct Arguments {
    /// The run: the same seed gives the same one again
    #[arg(long)]
    seed: u64,
    /// How long things go wrong, in simulated seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// A defect to plant: proof-first, no-fsync, old-token, forgotten-bound, applied-twice
    #[arg(long, value_parser = bug)]
    bug: Option<Bug>,
    /// What the members log goes to stderr (RUST_LOG)
    #[arg(long)]
    verbose: bool,
}

fn bug(name: &str) -> Result<Bug, String> {
    let known = |bug: &Bug| name_of(*bug) == name;
    let found = Bug::ALL.into_iter().find(known);
    found.ok_or_else(|| format!("no defect {name:?}"))
}

fn name_of(bug: Bug) -> &'static str {
    match bug {
        Bug::ProofFirst => "proof-first",
        Bug::NoFsync => "no-fsync",
        Bug::OldToken => "old-token",
        Bug::ForgottenBound => "forgotten-bound",
        Bug::AppliedTwice => "applied-twice",
    }
}

/// To stderr, as RUST_LOG has it.
fn log() {
    use tracing_subscriber::{filter::Targets, prelude::*};
    let filter: Targets = std::env::var("RUST_LOG")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time();
    tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .init();
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.verbose {
        log();
    }
    if let Some(bug) = arguments.bug {
        plant(bug);
    }
    let Arguments { seed, seconds, .. } = arguments;
    // On a thread that has done nothing yet: what was logged before, or not, is no part of the run.
    let ended = std::thread::spawn(move || {
        // From here on all chance of this process comes from the seed, and time stands still until
        // the simulation moves it.
        mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
        let _clocks = mad_turmoil::time::SimClocksGuard::init();
        world::run(seed, Duration::from_secs(seconds))
    });
    let ended = ended
        .join()
        .unwrap_or_else(|_| Err(Doubt::violated("a part of it panicked")));
    match ended {
        Ok(report) => {
            println!("seed {seed}: {report}");
            ExitCode::SUCCESS
        }
        Err(doubt) => {
            println!("seed {seed}: {doubt}");
            match doubt {
                Doubt::Violated(_) => ExitCode::FAILURE,
                Doubt::NotChecked(_) => ExitCode::from(NOT_CHECKED),
            }
        }
    }
}

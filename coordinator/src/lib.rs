//! `seawall-coordinator`: one member of the group that decides about order. The program is
//! [`main`]; everything else but what simulation and benchmark look at is private, so that the
//! compiler sees what nobody uses.

mod agents;
mod config;
mod context;
mod data_dir;
mod ending;
mod forward;
mod group;
mod http;
mod leases;
mod office;
mod operation;
mod platform;
mod raft;
mod restoring;
mod server;
mod service;
#[cfg(feature = "sim")]
pub mod sim;
pub mod sizes;
mod state;
mod timestamps;

use std::process::ExitCode;

use config::Request;
use data_dir::DataDir;
use seawall_common::{Error, Result, config::get_matches, telemetry};

/// The whole program: its arguments are the process's.
pub fn main() -> ExitCode {
    let matches = get_matches(config::command());
    let ended = config::understand(&matches, |name| std::env::var(name).ok()).and_then(carry_out);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let line = e.to_string().replace('\n', " ");
            eprintln!("seawall-coordinator: {line}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(request: Request) -> Result<()> {
    match request {
        Request::Print(settings) => {
            print!("{settings}");
            Ok(())
        }
        Request::Init {
            data_dir,
            id,
            members,
        } => {
            DataDir::open(&data_dir)?.init(id, members)?;
            println!("{} is member {id} now", data_dir.display());
            Ok(())
        }
        Request::Join {
            data_dir,
            id,
            addresses,
        } => {
            DataDir::open(&data_dir)?.join(id, addresses)?;
            println!(
                "{} is that of member {id}; start the coordinator on it, then run seawallctl AddMember {id} <its address>",
                data_dir.display()
            );
            Ok(())
        }
        Request::Restore(request) => {
            install_crypto();
            runtime()?.block_on(restoring::restore(*request))
        }
        Request::Run(settings) => {
            telemetry::init(&settings.log_format)?;
            install_crypto();
            runtime()?.block_on(server::run(*settings))
        }
    }
}

fn install_crypto() {
    // Fails only when one is installed already, which will do as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal(format!("cannot start the runtime: {e}")))
}

//! Logs on standard error, as text or JSON, filtered by `RUST_LOG` (default `info`).

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

use crate::error::{Error, Result};

/// Installs the process's logger. Call once, first thing in `main`.
pub fn init(format: &str) -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new("info,openraft=error,openraft::replication=off,sled=warn")
    });
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let installed = match format {
        "text" => builder.try_init(),
        "json" => builder.json().flatten_event(true).try_init(),
        other => {
            return Err(
                Error::invalid(format!("unknown log format {other:?}")).hint("It is text or json.")
            );
        }
    };
    installed.map_err(|e| Error::internal(format!("cannot install the logger: {e}")))
}

//! What a command prints: results on standard output in one of three shapes; see `progress` for
//! what goes to standard error meanwhile.

pub mod human;
pub mod json;
pub mod progress;
pub mod retention;
pub mod schedule;
pub mod table;
pub mod waiting;

use std::io::Write as _;

use seawall_common::Error;
use serde::Serialize;

use crate::exit::{Failure, Outcome};

/// `Json` is a contract: see `docs/json.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    Table,
    Json,
    Name,
}

impl Output {
    /// Prints a result in the shape that was asked for.
    pub fn print(
        self,
        value: &impl Serialize,
        name: impl FnOnce() -> String,
        table: impl FnOnce() -> String,
    ) -> Outcome {
        let text = match self {
            Output::Table => table(),
            Output::Name => name(),
            Output::Json => serde_json::to_string_pretty(value).map_err(|e| {
                Failure::failed(Error::internal(format!("cannot write the result: {e}")))
            })?,
        };
        to_stdout(&text)
    }
}

/// Writes a text and a line break. A reader that has gone away (`| head`) is no failure.
pub fn to_stdout(text: &str) -> Outcome {
    if text.is_empty() {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    let written = out
        .write_all(text.trim_end_matches('\n').as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    match written {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::failed(
            Error::internal(format!("cannot write the result: {e}")),
        )),
        _ => Ok(()),
    }
}

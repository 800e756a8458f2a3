//! What a program tells of itself: metrics, and logs on standard error, as text or JSON, filtered by `RUST_LOG` (default `info`). The audit log
//! (target `audit`) is in it whatever the filter says, unless that names it.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    filter::FilterFn,
    fmt,
    layer::{Layered, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use crate::error::{Error, Result};

/// What `/metrics` says of its text.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Installs the process's logger. Call once, first thing in `main`.
pub fn init(format: &str) -> Result<()> {
    let filter = filter(std::env::var(EnvFilter::DEFAULT_ENV).ok().as_deref());
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let installed = match format {
        "text" => discreet(builder.finish()).try_init(),
        "json" => discreet(builder.json().flatten_event(true).finish()).try_init(),
        other => {
            return Err(
                Error::invalid(format!("unknown log format {other:?}")).hint("It is text or json.")
            );
        }
    };
    installed.map_err(|e| Error::internal(format!("cannot install the logger: {e}")))
}

const DEFAULT: &str = "info,openraft=error,openraft::replication=off";

fn filter(asked: Option<&str>) -> EnvFilter {
    let asked = asked.filter(|text| !text.trim().is_empty());
    let with_audit = |text: &str| match text.contains("audit") {
        true => text.to_owned(),
        false => format!("{text},audit=info"),
    };
    let asked = asked.and_then(|text| EnvFilter::try_new(with_audit(text)).ok());
    asked.unwrap_or_else(|| EnvFilter::new(with_audit(DEFAULT)))
}

/// Whatever `RUST_LOG` says: at `warn` Amazon's library has the whole standard error of a
/// `credential_process` in the log, at `trace` its command line. Who got no credentials says so.
fn discreet<S: Subscriber>(inner: S) -> Layered<FilterFn, S>
where
    FilterFn: tracing_subscriber::Layer<S>,
{
    let shown = |event: &Metadata<'_>| {
        !event.target().starts_with("aws_") || *event.level() <= Level::ERROR
    };
    inner.with(FilterFn::new(shown as fn(&Metadata<'_>) -> bool))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Seek as _},
        sync::Arc,
    };

    use super::*;

    #[test]
    fn the_audit_log_is_kept_unless_the_filter_names_it() {
        let is_kept = |asked| filter(asked).to_string().contains("audit=info");
        assert!(is_kept(None));
        assert!(is_kept(Some("warn")));
        assert!(!is_kept(Some("info,audit=off")));
    }

    #[test]
    fn the_command_and_the_complaints_of_a_program_for_credentials_are_in_no_log() {
        let mut file = tempfile::tempfile().unwrap();
        let writer = Arc::new(file.try_clone().unwrap());
        let builder = fmt().with_env_filter(EnvFilter::new("trace"));
        let logger = discreet(builder.with_writer(writer).finish());
        tracing::subscriber::with_default(logger, || {
            tracing::trace!(target: "aws_config::credential_process", "--password geheim");
            tracing::warn!(target: "aws_config::profile::credentials", "Traceback: geheim");
            tracing::error!(target: "aws_config", "as bad as that");
            tracing::trace!("own");
        });
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert!(!text.contains("geheim"), "{text}");
        assert!(text.contains("as bad as that"), "{text}");
        assert!(text.contains("own"), "{text}");
    }
}

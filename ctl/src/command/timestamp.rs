use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use seawall_common::Error;
use seawall_proto::v1::{self, timestamps_client::TimestampsClient};

use super::Context;
use crate::{
    exit::{Failure, Outcome},
    output::json,
};

/// Timestamps, each greater than all before it
#[derive(Debug, clap::Subcommand)]
pub enum Timestamp {
    Fetch(Fetch),
    FastForward(FastForward),
}

/// Prints a fresh timestamp
#[derive(Debug, clap::Args)]
pub struct Fetch {
    /// Also write it, or the last of several, to a file, for fast-forward to read
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How many, contiguous; printed as FIRST-LAST
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

/// Makes sure that only greater timestamps are given from now on; never goes back
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct FastForward {
    /// File that `timestamp fetch --file` wrote
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[arg(long, value_name = "N")]
    timestamp: Option<u64>,
}

impl Timestamp {
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Timestamp::Fetch(fetch) => fetch.run(context).await,
            Timestamp::FastForward(forward) => forward.run(context).await,
        }
        .map_err(|failure| failure.of("timestamp"))
    }
}

impl Fetch {
    async fn run(self, context: &Context) -> Outcome {
        let request = v1::FetchTimestampRequest { count: self.count };
        let given = context
            .client
            .call(|channel| async move { TimestampsClient::new(channel).fetch(request).await })
            .await?;
        let last = given.first + u64::from(given.count.max(1)) - 1;
        if let Some(file) = &self.file {
            write(file, last).map_err(Failure::failed)?;
        }
        let text = || match given.count {
            0 | 1 => given.first.to_string(),
            _ => format!("{}-{last}", given.first),
        };
        let value = json::Timestamps {
            first: given.first,
            last,
            count: given.count.max(1),
        };
        context.print(&value, text, text)
    }
}

impl FastForward {
    async fn run(self, context: &Context) -> Outcome {
        let timestamp = match (self.timestamp, &self.file) {
            (Some(timestamp), _) => timestamp,
            (None, Some(file)) => read(file).map_err(Failure::usage)?,
            (None, None) => return Err(Failure::usage(Error::invalid("no timestamp is named"))),
        };
        let request = v1::FastForwardRequest { timestamp };
        let forwarded = context
            .client
            .call(
                |channel| async move { TimestampsClient::new(channel).fast_forward(request).await },
            )
            .await?;
        let bound = forwarded.bound;
        context.print(
            &json::Bound { bound },
            || bound.to_string(),
            || format!("from now on every timestamp is greater than {bound}"),
        )
    }
}

/// Whole or not at all: a file of this name is always a timestamp.
fn write(file: &Path, timestamp: u64) -> Result<(), Error> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let written = std::fs::File::create(&temporary).and_then(|mut out| {
        writeln!(out, "{timestamp}")?;
        out.sync_all()?;
        std::fs::rename(&temporary, file)
    });
    written.map_err(|e| Error::io("write", file, &e))
}

fn read(file: &Path) -> Result<u64, Error> {
    let text = std::fs::read_to_string(file).map_err(|e| Error::io("read", file, &e))?;
    text.trim().parse().map_err(|_| {
        Error::invalid(format!("{} does not hold a timestamp", file.display()))
            .hint("It is a file that \"timestamp fetch --file\" wrote.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_file_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("backup.timestamp");
        write(&file, 41).unwrap();
        write(&file, 42).unwrap();
        assert_eq!(read(&file).unwrap(), 42);
        std::fs::write(&file, "-1\n").unwrap();
        assert!(read(&file).is_err());
        assert!(read(&directory.path().join("none")).is_err());
    }
}

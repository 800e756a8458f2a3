use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use seawall_common::Error;
use seawall_proto::v1::{
    self, timestamp_notes_request::Around, timestamps_client::TimestampsClient,
};

use super::{Context, moment::moment};
use crate::{
    exit::{Failure, Outcome},
    output::{human::time, json},
};

/// Timestamps, each greater than all before it
#[derive(Debug, clap::Subcommand)]
pub enum Timestamp {
    Fetch(Fetch),
    FastForward(FastForward),
    TimeOf(TimeOf),
}

/// Prints a fresh timestamp, or the one of an earlier time
#[derive(Debug, clap::Args)]
pub struct Fetch {
    /// Also write it, or the last of several, to a file, for fast-forward to read
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How many, contiguous; printed as FIRST-LAST
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// The greatest timestamp of the last moment that was noted before this time instead (a minute or
    /// so before; the longer ago, the more): RFC 3339, or seconds since the epoch. Whatever got a
    /// greater one asked for it after that moment
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "count")]
    at: Option<u64>,
}

/// Prints between which times a timestamp was given
#[derive(Debug, clap::Args)]
pub struct TimeOf {
    #[arg(value_name = "TIMESTAMP", value_parser = clap::value_parser!(u64).range(1..))]
    timestamp: u64,
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
            Timestamp::TimeOf(time_of) => time_of.run(context).await,
        }
        .map_err(|failure| failure.of("timestamp"))
    }
}

impl Fetch {
    async fn run(self, context: &Context) -> Outcome {
        match self.at {
            Some(at) => self.noted(context, at).await,
            None => self.fresh(context).await,
        }
    }

    async fn noted(self, context: &Context, at: u64) -> Outcome {
        let notes = notes(context, Around::UnixMs(at)).await?;
        let Some(note) = notes.before else {
            return Err(Failure::failed(nothing_noted(at, notes.after.as_ref())));
        };
        if let Some(file) = &self.file {
            write(file, note.timestamp).map_err(Failure::failed)?;
        }
        let text = || note.timestamp.to_string();
        context.print(&json::TimestampNote::from(&note), text, text)
    }

    async fn fresh(self, context: &Context) -> Outcome {
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

impl TimeOf {
    async fn run(self, context: &Context) -> Outcome {
        let notes = notes(context, Around::Timestamp(self.timestamp)).await?;
        let after = notes.before.as_ref().and_then(|note| time(note.unix_ms));
        let before = notes.after.as_ref().and_then(|note| time(note.unix_ms));
        let text = || match (&after, &before) {
            (Some(after), Some(before)) => format!("after {after}, before {before}"),
            (Some(after), None) => format!("after {after}, or not yet"),
            (None, Some(before)) => format!("before {before}"),
            (None, None) => "nothing was noted yet".to_owned(),
        };
        let value = json::TimeOf {
            timestamp: self.timestamp,
            after_at: after.clone(),
            before_at: before.clone(),
        };
        context.print(&value, text, text)
    }
}

async fn notes(context: &Context, around: Around) -> Outcome<v1::TimestampNotesResponse> {
    let request = v1::TimestampNotesRequest {
        around: Some(around),
    };
    context
        .client
        .call(|channel| async move { TimestampsClient::new(channel).notes(request).await })
        .await
}

fn nothing_noted(at: u64, first: Option<&v1::TimestampNote>) -> Error {
    let at = time(at).unwrap_or_else(|| at.to_string());
    let first = first.and_then(|note| time(note.unix_ms));
    let why = match first {
        Some(first) => format!("the first note is of {first}"),
        None => "no timestamp has been noted yet".to_owned(),
    };
    Error::not_found(format!(
        "which timestamps were given by {at} is not known: {why}"
    ))
    .hint("It is noted once a minute while timestamps are given.")
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

//! `Timestamps`: given by the leader, from its allocator.

use std::sync::Arc;

use seawall_common::Error;
use seawall_proto::v1::{
    FastForwardRequest, FastForwardResponse, FetchTimestampRequest, FetchTimestampResponse,
    TimestampNote, TimestampNotesRequest, TimestampNotesResponse, timestamp_notes_request::Around,
    timestamps_server,
};
use tonic::{Request, Response, Status, async_trait};

use super::read;
use crate::{operation::Coordination, state::timestamps::Note, timestamps::Allocator};

const FAST_FORWARD_MAX: u64 = u64::MAX / 2;

pub struct Timestamps {
    allocator: Arc<Allocator>,
    context: Arc<Coordination>,
}

impl Timestamps {
    pub fn new(allocator: Arc<Allocator>, context: Arc<Coordination>) -> Self {
        Self { allocator, context }
    }
}

/// It can never be taken back: one mistaken number must not use all timestamps up.
fn check_leaves_enough(timestamp: u64) -> Result<(), Error> {
    if timestamp <= FAST_FORWARD_MAX {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "cannot fast-forward to {timestamp}: less than half of all timestamps would be left"
    ))
    .hint(format!("The greatest that is taken is {FAST_FORWARD_MAX}.")))
}

#[async_trait]
impl timestamps_server::Timestamps for Timestamps {
    async fn fetch(
        &self,
        request: Request<FetchTimestampRequest>,
    ) -> Result<Response<FetchTimestampResponse>, Status> {
        let count = request.into_inner().count.max(1);
        let first = self.allocator.fetch(count).await?;
        Ok(Response::new(FetchTimestampResponse { first, count }))
    }

    async fn fast_forward(
        &self,
        request: Request<FastForwardRequest>,
    ) -> Result<Response<FastForwardResponse>, Status> {
        let timestamp = request.into_inner().timestamp;
        check_leaves_enough(timestamp)?;
        let bound = self.allocator.fast_forward(timestamp).await?;
        Ok(Response::new(FastForwardResponse { bound }))
    }

    async fn notes(
        &self,
        request: Request<TimestampNotesRequest>,
    ) -> Result<Response<TimestampNotesResponse>, Status> {
        let around = request.get_ref().around;
        let around = around.ok_or_else(|| Error::invalid("neither a time nor a timestamp"))?;
        let found = read(&self.context, request.metadata(), |state| match around {
            Around::UnixMs(unix_ms) => state.timestamps.notes_at(unix_ms),
            Around::Timestamp(timestamp) => state.timestamps.notes_around_timestamp(timestamp),
        });
        let (before, after) = found.await?;
        Ok(Response::new(TimestampNotesResponse {
            before: before.map(note),
            after: after.map(note),
        }))
    }
}

fn note(note: Note) -> TimestampNote {
    TimestampNote {
        timestamp: note.timestamp,
        unix_ms: note.unix_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_forward_leaves_half_of_the_timestamps() {
        check_leaves_enough(FAST_FORWARD_MAX).unwrap();
        for timestamp in [FAST_FORWARD_MAX + 1, u64::MAX - 1] {
            assert!(check_leaves_enough(timestamp).is_err());
        }
    }
}

//! `Timestamps`: given by the leader, from its allocator.

use std::sync::Arc;

use seawall_common::Error;
use seawall_proto::v1::{
    FastForwardRequest, FastForwardResponse, FetchTimestampRequest, FetchTimestampResponse,
    timestamps_server,
};
use tonic::{Request, Response, Status, async_trait};

use crate::timestamps::Allocator;

const FAST_FORWARD_MAX: u64 = u64::MAX / 2;

pub struct Timestamps {
    allocator: Arc<Allocator>,
}

impl Timestamps {
    pub fn new(allocator: Arc<Allocator>) -> Self {
        Self { allocator }
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

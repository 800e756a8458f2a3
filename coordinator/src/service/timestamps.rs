//! `Timestamps`: given by the leader, from its allocator.

use std::sync::Arc;

use seawall_proto::v1::{
    FastForwardRequest, FastForwardResponse, FetchTimestampRequest, FetchTimestampResponse,
    timestamps_server,
};
use tonic::{Request, Response, Status, async_trait};

use crate::timestamps::Allocator;

pub struct Timestamps {
    allocator: Arc<Allocator>,
}

impl Timestamps {
    pub fn new(allocator: Arc<Allocator>) -> Self {
        Self { allocator }
    }
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
        let bound = self.allocator.fast_forward(timestamp).await?;
        Ok(Response::new(FastForwardResponse { bound }))
    }
}

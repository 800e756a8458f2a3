//! The coordinators, as this agent calls them: any that answers will do.

use std::{
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use seawall_common::{Error, Result};
use seawall_proto::v1::{self, agents_client::AgentsClient, operations_client::OperationsClient};
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// What an agent asks of the coordinator group.
#[async_trait]
pub trait Coordinator: Send + Sync {
    async fn register(&self, request: v1::RegisterRequest) -> Result<v1::RegisterResponse>;
    async fn heartbeat(&self, request: v1::HeartbeatRequest) -> Result<v1::HeartbeatResponse>;
    async fn announce(&self, request: v1::AnnounceManifestRequest) -> Result<()>;
    async fn start_operation(&self, request: v1::StartOperationRequest) -> Result<v1::Operation>;
    async fn operation(&self, id: String) -> Result<v1::Operation>;
}

/// The configured members, asked in turn, beginning with the one that answered last.
pub struct CoordinatorGroup {
    members: Vec<Channel>,
    last: AtomicUsize,
}

impl CoordinatorGroup {
    pub fn new(addresses: &[String]) -> Result<Self> {
        let members = addresses
            .iter()
            .map(|address| {
                let endpoint = Endpoint::from_shared(address.clone())
                    .map_err(|e| Error::invalid(format!("coordinators: {address:?}: {e}")))?;
                Ok(endpoint
                    .connect_timeout(CONNECT_TIMEOUT)
                    .timeout(CALL_TIMEOUT)
                    .connect_lazy())
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            members,
            last: AtomicUsize::new(0),
        })
    }

    async fn ask<T, F, Fut>(&self, call: F) -> Result<T>
    where
        F: Fn(Channel) -> Fut + Send,
        Fut: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let first = self.last.load(Ordering::Relaxed);
        let mut last_error = Error::unavailable("no coordinator is configured");
        for turn in 0..self.members.len() {
            let index = (first + turn) % self.members.len();
            let answer =
                tokio::time::timeout(CALL_TIMEOUT, call(self.members[index].clone())).await;
            last_error = match answer {
                Ok(Ok(response)) => {
                    self.last.store(index, Ordering::Relaxed);
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => Error::from(status),
                Err(_) => Error::timeout("a coordinator did not answer in time"),
            };
            if !last_error.is_retryable() {
                return Err(last_error);
            }
        }
        Err(last_error)
    }
}

#[async_trait]
impl Coordinator for CoordinatorGroup {
    async fn register(&self, request: v1::RegisterRequest) -> Result<v1::RegisterResponse> {
        self.ask(|channel| {
            let request = request.clone();
            async move { AgentsClient::new(channel).register(request).await }
        })
        .await
    }

    async fn heartbeat(&self, request: v1::HeartbeatRequest) -> Result<v1::HeartbeatResponse> {
        self.ask(|channel| {
            let request = request.clone();
            async move { AgentsClient::new(channel).heartbeat(request).await }
        })
        .await
    }

    async fn announce(&self, request: v1::AnnounceManifestRequest) -> Result<()> {
        self.ask(|channel| {
            let request = request.clone();
            async move { AgentsClient::new(channel).announce_manifest(request).await }
        })
        .await
        .map(|v1::AnnounceManifestResponse {}| ())
    }

    async fn start_operation(&self, request: v1::StartOperationRequest) -> Result<v1::Operation> {
        self.ask(|channel| {
            let request = request.clone();
            async move { OperationsClient::new(channel).start(request).await }
        })
        .await
    }

    async fn operation(&self, id: String) -> Result<v1::Operation> {
        self.ask(|channel| {
            let request = v1::GetOperationRequest { id: id.clone() };
            async move { OperationsClient::new(channel).get(request).await }
        })
        .await
    }
}

//! The coordinators, as this agent calls them.

use async_trait::async_trait;
use seawall_common::{Result, coordinators::Coordinators};
use seawall_proto::v1::{self, agents_client::AgentsClient, operations_client::OperationsClient};

/// What an agent asks of the coordinator group.
#[async_trait]
pub trait Coordinator: Send + Sync {
    async fn register(&self, request: v1::RegisterRequest) -> Result<v1::RegisterResponse>;
    async fn heartbeat(&self, request: v1::HeartbeatRequest) -> Result<v1::HeartbeatResponse>;
    async fn announce(&self, request: v1::AnnounceManifestRequest) -> Result<()>;
    async fn start_operation(&self, request: v1::StartOperationRequest) -> Result<v1::Operation>;
    async fn operation(&self, id: String) -> Result<v1::Operation>;
}

#[async_trait]
impl Coordinator for Coordinators {
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

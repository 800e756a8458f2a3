//! The coordinators, as this agent calls them.

use async_trait::async_trait;
use seawall_common::{
    Error, Result,
    coordinators::{self, Coordinators},
};
use seawall_proto::v1::{self, agents_client::AgentsClient, operations_client::OperationsClient};

/// What an agent asks of the coordinator group.
#[async_trait]
pub trait Coordinator: Send + Sync {
    async fn register(&self, request: v1::RegisterRequest) -> Result<v1::RegisterResponse>;
    async fn session(&self, begin: v1::BeginSession) -> Result<Box<dyn Session>>;
    async fn announce(&self, request: v1::AnnounceManifestRequest) -> Result<()>;
    async fn start_operation(&self, request: v1::StartOperationRequest) -> Result<v1::Operation>;
    async fn operation(&self, id: String) -> Result<v1::Operation>;
}

/// The talk with it, for as long as it goes on; dropped, it breaks off.
#[async_trait]
pub trait Session: Send {
    /// Says how the tablet is, and answers all that is known of it. After an error it is over.
    async fn heartbeat(&mut self, heartbeat: v1::Heartbeat) -> Result<v1::HeartbeatAnswer>;
    /// Says that this agent ends.
    async fn leave(self: Box<Self>) -> Result<()>;
}

#[async_trait]
impl Session for coordinators::Session {
    async fn heartbeat(&mut self, heartbeat: v1::Heartbeat) -> Result<v1::HeartbeatAnswer> {
        let answer = coordinators::Session::heartbeat(self, heartbeat).await;
        answer.map_err(Error::from)
    }

    async fn leave(self: Box<Self>) -> Result<()> {
        coordinators::Session::leave(*self)
            .await
            .map_err(Error::from)
    }
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

    async fn session(&self, begin: v1::BeginSession) -> Result<Box<dyn Session>> {
        let session = self.ask(|channel| coordinators::Session::begin(channel, begin.clone()));
        Ok(Box::new(session.await?))
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

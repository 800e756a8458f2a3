//! The gRPC service that other members call: checks who calls, and hands over to the Raft library.

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use seawall_common::{Error, Result};
use seawall_proto::v1::{RaftRequest, RaftResponse, raft_server};
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{Identity, Raft, identity::Hello, network::INSTANCE_KEY};

#[derive(Clone)]
pub struct RaftService {
    raft: Raft,
    identity: Identity,
    stop: CancellationToken,
}

impl RaftService {
    pub(super) fn new(raft: Raft, identity: Identity, stop: CancellationToken) -> Self {
        Self {
            raft,
            identity,
            stop,
        }
    }

    async fn question<T: DeserializeOwned>(&self, request: RaftRequest) -> Result<T, Status> {
        if let Err(error) = self.identity.check_call(&request).await {
            let mut refusal = Status::from(error);
            if let Ok(instance) = self.identity.sender().instance_id.parse() {
                refusal.metadata_mut().insert(INSTANCE_KEY, instance);
            }
            return Err(refusal);
        }
        serde_json::from_slice(&request.payload).map_err(|e| {
            Error::invalid(format!("cannot read a message between members: {e}")).into()
        })
    }

    fn answer<T: Serialize>(&self, answer: &T) -> Result<RaftResponse, Status> {
        let payload = serde_json::to_vec(answer)
            .map_err(|e| Error::internal(format!("cannot write an answer: {e}")))?;
        Ok(RaftResponse {
            sender: Some(self.identity.sender()),
            payload,
        })
    }

    async fn append(&self, request: RaftRequest) -> Result<RaftResponse, Status> {
        let question = self.question(request).await?;
        self.answer(&self.raft.append_entries(question).await)
    }
}

#[async_trait]
impl raft_server::Raft for RaftService {
    async fn append_entries(
        &self,
        request: Request<RaftRequest>,
    ) -> Result<Response<RaftResponse>, Status> {
        self.append(request.into_inner()).await.map(Response::new)
    }

    type AppendStreamStream = BoxStream<'static, Result<RaftResponse, Status>>;

    async fn append_stream(
        &self,
        requests: Request<Streaming<RaftRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let service = self.clone();
        let answers = requests.into_inner().and_then(move |request| {
            let service = service.clone();
            async move { service.append(request).await }
        });
        let answers = answers.take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(answers.boxed()))
    }

    async fn vote(&self, request: Request<RaftRequest>) -> Result<Response<RaftResponse>, Status> {
        let question = self.question(request.into_inner()).await?;
        self.answer(&self.raft.vote(question).await)
            .map(Response::new)
    }

    async fn install_snapshot(
        &self,
        request: Request<RaftRequest>,
    ) -> Result<Response<RaftResponse>, Status> {
        let question = self.question(request.into_inner()).await?;
        self.answer(&self.raft.install_snapshot(question).await)
            .map(Response::new)
    }

    async fn hello(&self, request: Request<RaftRequest>) -> Result<Response<RaftResponse>, Status> {
        let sender = request.get_ref().sender.as_ref();
        let is_of_group = sender.is_some_and(|sender| !sender.group_id.is_empty());
        let hello: Hello = self.question(request.into_inner()).await?;
        self.identity.learn(&hello, is_of_group).await?;
        self.answer(&self.identity.hello()).map(Response::new)
    }
}

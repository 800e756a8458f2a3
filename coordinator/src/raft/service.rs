//! The gRPC service that other members call: checks who calls, and hands over to the Raft library.

use seawall_common::{Error, Result};
use seawall_proto::v1::{RaftRequest, RaftResponse, raft_server};
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Request, Response, Status, async_trait};

use super::{Identity, Raft, identity::Hello, network::INSTANCE_KEY};

#[derive(Clone)]
pub struct RaftService {
    raft: Raft,
    identity: Identity,
}

impl RaftService {
    pub(super) fn new(raft: Raft, identity: Identity) -> Self {
        Self { raft, identity }
    }

    async fn question<T: DeserializeOwned>(
        &self,
        request: Request<RaftRequest>,
    ) -> Result<T, Status> {
        let request = request.into_inner();
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

    fn answer<T: Serialize>(&self, answer: &T) -> Result<Response<RaftResponse>, Status> {
        let payload = serde_json::to_vec(answer)
            .map_err(|e| Error::internal(format!("cannot write an answer: {e}")))?;
        Ok(Response::new(RaftResponse {
            sender: Some(self.identity.sender()),
            payload,
        }))
    }
}

#[async_trait]
impl raft_server::Raft for RaftService {
    async fn append_entries(
        &self,
        request: Request<RaftRequest>,
    ) -> Result<Response<RaftResponse>, Status> {
        let question = self.question(request).await?;
        self.answer(&self.raft.append_entries(question).await)
    }

    async fn vote(&self, request: Request<RaftRequest>) -> Result<Response<RaftResponse>, Status> {
        let question = self.question(request).await?;
        self.answer(&self.raft.vote(question).await)
    }

    async fn install_snapshot(
        &self,
        request: Request<RaftRequest>,
    ) -> Result<Response<RaftResponse>, Status> {
        let question = self.question(request).await?;
        self.answer(&self.raft.install_snapshot(question).await)
    }

    async fn hello(&self, request: Request<RaftRequest>) -> Result<Response<RaftResponse>, Status> {
        let sender = request.get_ref().sender.as_ref();
        let is_of_group = sender.is_some_and(|sender| !sender.group_id.is_empty());
        let hello: Hello = self.question(request).await?;
        self.identity.learn(&hello, is_of_group).await?;
        self.answer(&self.identity.hello())
    }
}

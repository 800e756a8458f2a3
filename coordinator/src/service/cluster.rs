//! `Cluster`: what this member itself knows of the group; never passed on.

use std::sync::Arc;

use seawall_proto::v1::{ClusterStatusRequest, ClusterStatusResponse, Member, cluster_server};
use tonic::{Request, Response, Status, async_trait};

use crate::context::{Context, Ownership};

pub struct Cluster {
    context: Arc<Context>,
}

impl Cluster {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[async_trait]
impl cluster_server::Cluster for Cluster {
    async fn status(
        &self,
        _request: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        let Context {
            node, repository, ..
        } = &*self.context;
        let leadership = *node.leadership().borrow();
        let members = node.members().into_iter().map(|member| Member {
            id: member.id,
            address: member.address,
            voter: member.is_voter,
            matched_index: member.matched_index,
        });
        Ok(Response::new(ClusterStatusResponse {
            group_id: node
                .look(|state| state.group_id.clone())
                .unwrap_or_default(),
            answered_by: node.id(),
            leader: leadership.leader.unwrap_or_default(),
            term: leadership.term,
            last_applied: node.last_applied(),
            members: members.collect(),
            repository_url: repository.url().to_owned(),
            repository_id: repository.id().to_owned(),
            repository_refusal: match self.context.ownership() {
                Ownership::Ours => String::new(),
                Ownership::Refused(error) => error.to_string(),
                Ownership::Unknown => "not claimed yet".to_owned(),
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }
}

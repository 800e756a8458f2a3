//! `Cluster`: what this member itself knows of the group, and what the others say; never passed on,
//! so that it is answered also when nobody leads.

use std::{sync::Arc, time::Duration};

use seawall_common::{Error, access::Lasts, error::one_line};
use seawall_proto::v1::{
    ClusterStatusRequest, ClusterStatusResponse, GroupStatusRequest, GroupStatusResponse, Member,
    MemberStatus, cluster_client::ClusterClient, cluster_server,
};
use tonic::{Request, Response, Status, async_trait};

use crate::{
    context::{Context, Ownership},
    data_dir::usage,
    platform::blocking,
};

/// How long another member is given to speak for itself.
const ASK_LIMIT: Duration = Duration::from_secs(1);

pub struct Cluster {
    context: Arc<Context>,
}

impl Cluster {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    async fn own(&self) -> ClusterStatusResponse {
        let Context {
            node,
            repository,
            settings,
            ..
        } = &*self.context;
        let leadership = *node.leadership().borrow();
        let members = node.members().into_iter().map(|member| Member {
            id: member.id,
            address: member.address,
            voter: member.is_voter,
            matched_index: member.matched_index,
            silent_since_unix_ms: member.silent_since_unix_ms,
        });
        let data_dir = settings.data_dir.clone();
        let usage = blocking(move || Ok(usage(&data_dir))).await;
        let usage = usage.unwrap_or_default();
        let looked = self.context.looked();
        let (group_id, timestamp_bound, timestamp_recorded) = node.look(|state| {
            let timestamps = &state.timestamps;
            let group_id = state.group_id.clone().unwrap_or_default();
            (group_id, timestamps.bound(), timestamps.recorded())
        });
        ClusterStatusResponse {
            group_id,
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
            last_log_index: node.last_log_index(),
            log_bytes: usage.log_bytes,
            snapshot_bytes: usage.snapshot_bytes,
            disk_free_bytes: usage.free_bytes,
            repository_error: looked.error.map_or_else(String::new, |e| e.to_string()),
            repository_looked_unix_ms: looked.at_unix_ms,
            timestamp_bound,
            timestamp_recorded,
        }
    }

    /// What a member says itself, as long as it is that member of this group.
    async fn ask(&self, member: &Member, group_id: &str) -> Result<ClusterStatusResponse, Error> {
        let channel = self.context.node.channel_to(member.id, Lasts::ACall)?;
        let mut client = ClusterClient::new(channel);
        let asked = client.status(ClusterStatusRequest {});
        let own = tokio::time::timeout(ASK_LIMIT, asked)
            .await
            .map_err(|_| Error::timeout(format!("no answer within {ASK_LIMIT:?}")))?
            .map_err(Error::from)?
            .into_inner();
        let is_another_group =
            !group_id.is_empty() && !own.group_id.is_empty() && own.group_id != group_id;
        if is_another_group || own.answered_by != member.id {
            return Err(Error::conflict(format!(
                "member {} of group {} answers there",
                own.answered_by, own.group_id
            )));
        }
        Ok(own)
    }
}

#[async_trait]
impl cluster_server::Cluster for Cluster {
    async fn status(
        &self,
        _request: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        Ok(Response::new(self.own().await))
    }

    async fn group_status(
        &self,
        _request: Request<GroupStatusRequest>,
    ) -> Result<Response<GroupStatusResponse>, Status> {
        let asked = self.own().await;
        let answers = asked.members.iter().map(async |member| {
            let own = match member.id == asked.answered_by {
                true => Ok(asked.clone()),
                false => self.ask(member, &asked.group_id).await,
            };
            MemberStatus {
                member: Some(member.clone()),
                error: own
                    .as_ref()
                    .err()
                    .map_or_else(String::new, |e| one_line(&e.to_string())),
                own: own.ok(),
            }
        });
        let members = futures::future::join_all(answers).await;
        Ok(Response::new(GroupStatusResponse {
            asked: Some(asked),
            members,
        }))
    }
}

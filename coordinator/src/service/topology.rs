//! Tablets, shards and their primaries.

use std::sync::Arc;

use prost::Message as _;
use seawall_common::{
    Error,
    ids::{Alias, ShardId},
};
use seawall_proto::v1::{self, topology_server::Topology};
use tonic::{Request, Response, Status};

use super::{convert, read, tablet_view, unexpected, watch_serving};
use crate::{
    agents::{filter::Filter, heartbeats::Seen},
    operation::Coordination,
    state::{Command, Response as Answer, State, topology},
};

/// Tablets of a page, when nothing is said, and at most.
const PAGE_SIZE: usize = 500;
const PAGE_SIZE_MAX: usize = 1000;
/// Bytes after which a page ends, whatever its tablets have to say.
const PAGE_BYTES: usize = 1024 * 1024;

pub struct TopologyService {
    pub context: Arc<Coordination>,
}

/// Which page of the tablets is asked for.
struct Page {
    filter: Filter,
    size: usize,
    /// The last tablet of the page before.
    after: Option<Alias>,
}

impl Page {
    fn new(asked: &v1::ListTabletsRequest) -> seawall_common::Result<Self> {
        let size = match asked.page_size {
            0 => PAGE_SIZE,
            size => usize::try_from(size).map_or(PAGE_SIZE_MAX, |size| size.min(PAGE_SIZE_MAX)),
        };
        let after = match asked.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| {
                Error::invalid("the page_token is none that ListTablets has answered")
                    .hint("Take next_page_token of the page before, or leave it out to begin anew.")
            })?),
        };
        Ok(Self {
            filter: Filter::new(&asked.keyspace, &asked.shard)?,
            size,
            after,
        })
    }
}

impl TopologyService {
    fn page(&self, state: &State, asked: &Page) -> v1::ListTabletsResponse {
        let mut page = v1::ListTabletsResponse::default();
        let mut bytes = 0;
        let behind = state.topology.tablets_behind(asked.after.as_ref());
        for tablet in behind.filter(|tablet| asked.filter.takes(&tablet.shard)) {
            if page.tablets.len() == asked.size || bytes >= PAGE_BYTES {
                let last = page.tablets.last();
                page.next_page_token = last.map_or_else(String::new, |last| last.alias.clone());
                break;
            }
            let tablet = tablet_view::tablet(state, &self.context.heartbeats, tablet);
            bytes += tablet.encoded_len();
            page.tablets.push(tablet);
        }
        page
    }

    async fn propose_for_tablet(&self, command: topology::Command) -> Result<v1::Tablet, Status> {
        let answer = self
            .context
            .group
            .propose(Command::Topology(command))
            .await?;
        match answer {
            Answer::Tablet(tablet) => Ok(self
                .context
                .group
                .look(|state| tablet_view::tablet(state, &self.context.heartbeats, &tablet))),
            other => Err(unexpected(&other).into()),
        }
    }
}

#[tonic::async_trait]
impl Topology for TopologyService {
    async fn init_tablet(
        &self,
        request: Request<v1::InitTabletRequest>,
    ) -> Result<Response<v1::Tablet>, Status> {
        let request = request.into_inner();
        let command = topology::Command::Init {
            alias: request.alias.parse()?,
            shard: ShardId::from_proto(request.shard.as_ref())?,
            tablet_type: convert::tablet_type_from(request.r#type)?,
        };
        Ok(Response::new(self.propose_for_tablet(command).await?))
    }

    async fn remove_tablet(
        &self,
        request: Request<v1::RemoveTabletRequest>,
    ) -> Result<Response<v1::RemoveTabletResponse>, Status> {
        let alias: Alias = request.into_inner().alias.parse()?;
        let group = &self.context.group;
        let instance = group
            .read(|state| state.topology.tablet(&alias).map(|t| t.instance.clone()))
            .await??;
        let seen = match instance.map(|i| self.context.heartbeats.seen(&alias, &i)) {
            None | Some(Seen::No) => false,
            Some(Seen::Yes) => true,
            Some(Seen::Unknown) => return Err(too_young(&alias).into()),
        };
        let remove = topology::Command::Remove {
            alias: alias.clone(),
            seen,
        };
        group.propose(Command::Topology(remove)).await?;
        self.context.heartbeats.forget(&alias);
        Ok(Response::new(v1::RemoveTabletResponse {}))
    }

    async fn list_tablets(
        &self,
        request: Request<v1::ListTabletsRequest>,
    ) -> Result<Response<v1::ListTabletsResponse>, Status> {
        let asked = Page::new(request.get_ref())?;
        let page = read(&self.context, request.metadata(), |state| {
            self.page(state, &asked)
        });
        Ok(Response::new(page.await?))
    }

    async fn change_tablet_type(
        &self,
        request: Request<v1::ChangeTabletTypeRequest>,
    ) -> Result<Response<v1::Tablet>, Status> {
        let request = request.into_inner();
        let tablet_type = convert::tablet_type_from(request.r#type)?
            .ok_or_else(|| Error::invalid("no tablet type is given"))?;
        let command = topology::Command::ChangeType {
            alias: request.alias.parse()?,
            tablet_type,
        };
        Ok(Response::new(self.propose_for_tablet(command).await?))
    }

    async fn get_history(
        &self,
        request: Request<v1::GetHistoryRequest>,
    ) -> Result<Response<v1::GetHistoryResponse>, Status> {
        let shard = ShardId::from_proto(request.get_ref().shard.as_ref())?;
        let history = read(&self.context, request.metadata(), |state| {
            if !state.topology.shards().contains(&shard) {
                return Err(unknown_shard(&shard));
            }
            let epochs = state.topology.line(&shard).iter().map(convert::epoch);
            Ok(v1::GetHistoryResponse {
                epochs: epochs.collect(),
            })
        });
        Ok(Response::new(history.await??))
    }

    type WatchServingStream = watch_serving::Updates;

    async fn watch_serving(
        &self,
        request: Request<v1::WatchServingRequest>,
    ) -> Result<Response<Self::WatchServingStream>, Status> {
        let asked = request.into_inner();
        let filter = Filter::new(&asked.keyspace, &asked.shard)?;
        self.context.group.prove_leadership().await?;
        let updates = watch_serving::updates(self.context.clone(), filter);
        Ok(Response::new(updates))
    }
}

pub fn unknown_shard(shard: &ShardId) -> Error {
    Error::not_found(format!("no shard {shard}"))
        .hint("ListTablets shows the tablets of all shards that are known.")
}

pub fn too_young(alias: &Alias) -> Error {
    Error::unavailable(format!(
        "the leader has just changed: whether {alias} is running is not known yet"
    ))
    .hint("Try again in a few seconds.")
}

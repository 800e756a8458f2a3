//! Tablets, shards and their primaries.

use std::{sync::Arc, time::Duration};

use seawall_common::{
    Error,
    ids::{Alias, ShardId, check_keyspace},
};
use seawall_proto::v1::{self, topology_server::Topology};
use tonic::{Request, Response, Status};

use super::{
    convert, read, tablet_view, unexpected,
    watch::{self, Look, Updates},
};
use crate::{
    agents::heartbeats::Seen,
    operation::Coordination,
    state::{Command, Response as Answer, State, topology},
};

/// How often it is looked whether all agents have been heard.
const HEARD_POLL: Duration = Duration::from_millis(100);

pub struct TopologyService {
    pub context: Arc<Coordination>,
}

/// Which tablets are asked for.
enum Filter {
    All,
    Keyspace(String),
    Shard(ShardId),
}

impl Filter {
    fn new(keyspace: &str, shard: &str) -> seawall_common::Result<Self> {
        match (keyspace, shard) {
            ("", "") => Ok(Filter::All),
            ("", shard) => Err(Error::invalid(format!(
                "shard {shard:?} is named without its keyspace"
            ))),
            (keyspace, "") => {
                check_keyspace(keyspace)?;
                Ok(Filter::Keyspace(keyspace.to_owned()))
            }
            (keyspace, shard) => Ok(Filter::Shard(ShardId::new(keyspace, shard)?)),
        }
    }

    fn takes(&self, shard: &ShardId) -> bool {
        match self {
            Filter::All => true,
            Filter::Keyspace(keyspace) => shard.keyspace() == keyspace,
            Filter::Shard(wanted) => shard == wanted,
        }
    }
}

impl TopologyService {
    fn tablets(&self, state: &State, filter: &Filter) -> Vec<v1::Tablet> {
        let tablets = state.topology.tablets();
        tablets
            .filter(|tablet| filter.takes(&tablet.shard))
            .map(|tablet| tablet_view::tablet(state, &self.context.heartbeats, tablet))
            .collect()
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
        let asked = request.get_ref();
        let filter = Filter::new(&asked.keyspace, &asked.shard)?;
        let tablets = read(&self.context, request.metadata(), |state| {
            self.tablets(state, &filter)
        });
        let tablets = tablets.await?;
        Ok(Response::new(v1::ListTabletsResponse { tablets }))
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

    type WatchServingStream = Updates<v1::ServingGraph>;

    async fn watch_serving(
        &self,
        request: Request<v1::WatchServingRequest>,
    ) -> Result<Response<Self::WatchServingStream>, Status> {
        let asked = request.into_inner();
        let filter = Filter::new(&asked.keyspace, &asked.shard)?;
        self.context.group.prove_leadership().await?;
        self.until_heard(&filter).await;
        let updates = watch::changes(self.context.clone(), None, move |context| {
            let tablets = context.group.look(|state| {
                let tablets = state.topology.tablets();
                tablets
                    .filter(|tablet| filter.takes(&tablet.shard))
                    .filter(|tablet| {
                        let status = context.heartbeats.seen_status(&tablet.alias);
                        status.is_some_and(|status| status.serving)
                    })
                    .map(|tablet| v1::Tablet {
                        // What moves all the time would make every look a change.
                        status: None,
                        last_seen_unix_ms: None,
                        ..tablet_view::tablet(state, &context.heartbeats, tablet)
                    })
                    .collect()
            });
            Ok(Look {
                message: v1::ServingGraph { tablets },
                is_last: false,
            })
        });
        Ok(Response::new(updates))
    }
}

impl TopologyService {
    /// A new leader has not heard the agents yet: what it would tell first is that nobody serves.
    async fn until_heard(&self, filter: &Filter) {
        let heartbeats = &self.context.heartbeats;
        while heartbeats.is_young() && !self.all_are_heard(filter) {
            tokio::time::sleep(HEARD_POLL).await;
        }
    }

    fn all_are_heard(&self, filter: &Filter) -> bool {
        self.context.group.look(|state| {
            let mut tablets = state.topology.tablets();
            tablets.all(|tablet| {
                let is_heard = self.context.heartbeats.heard(&tablet.alias).is_some();
                is_heard || tablet.instance.is_none() || !filter.takes(&tablet.shard)
            })
        })
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

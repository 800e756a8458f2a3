//! What agents tell the coordinator.

use std::sync::Arc;

use seawall_common::{
    Error,
    access::Caller,
    clock::now_unix_ms,
    ids::{Alias, BackupName, OperationId, ShardId},
};
use seawall_proto::v1::{self, agents_server::Agents};
use tonic::{Request, Response, Status, Streaming};

use super::{check_given, check_text, convert, session, topology::too_young};
use crate::{
    agents::heartbeats::Seen,
    operation::Coordination,
    state::{
        Command, catalogue,
        topology::{self, DatabaseAddress, Registration, Tablet},
    },
};

pub struct AgentsService {
    pub context: Arc<Coordination>,
}

fn database(
    address: Option<&v1::DatabaseAddress>,
) -> seawall_common::Result<Option<DatabaseAddress>> {
    let Some(address) = address else {
        return Ok(None);
    };
    check_given("database host", &address.host)?;
    let port = u16::try_from(address.port)
        .map_err(|_| Error::invalid(format!("{} is not a port", address.port)))?;
    Ok(Some(DatabaseAddress {
        host: address.host.clone(),
        port,
        server_id: address.server_id,
    }))
}

fn check_address(address: &str) -> seawall_common::Result<()> {
    check_given("agent address", address)?;
    let is_good = address
        .parse::<http::Uri>()
        .is_ok_and(|uri| uri.scheme().is_some() && uri.authority().is_some());
    if is_good {
        return Ok(());
    }
    Err(
        Error::invalid(format!("malformed agent address {address:?}"))
            .hint("It is written http://host:port."),
    )
}

impl AgentsService {
    /// Whether another instance of this alias is there: a fact for the log.
    async fn other_seen(&self, alias: &Alias, instance: &str) -> seawall_common::Result<bool> {
        let known = self
            .context
            .group
            .read(|state| {
                let tablet = state.topology.tablet(alias).ok();
                tablet.and_then(|tablet| tablet.instance.clone())
            })
            .await?;
        match known {
            Some(known) if known != instance => match self.context.heartbeats.seen(alias, &known) {
                Seen::Yes => Ok(true),
                Seen::No => Ok(false),
                Seen::Unknown => Err(too_young(alias)),
            },
            _ => Ok(false),
        }
    }

    /// Two agents that are heard cannot be reached at one address, nor have one database.
    fn check_addresses(&self, new: &Registration) -> Result<(), Error> {
        let heartbeats = &self.context.heartbeats;
        self.context.group.look(|state| {
            let others = state.topology.tablets();
            for other in others.filter(|other| other.alias != new.alias) {
                match check_other(new, other) {
                    Err(error) if heartbeats.is_there(&other.alias) => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        })
    }

    /// Whether the log has it already: what was read before was the newest.
    fn is_known(&self, new: &Registration) -> bool {
        self.context.group.look(|state| {
            let known = state.topology.tablet(&new.alias);
            known.is_ok_and(|tablet| tablet.is_as(new))
        })
    }
}

fn check_other(new: &Registration, other: &Tablet) -> Result<(), Error> {
    let (alias, taken) = (&new.alias, &other.alias);
    if other.agent_address == new.agent_address {
        return Err(Error::conflict(format!(
            "{alias} says that its agent is reached at {}, where that of {taken} is",
            new.agent_address
        ))
        .hint("Give each agent a listen or advertise_address of its own."));
    }
    match (&new.database, &other.database) {
        (Some(own), Some(others)) if (&own.host, own.port) == (&others.host, others.port) => {
            Err(Error::conflict(format!(
                "{alias} says that its database is {}:{}, which is that of {taken}",
                own.host, own.port
            ))
            .hint("One agent has a database; engine.replication.host and port are what others reach it by."))
        }
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl Agents for AgentsService {
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let caller = Caller::of_request(&request);
        let request = request.into_inner();
        caller.check_alias(&request.alias)?;
        let alias: Alias = request.alias.parse()?;
        check_given("instance", &request.instance)?;
        check_given("engine", &request.engine)?;
        check_address(&request.agent_address)?;
        let registration = Registration {
            shard: ShardId::from_proto(request.shard.as_ref())?,
            agent_address: request.agent_address,
            database: database(request.database.as_ref())?,
            engine: request.engine,
            writer_key: convert::writer_key(&request.writer_key)?,
            replace: request.replace,
            other_seen: self.other_seen(&alias, &request.instance).await?,
            instance: request.instance,
            alias,
        };
        self.check_addresses(&registration)?;
        if !self.is_known(&registration) {
            let register = topology::Command::Register(registration.clone());
            let group = &self.context.group;
            group.propose(Command::Topology(register)).await?;
        }
        // It is there, so that a second instance that registers next is refused at once.
        let Registration {
            alias, instance, ..
        } = &registration;
        let heartbeats = &self.context.heartbeats;
        heartbeats.meet(alias, instance, now_unix_ms());
        Ok(Response::new(v1::RegisterResponse {
            group_id: self.context.group_id()?,
            repository_id: self.context.store.id().to_owned(),
        }))
    }

    type SessionStream = session::Answers;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<session::Answers>, Status> {
        let caller = Caller::of_request(&request);
        let answers = session::begin(self.context.clone(), caller, request.into_inner());
        Ok(Response::new(answers.await?))
    }

    async fn announce_manifest(
        &self,
        request: Request<v1::AnnounceManifestRequest>,
    ) -> Result<Response<v1::AnnounceManifestResponse>, Status> {
        let caller = Caller::of_request(&request);
        let request = request.into_inner();
        let operation: OperationId = request.operation_id.parse()?;
        let alias = self.context.group.look(|state| {
            let known = state.operations.get(&operation).ok();
            known.and_then(|known| known.spec.tablet().cloned())
        });
        // Of an operation that is not known the state machine says so.
        if let Some(alias) = alias {
            caller.check_alias(&alias.to_string())?;
        }
        let backup = request
            .backup
            .ok_or_else(|| Error::invalid("an announcement without a backup"))?;
        check_text("backup name", &backup.name)?;
        let name: BackupName = backup.name.parse()?;
        let announce = catalogue::Command::Announce {
            operation,
            attempt: request.attempt,
            token: request.token,
            name,
            facts: Box::new(convert::facts(&backup)?),
        };
        self.context
            .group
            .propose(Command::Catalogue(announce))
            .await?;
        Ok(Response::new(v1::AnnounceManifestResponse {}))
    }
}

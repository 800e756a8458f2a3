//! Agents without databases: they register, are heard, and carry steps out in a moment, if nothing
//! goes wrong with the call. As real ones do, they refuse a term that is lower than one they know.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use seawall_common::coordinators::Session;
use seawall_coordinator::sim::incoming;
use seawall_proto::v1::{
    self,
    agent_server::{Agent, AgentServer},
    agents_client::AgentsClient,
    execute_request::Step,
    execute_update::Update,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, transport::Server};
use turmoil::net::TcpListener;

use seawall_tests::proof::{
    group::{Answer, Group},
    history::History,
};

use crate::{catalogue, copies::Copies};

pub const HOST: &str = "agents";
pub const KEYSPACE: &str = "commerce";
pub const SHARD: &str = "0";
const FIRST_PORT: u16 = 7611;
const BEAT: Duration = Duration::from_secs(1);
const LOST_PER_MILLE: u32 = 30;
pub const POSITION: &str = "0-100-7";

pub fn aliases() -> [String; 3] {
    [100, 101, 102].map(|uid| format!("zone1-{uid}"))
}

pub fn shard() -> v1::ShardRef {
    v1::ShardRef {
        keyspace: KEYSPACE.to_owned(),
        shard: SHARD.to_owned(),
    }
}

/// A tablet that is backed up all the time, in a shard of its own, and that shard's primary.
pub const BACKED_UP: &str = "zone1-200";
pub const ITS_PRIMARY: &str = "zone1-201";

pub fn backed_up_shard() -> v1::ShardRef {
    v1::ShardRef {
        keyspace: "catalogue".to_owned(),
        shard: "0".to_owned(),
    }
}

struct SimAgent {
    highest_term: AtomicU64,
    copies: Copies,
}

/// All of them, on one host.
pub async fn run(
    group: Group,
    history: History<catalogue::Named, catalogue::Ret>,
) -> turmoil::Result {
    let of_shards = aliases().into_iter().map(|alias| (alias, shard()));
    let others = [BACKED_UP, ITS_PRIMARY].map(|alias| (alias.to_owned(), backed_up_shard()));
    let all = of_shards.chain(others);
    for (port, (alias, shard)) in (FIRST_PORT..).zip(all) {
        let listener = TcpListener::bind(("0.0.0.0", port)).await?;
        let agent = SimAgent {
            highest_term: AtomicU64::new(0),
            copies: Copies::new(group.clone(), history.clone()),
        };
        let server = Server::builder().add_service(AgentServer::new(agent));
        tokio::spawn(server.serve_with_incoming(incoming(listener)));
        tokio::spawn(be_heard(group.clone(), alias, shard, port));
    }
    std::future::pending().await
}

async fn be_heard(group: Group, alias: String, shard: v1::ShardRef, port: u16) {
    let mut is_known = false;
    loop {
        if is_known {
            is_known = !matches!(talk(&group, &alias).await, Answer::Refused(_));
        } else {
            let registered = register(&group, &alias, &shard, port).await;
            is_known = matches!(registered, Answer::Done(_));
        }
        tokio::time::sleep(BEAT).await;
    }
}

/// Until the session breaks off.
async fn talk(group: &Group, alias: &str) -> Answer<()> {
    let begin = v1::BeginSession {
        alias: alias.to_owned(),
        instance: format!("instance of {alias}"),
    };
    let begun = group.call(|channel| Session::begin(channel, begin.clone()));
    let mut session = match begun.await {
        Answer::Done(session) => session,
        Answer::Refused(error) => return Answer::Refused(error),
        Answer::Unknown => return Answer::Unknown,
    };
    while session.heartbeat(beat()).await.is_ok() {
        tokio::time::sleep(BEAT).await;
    }
    Answer::Unknown
}

async fn register(
    group: &Group,
    alias: &str,
    shard: &v1::ShardRef,
    port: u16,
) -> Answer<v1::RegisterResponse> {
    let request = v1::RegisterRequest {
        alias: alias.to_owned(),
        shard: Some(shard.clone()),
        instance: format!("instance of {alias}"),
        agent_address: format!("http://{HOST}:{port}"),
        database: Some(v1::DatabaseAddress {
            host: "127.0.0.1".to_owned(),
            port: u32::from(port),
            server_id: u32::from(port),
        }),
        engine: "mariadb".to_owned(),
        ..v1::RegisterRequest::default()
    };
    let call = |channel| {
        let request = request.clone();
        async move { AgentsClient::new(channel).register(request).await }
    };
    group.call(call).await
}

fn beat() -> v1::Heartbeat {
    v1::Heartbeat {
        status: Some(v1::TabletStatus {
            database_running: true,
            position: POSITION.to_owned(),
            replicating: true,
            lag_ms: Some(0),
            serving: true,
            caught_up: true,
            ..v1::TabletStatus::default()
        }),
        holds: Vec::new(),
    }
}

type Updates = std::pin::Pin<Box<dyn Stream<Item = Result<v1::ExecuteUpdate, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for SimAgent {
    type ExecuteStream = Updates;

    async fn execute(
        &self,
        request: Request<v1::ExecuteRequest>,
    ) -> Result<Response<Updates>, Status> {
        let term = request.get_ref().term;
        if term < self.highest_term.fetch_max(term, Relaxed) {
            return Err(Status::aborted("fenced: a higher term is known"));
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(1..200))).await;
        if rand::random_range(0..1000) < LOST_PER_MILLE {
            return Err(Status::unavailable("lost by the simulated agent"));
        }
        let backup = match &request.get_ref().step {
            Some(Step::Copy(copy)) => Some(self.copies.copy(request.get_ref(), copy).await?),
            _ => None,
        };
        let done = v1::StepDone {
            position: POSITION.to_owned(),
            backup,
            ..v1::StepDone::default()
        };
        let update = v1::ExecuteUpdate {
            update: Some(Update::Done(done)),
        };
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(update)))))
    }

    async fn status(
        &self,
        _request: Request<v1::AgentStatusRequest>,
    ) -> Result<Response<v1::TabletStatus>, Status> {
        Ok(Response::new(v1::TabletStatus::default()))
    }

    async fn transfer_status(
        &self,
        _request: Request<v1::TransferStatusRequest>,
    ) -> Result<Response<v1::TransferReport>, Status> {
        Err(Status::unimplemented("nobody asks for it"))
    }

    async fn set_throttle(
        &self,
        _request: Request<v1::SetThrottleRequest>,
    ) -> Result<Response<v1::TransferReport>, Status> {
        Err(Status::unimplemented("nobody asks for it"))
    }

    async fn plan_fetch(
        &self,
        _request: Request<v1::PlanFetchRequest>,
    ) -> Result<Response<v1::FetchPlan>, Status> {
        Err(Status::unimplemented("nobody asks for it"))
    }
}

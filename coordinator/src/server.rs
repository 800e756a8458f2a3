//! Puts a coordinator together, serves, and ends it cleanly.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::Stream;
use seawall_common::{
    Error, Result,
    access::Access,
    coordinators,
    error::chain,
    repository::Repository,
    tls::{ConnectionLimits, Dialer, LOOK_EVERY, Listener, Port, Tls, TlsNumbers},
};
use seawall_proto::v1::{
    agents_server::AgentsServer, catalogue_server::CatalogueServer, cluster_server::ClusterServer,
    locks_server::LocksServer, members_server::MembersServer, operations_server::OperationsServer,
    raft_server::RaftServer, retention_server::RetentionServer, schedules_server::SchedulesServer,
    timestamps_server::TimestampsServer, topology_server::TopologyServer,
    transfers_server::TransfersServer,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Server, server::Connected},
};

use crate::{
    agents::client::GrpcAgents,
    config::Settings,
    context::Context,
    data_dir::DataDir,
    forward::ForwardLayer,
    http::{self, Metrics},
    office,
    operation::{Coordination, Patience, runner},
    raft::{Compaction, MESSAGE_BYTES_MAX, Node, NodeOptions},
    service,
    timestamps::{AHEAD, Allocator, Recorder, keep_bounds_ahead, note_times},
};

/// Bytes that may have come and not been read: of one call, and of all on one connection. Who says
/// more than is listened to must not hold up others on another member's connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// All headers of a call together.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Beyond what one connection may have under way: so that whoever comes then is told so, and is
/// not left waiting.
const SPARE_STREAMS: u32 = 128;
/// How long calls under way may take when the process is asked to end.
const STOP_GRACE: Duration = Duration::from_secs(3);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT, or until it cannot go on.
pub async fn run(settings: Settings) -> Result<()> {
    let tls = Tls::load(settings.tls.clone())?;
    let mut signals = Signals::listen(tls.clone())?;
    let Opened {
        data_dir: _locked,
        grpc,
        http,
        repository,
        node,
    } = tokio::select! {
        opened = open(&settings, &tls) => opened?,
        () = signals.asked_to_end() => return Ok(()),
    };
    tracing::info!(
        member = node.id(),
        grpc = %settings.listen,
        http = %settings.http_listen,
        tls = tls.is_on(),
        repository = repository.url(),
        "coordinator starts"
    );
    let context = Arc::new(Context::new(settings, node.clone(), repository));
    let limits = context.settings.limits;
    let grpc = listen(grpc, &tls, Port::Grpc, limits.connections)?;
    let access = Access::new(tls.clone(), limits.calls());
    let connections = TlsNumbers::new(tls.clone(), grpc.numbers());
    let mut works = start(&context, grpc, access.clone(), Dialer::new(tls.clone()));
    let mut metrics = works.metrics();
    metrics.count_connections(connections);
    metrics.count_calls(access.numbers());
    let serving_http = tokio::spawn(serve_http(
        listen(http, &tls, Port::Http, limits.connections)?,
        http::router(node.clone(), metrics),
        context.stop.clone(),
    ));
    let certificates = tokio::spawn(async move { tls.watch(LOOK_EVERY).await });
    let ended = tokio::select! {
        () = signals.asked_to_end() => Ok(()),
        error = works.failed() => Err(error),
    };
    context.stop.cancel();
    certificates.abort();
    let tasks = async { tokio::join!(works.end(), serving_http) };
    if tokio::time::timeout(STOP_GRACE, tasks).await.is_err() {
        tracing::warn!("not everything ended within {STOP_GRACE:?}");
    }
    node.stop().await;
    tracing::info!("coordinator ends");
    ended
}

/// A member that takes part and answers calls.
pub struct Works {
    context: Arc<Context>,
    coordination: Arc<Coordination>,
    allocator: Arc<Allocator>,
    serving: JoinHandle<Result<()>>,
    behind: Vec<JoinHandle<()>>,
}

/// Begins to answer the calls that come in, and all that goes on behind them; until the context is
/// told to stop.
pub fn start<I, C>(context: &Arc<Context>, incoming: I, access: Access, dialer: Dialer) -> Works
where
    I: Stream<Item = std::io::Result<C>> + Send + 'static,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    C::ConnectInfo: Clone + Send + Sync + 'static,
{
    let bounds = Arc::new(context.repository.clone());
    let recorder = Arc::new(Recorder::new(context.node.clone(), bounds, AHEAD));
    let allocator = Arc::new(Allocator::new(context.node.clone(), recorder.clone()));
    let coordination = coordination(context, dialer);
    let serving = tokio::spawn(serve_grpc(
        incoming,
        access,
        context.clone(),
        coordination.clone(),
        allocator.clone(),
    ));
    let notes = note_times(allocator.clone(), coordination.clone());
    let stop = context.stop.clone();
    let behind = vec![
        tokio::spawn(office::run(context.clone())),
        tokio::spawn(office::watch_owner(context.clone(), recorder.clone())),
        tokio::spawn(keep_bounds_ahead(recorder, context.stop.clone())),
        tokio::spawn(runner::run(coordination.clone(), context.stop.clone())),
        tokio::spawn(async move { stop.run_until_cancelled(notes).await.unwrap_or_default() }),
    ];
    Works {
        context: context.clone(),
        coordination,
        allocator,
        serving,
        behind,
    }
}

impl Works {
    fn metrics(&self) -> Metrics {
        Metrics::new(
            self.context.clone(),
            self.allocator.given(),
            self.coordination.clone(),
        )
    }

    /// Waits until this member can no longer take part, and says why.
    pub async fn failed(&mut self) -> Error {
        tokio::select! {
            error = failed(&self.context.node) => error,
            served = &mut self.serving => match served {
                Ok(Err(e)) => e,
                _ => Error::internal("the gRPC server ended"),
            },
        }
    }

    /// Waits for what was begun, when the context has been told to stop.
    async fn end(self) {
        futures::future::join_all(self.behind).await;
        // A finished task must not be waited for twice.
        if !self.serving.is_finished() {
            let _ = self.serving.await;
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        Error::conflict(format!("cannot listen on {address}: {e}"))
            .hint("Is another program listening there?")
    })
}

fn listen(
    listener: TcpListener,
    tls: &Tls,
    port: Port,
    connections_max: usize,
) -> Result<Listener> {
    let limits = ConnectionLimits::new(connections_max);
    Listener::start(listener, tls.clone(), port, limits)
}

/// Forms the group, and answers when this member cannot take part in it, or no longer.
async fn failed(node: &Node) -> Error {
    match node.join().await {
        Ok(()) => node.failed().await,
        Err(e) => e,
    }
}

/// What can be refused before anything runs.
struct Opened {
    data_dir: DataDir,
    grpc: TcpListener,
    http: TcpListener,
    repository: Repository,
    node: Node,
}

async fn open(settings: &Settings, tls: &Tls) -> Result<Opened> {
    let data_dir = DataDir::open(&settings.data_dir)?;
    let grpc = bind(settings.listen).await?;
    let http = bind(settings.http_listen).await?;
    // Made for a new group only: one that has a repository and does not find it has lost a mount.
    let has_group = data_dir.has_group()?;
    let repository = match has_group {
        false => Repository::create_or_open(&settings.repository).await?,
        true => Repository::open(&settings.repository).await?,
    };
    if !has_group {
        probe(&repository, settings, "").await?;
    }
    // Late, so that a start that is refused leaves nobody's directory behind.
    let identity = data_dir.identity(settings.listen.to_string(), &settings.peers)?;
    if has_group {
        probe(&repository, settings, &identity.sender().group_id).await?;
    }
    let options = NodeOptions {
        data_dir: data_dir.path().to_owned(),
        heartbeat_interval: settings.heartbeat_interval,
        election_timeout: settings.election_timeout,
        dialer: Dialer::new(tls.clone()),
        compaction: Compaction::default(),
    };
    Ok(Opened {
        node: Node::open(identity, options).await?,
        data_dir,
        grpc,
        http,
        repository,
    })
}

/// Finds out what the store can do, unless the repository is another group's, which we only read.
async fn probe(repository: &Repository, settings: &Settings, group_id: &str) -> Result<()> {
    match repository.owner().await? {
        Some(owner) if owner.group_id != group_id && !settings.take_over_repository => Ok(()),
        _ => repository.probe().await,
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    tls: Tls,
}

impl Signals {
    fn listen(tls: Tls) -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|e| Error::internal(format!("cannot wait for signals: {e}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            tls,
        })
    }

    async fn asked_to_end(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    tracing::info!("SIGHUP: the TLS files are read anew, and no setting");
                    self.tls.reload_and_tell();
                }
            }
        }
    }
}

async fn serve_grpc<I, C>(
    incoming: I,
    access: Access,
    context: Arc<Context>,
    coordination: Arc<Coordination>,
    allocator: Arc<Allocator>,
) -> Result<()>
where
    I: Stream<Item = std::io::Result<C>>,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    C::ConnectInfo: Clone + Send + Sync + 'static,
{
    let stop = context.stop.clone();
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(access.streams_max(SPARE_STREAMS))
        .layer(access.layer())
        .layer(ForwardLayer::new(context.node.clone(), stop.clone()))
        .add_routes(routes(&context, &coordination, allocator).await?)
        .serve_with_incoming_shutdown(incoming, stop.cancelled());
    server
        .await
        .map_err(|e| Error::internal(format!("the gRPC server failed: {}", chain(&e))))
}

async fn routes(
    context: &Arc<Context>,
    coordination: &Arc<Coordination>,
    allocator: Arc<Allocator>,
) -> Result<Routes> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(seawall_proto::DESCRIPTORS)
        .build_v1()
        .map_err(|e| Error::internal(format!("cannot serve reflection: {}", chain(&e))))?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_service_status("", tonic_health::ServingStatus::Serving)
        .await;
    let mut routes = Routes::builder();
    routes
        .add_service(health_service)
        .add_service(reflection)
        .add_service(
            RaftServer::new(context.node.service(context.stop.clone()))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(ClusterServer::new(service::cluster::Cluster::new(
            context.clone(),
        )))
        .add_service(MembersServer::new(service::members::MembersService::new(
            context.clone(),
            coordination.clone(),
        )))
        .add_service(TimestampsServer::new(service::timestamps::Timestamps::new(
            allocator,
            coordination.clone(),
        )))
        .add_service(LocksServer::new(service::locks::LocksService {
            context: coordination.clone(),
        }))
        .add_service(TopologyServer::new(service::topology::TopologyService {
            context: coordination.clone(),
        }))
        .add_service(OperationsServer::new(
            service::operations::OperationsService {
                context: coordination.clone(),
            },
        ))
        .add_service(TransfersServer::new(service::transfers::TransfersService {
            context: coordination.clone(),
        }))
        .add_service(CatalogueServer::new(service::catalogue::CatalogueService {
            context: coordination.clone(),
        }))
        .add_service(RetentionServer::new(service::retention::RetentionService {
            context: coordination.clone(),
        }))
        .add_service(SchedulesServer::new(service::schedules::SchedulesService {
            context: coordination.clone(),
        }))
        .add_service(
            AgentsServer::new(service::agents::AgentsService {
                context: coordination.clone(),
            })
            .max_decoding_message_size(coordinators::MESSAGE_BYTES_MAX),
        );
    Ok(routes.routes())
}

fn coordination(context: &Context, dialer: Dialer) -> Arc<Coordination> {
    let patience = Patience {
        removal_grace: context.settings.removal_grace,
        retention: context.settings.retention_interval,
        lease: context.settings.agent_lease,
        ..Patience::default()
    };
    Coordination::new(
        Arc::new(context.node.clone()),
        Arc::new(context.repository.clone()),
        Arc::new(GrpcAgents::new(dialer)),
        patience,
    )
}

async fn serve_http(listener: Listener, router: axum::Router, stop: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(e) = served.await {
        tracing::error!("the HTTP server failed: {e}");
    }
}

//! Puts an agent together, serves, and ends it cleanly. The database goes on without it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use seawall_common::{
    Error, ErrorKind, Result,
    access::{Access, CallLimits},
    coordinators::Coordinators,
    error::chain,
    tls::{ConnectionLimits, Dialer, LOOK_EVERY, Listener, Port, Tls, TlsNumbers},
};
use seawall_proto::v1::agent_server::AgentServer;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{
    config::Settings, engine, execute::Executor, http, instance::Instance, reconcile, scratch,
    service::AgentService, session, startup, status, tablet::Tablet, watchdog,
};

/// Connections of each listener: coordinators, load balancers, scrapers.
const CONNECTIONS_MAX: usize = 1024;
/// Only coordinators call.
const CALLS: CallLimits = CallLimits {
    requests: 256,
    requests_per_connection: 256,
    watchers: 0,
    agents: 0,
};
const STREAMS_MAX: u32 = 512;
/// All headers of a call together.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// How long calls under way may take when the process is asked to end.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// How long the coordinators may take to hear that the agent ends.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the first look at the repository may hold up the start.
const REPOSITORY_LOOK: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT, or until it must not go on.
pub async fn run(settings: Settings) -> Result<()> {
    let tls = Tls::load(settings.tls.clone())?;
    let engine = engine::open(&settings.engine, &settings.state_dir)?;
    let instance = Instance::take(&settings.state_dir)?;
    let coordinators = Coordinators::new(&settings.coordinators, &Dialer::new(tls.clone()))?;
    let grpc = bind(settings.listen).await?;
    let http_listener = bind(settings.http_listen).await?;
    let tablet = Arc::new(Tablet::new(
        settings,
        &instance,
        engine,
        Arc::new(coordinators),
    )?);
    check_repository(&tablet).await?;
    let executor = Executor::new(tablet.clone());
    let stop = CancellationToken::new();
    tracing::info!(
        alias = %tablet.alias,
        shard = %tablet.shard_id,
        instance = %instance.id,
        grpc = %tablet.settings.listen,
        http = %tablet.settings.http_listen,
        tls = tls.is_on(),
        "agent starts"
    );

    let grpc = listen(grpc, &tls, Port::Grpc)?;
    let http_listener = listen(http_listener, &tls, Port::Http)?;
    let numbers = TlsNumbers::new(tls.clone(), grpc.numbers());
    tablet.metrics.count_connections(numbers);
    let serving = tokio::spawn(serve_grpc(
        grpc,
        Access::new(tls.clone(), CALLS),
        tablet.clone(),
        executor.clone(),
        stop.clone(),
    ));
    let serving_http = tokio::spawn(serve_http(http_listener, tablet.clone(), stop.clone()));
    let ended = until_the_end(&tablet, &executor, &tls, serving).await;
    stop.cancel();
    if tokio::time::timeout(STOP_GRACE, serving_http)
        .await
        .is_err()
    {
        tracing::warn!("not everything ended within {STOP_GRACE:?}");
    }
    tracing::info!("agent ends; its database goes on");
    ended
}

/// What the settings alone get wrong shows at once. A repository that is not there yet does not keep
/// the database down: its coordinator may be about to make it.
async fn check_repository(tablet: &Tablet) -> Result<()> {
    match tokio::time::timeout(REPOSITORY_LOOK, tablet.repository()).await {
        Ok(Ok(repository)) => {
            tracing::info!(id = repository.id(), "repository {}", repository.url());
            Ok(())
        }
        Ok(Err(error)) if error.kind() == ErrorKind::Invalid => Err(error),
        Ok(Err(error)) => {
            tracing::warn!("the repository cannot be opened yet: {error}");
            Ok(())
        }
        Err(_) => {
            tracing::warn!("the repository does not answer yet");
            Ok(())
        }
    }
}

/// Everything that the agent does, until it is asked to end or cannot go on.
async fn until_the_end(
    tablet: &Arc<Tablet>,
    executor: &Arc<Executor>,
    tls: &Tls,
    mut serving: tokio::task::JoinHandle<Result<()>>,
) -> Result<()> {
    let mut terminate = on_signal(SignalKind::terminate())?;
    let mut interrupt = on_signal(SignalKind::interrupt())?;
    let (shared, steps) = (tablet.clone(), executor.clone());
    let keep = async move {
        startup::recover(&shared, &steps).await?;
        startup::settle(&shared, &steps).await;
        reconcile::run(&shared).await;
        Ok::<_, Error>(())
    };
    // Each a task of its own: a look at a file system that hangs must not silence the heartbeats.
    let leave = CancellationToken::new();
    let (shared, steps, leaving) = (tablet.clone(), executor.clone(), leave.clone());
    let mut talking = tokio::spawn(async move { session::run(&shared, &steps, &leaving).await });
    let mut tasks = JoinSet::new();
    tasks.spawn(keep);
    let shared = tablet.clone();
    tasks.spawn(async move {
        status::watch(&shared).await;
        Ok(())
    });
    let shared = tablet.clone();
    tasks.spawn(async move {
        scratch::watch(&shared).await;
        Ok(())
    });
    let (shared, steps) = (tablet.clone(), executor.clone());
    tasks.spawn(async move {
        watchdog::run(&shared, &steps).await;
        Ok(())
    });
    let certificates = tls.clone();
    tasks.spawn(async move {
        certificates.watch(LOOK_EVERY).await;
        Ok(())
    });
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = heed_hangups(tls) => Ok(()),
        talked = &mut talking => return talked
            .unwrap_or_else(|e| Err(Error::internal(format!("the talk with coordinators ended: {e}")))),
        Some(ended) = tasks.join_next() => ended
            .unwrap_or_else(|e| Err(Error::internal(format!("a part of the agent ended: {e}")))),
        served = &mut serving => served
            .unwrap_or_else(|e| Err(Error::internal(format!("the gRPC server ended: {e}")))),
    };
    leave.cancel();
    if tokio::time::timeout(GOODBYE_LIMIT, talking).await.is_err() {
        tracing::warn!("no coordinator has heard that this agent ends");
    }
    ended
}

/// No setting can be changed while the agent runs, but the TLS files can; nor does a hangup end it.
async fn heed_hangups(tls: &Tls) {
    let Ok(mut hangups) = on_signal(SignalKind::hangup()) else {
        return std::future::pending().await;
    };
    while hangups.recv().await.is_some() {
        tracing::warn!(
            "SIGHUP: the TLS files are read anew, and no setting; restart the agent to change one"
        );
        tls.reload_and_tell();
    }
    std::future::pending().await
}

fn on_signal(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|e| Error::internal(format!("cannot wait for signals: {e}")))
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        Error::refused(format!("cannot listen on {address}: {e}"))
            .hint("Another process may have the port: choose another one.")
    })
}

fn listen(listener: TcpListener, tls: &Tls, port: Port) -> Result<Listener> {
    let limits = ConnectionLimits::new(CONNECTIONS_MAX);
    Listener::start(listener, tls.clone(), port, limits)
}

async fn serve_grpc(
    listener: Listener,
    access: Access,
    tablet: Arc<Tablet>,
    executor: Arc<Executor>,
    stop: CancellationToken,
) -> Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<AgentServer<AgentService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(seawall_proto::DESCRIPTORS)
        .build_v1()
        .map_err(|e| Error::internal(format!("cannot describe the services: {e}")))?;
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .layer(access.layer())
        .add_service(health)
        .add_service(reflection)
        .add_service(AgentServer::new(AgentService { tablet, executor }))
        .serve_with_incoming_shutdown(listener, stop.cancelled_owned())
        .await
        .map_err(|e| Error::internal(format!("the gRPC server failed: {}", chain(&e))))
}

async fn serve_http(listener: Listener, tablet: Arc<Tablet>, stop: CancellationToken) {
    let served = axum::serve(listener, http::routes(tablet))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!("the HTTP server failed: {error}");
    }
}

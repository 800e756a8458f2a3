use std::{pin::Pin, time::Instant};

use futures::{Stream, StreamExt as _};
use seawall_proto::v1::{
    AnnounceManifestRequest, AnnounceManifestResponse, RegisterRequest, RegisterResponse,
    agents_server::{Agents, AgentsServer},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, transport::Server};

use super::*;
use crate::{
    coordinators::Coordinators,
    error::{Error, Result as Outcome},
    tls::{Dialer, Tls},
};

/// Answers each heartbeat.
struct Answers;

#[tonic::async_trait]
impl Agents for Answers {
    async fn register(
        &self,
        _: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        Ok(Response::new(RegisterResponse::default()))
    }

    type SessionStream = Pin<Box<dyn Stream<Item = Result<HeartbeatAnswer, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let beats = request.into_inner().filter_map(async |message| {
            let message = message.ok()?.message?;
            matches!(message, Message::Heartbeat(_)).then(|| Ok(HeartbeatAnswer::default()))
        });
        Ok(Response::new(beats.boxed()))
    }

    async fn announce_manifest(
        &self,
        _: Request<AnnounceManifestRequest>,
    ) -> Result<Response<AnnounceManifestResponse>, Status> {
        Ok(Response::new(AnnounceManifestResponse {}))
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, format!("http://{address}"))
}

/// A coordinator behind a network that carries nothing any more when it is told to stand still, and
/// breaks no connection; and its address.
async fn coordinator(stands_still: watch::Receiver<bool>) -> String {
    let (listener, own) = listen().await;
    let server = Server::builder().add_service(AgentsServer::new(Answers));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let (network, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = network.accept().await {
            let target = own.trim_start_matches("http://").to_owned();
            let mut stands_still = stands_still.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(target).await.unwrap();
                let stood_still = async { drop(stands_still.wait_for(|still| *still).await) };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                    () = stood_still => {}
                }
                // Both connections are kept.
                std::future::pending::<()>().await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_member_that_stands_still_is_left_before_an_answer_would_be_given_up() {
    let (stand_still, stands_still) = watch::channel(false);
    let address = coordinator(stands_still).await;
    let members = Coordinators::new(&[address], &Dialer::new(Tls::off().unwrap())).unwrap();
    let begun = members.ask(|channel| Session::begin(channel, BeginSession::default()));
    let mut session: Session = Outcome::unwrap(begun.await);
    session.heartbeat(Heartbeat::default()).await.unwrap();

    stand_still.send_replace(true);
    let silent_since = Instant::now();
    let broken = session.heartbeat(Heartbeat::default()).await.unwrap_err();
    assert!(
        silent_since.elapsed() < ANSWER_LIMIT,
        "{:?}",
        silent_since.elapsed()
    );
    // The connection is gone, too: the next call does not wait for it.
    let error = Error::from(broken);
    assert!(error.is_retryable(), "{error:?}");
    assert!(!error.message().contains("in time"), "{error}");
}

mod addresses;
mod authority;
mod reload;

use std::{net::SocketAddr, time::Duration};

use authority::{Authority, DAY_S, Wanted};
use seawall_proto::v1::{
    ClusterStatusRequest, ClusterStatusResponse, GroupStatusRequest, GroupStatusResponse,
    cluster_client::ClusterClient,
    cluster_server::{Cluster, ClusterServer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tonic::{Request, Response, Status, transport::Server};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// Answers with who called.
struct Mirror;

#[tonic::async_trait]
impl Cluster for Mirror {
    async fn status(
        &self,
        request: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        let peer = request.extensions().get::<Peer>().unwrap();
        let certificate = peer.certificate.as_ref();
        Ok(Response::new(ClusterStatusResponse {
            group_id: certificate.map_or_else(String::new, |c| c.who()),
            ..Default::default()
        }))
    }

    async fn group_status(
        &self,
        _request: Request<GroupStatusRequest>,
    ) -> Result<Response<GroupStatusResponse>, Status> {
        Err(Status::unimplemented("nobody asks for it here"))
    }
}

/// A gRPC server until the end of the test.
async fn serve(tls: Tls, limits: ConnectionLimits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = Listener::start(listener, tls, Port::Grpc, limits).unwrap();
    let server = Server::builder().add_service(ClusterServer::new(Mirror));
    tokio::spawn(server.serve_with_incoming(listener));
    address
}

fn client(
    tls: &Tls,
    scheme: &str,
    address: SocketAddr,
) -> ClusterClient<tonic::transport::Channel> {
    let url = ServerUrl::new(scheme, &address.to_string()).unwrap();
    let dial = Dial::within(PATIENCE);
    let channel = Dialer::new(tls.clone()).channel(&url, Whom::Coordinator, dial);
    ClusterClient::new(channel.unwrap())
}

async fn call(tls: &Tls, scheme: &str, address: SocketAddr) -> Result<String, Status> {
    let mut client = client(tls, scheme, address);
    let answer = timeout(PATIENCE, client.status(ClusterStatusRequest {})).await;
    Ok(answer.unwrap()?.into_inner().group_id)
}

/// What is said when a call cannot come through.
async fn trouble(server: Tls, client: Tls, scheme: &str) -> String {
    let address = serve(server, ConnectionLimits::new(8)).await;
    let status = call(&client, scheme, address).await.unwrap_err();
    let explained = explain(&status, "the coordinator");
    explained
        .unwrap_or_else(|| panic!("nothing is said of {status:?}"))
        .to_string()
}

#[tokio::test]
async fn who_calls_is_known_by_its_certificate() {
    let authority = Authority::new();
    let address = serve(authority.tls("coordinator/1"), ConnectionLimits::new(8)).await;
    for role in ["operator/alice", "agent/zone1-101", "coordinator/2"] {
        let who = call(&authority.tls(role), "https", address).await.unwrap();
        assert_eq!(who, role);
    }
    let who = call(&authority.tls("king/alice"), "https", address)
        .await
        .unwrap();
    assert!(who.contains("without a role"), "{who}");
}

#[tokio::test]
async fn without_an_authority_nobody_needs_a_certificate() {
    let authority = Authority::new();
    let mut config = authority.issue("server", &Wanted::role("coordinator/1"));
    config.ca_file = None;
    let server = Tls::load(config).unwrap();
    assert!(server.is_on() && !server.demands_certificates());
    let address = serve(server, ConnectionLimits::new(8)).await;
    let client = Tls::load(TlsConfig {
        ca_file: Some(authority.file()),
        ..TlsConfig::default()
    });
    assert_eq!(call(&client.unwrap(), "https", address).await.unwrap(), "");
}

#[tokio::test]
async fn what_stands_between_two_sides_is_said_in_one_line() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = || ours.tls("coordinator/1");
    let operator = || ours.tls("operator/alice");
    let issued = |wanted: Wanted<'_>| Tls::load(ours.issue("special", &wanted)).unwrap();
    let trusting = |authority: &Authority| {
        Tls::load(TlsConfig {
            ca_file: Some(authority.file()),
            ..TlsConfig::default()
        })
        .unwrap()
    };
    let expired = |role| Wanted {
        valid_for_s: -DAY_S,
        ..Wanted::role(role)
    };

    let said = trouble(server(), operator(), "http").await;
    assert!(said.contains("speaks TLS. Use https://"), "{said}");
    let said = trouble(Tls::off().unwrap(), operator(), "https").await;
    assert!(said.contains("does not speak TLS"), "{said}");
    let said = trouble(server(), trusting(&ours), "https").await;
    assert!(said.contains("demands a certificate"), "{said}");
    let said = trouble(server(), issued(expired("operator/alice")), "https").await;
    assert!(
        said.contains("our certificate, which has expired"),
        "{said}"
    );
    let mut stranger = theirs.issue("stranger", &Wanted::role("operator/mallory"));
    stranger.ca_file = Some(ours.file());
    let said = trouble(server(), Tls::load(stranger).unwrap(), "https").await;
    assert!(said.contains("whose authority it does not know"), "{said}");
    let said = trouble(server(), trusting(&theirs), "https").await;
    assert!(said.contains("authority that is not known here"), "{said}");
    let said = trouble(issued(expired("coordinator/1")), operator(), "https").await;
    assert!(said.contains("has expired"), "{said}");
    let elsewhere = Wanted {
        host: "c1.example",
        ..Wanted::role("coordinator/1")
    };
    let said = trouble(issued(elsewhere), operator(), "https").await;
    assert!(said.contains("is not for that name"), "{said}");
    let agent = ours.tls("agent/zone1-101");
    let said = trouble(agent, operator(), "https").await;
    assert!(said.contains("it is that of agent/zone1-101"), "{said}");
}

#[tokio::test]
async fn plain_http_to_a_tls_port_is_answered_in_its_own_words() {
    let authority = Authority::new();
    let address = serve(authority.tls("coordinator/1"), ConnectionLimits::new(8)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer));
    read.await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("use https://\n"), "{answer}");
}

/// Whether the other end has closed.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = timeout(PATIENCE, stream.read(&mut [0; 64])).await.unwrap();
    matches!(read, Ok(0) | Err(_))
}

#[tokio::test]
async fn there_are_only_so_many_connections_and_a_handshake_takes_only_so_long() {
    let authority = Authority::new();
    let limits = ConnectionLimits {
        connections_max: 2,
        handshake: Duration::from_millis(300),
    };
    let address = serve(authority.tls("coordinator/1"), limits).await;
    let mut silent = [
        TcpStream::connect(address).await.unwrap(),
        TcpStream::connect(address).await.unwrap(),
    ];
    let mut surplus = TcpStream::connect(address).await.unwrap();
    assert!(is_closed(&mut surplus).await);
    for stream in &mut silent {
        assert!(is_closed(stream).await);
    }
    // Their places are free again; those of connections that are used are not.
    let operator = authority.tls("operator/alice");
    let mut used = [(); 2].map(|()| client(&operator, "https", address));
    for client in &mut used {
        client.status(ClusterStatusRequest {}).await.unwrap();
    }
    assert!(call(&operator, "https", address).await.is_err());
    for client in &mut used {
        client.status(ClusterStatusRequest {}).await.unwrap();
    }
}

/// An HTTP server with TLS until the end of the test.
async fn serve_http(config: TlsConfig) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = Tls::load(config).unwrap();
    let limits = ConnectionLimits::new(8);
    let listener = Listener::start(listener, tls, Port::Http, limits).unwrap();
    let routes = axum::Router::new().route("/healthz", axum::routing::get(|| async { "alive" }));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("https://{address}/healthz")
}

#[tokio::test]
async fn http_needs_no_certificate_of_the_caller_unless_it_is_set() {
    // Fails when another test has installed one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = Authority::new();
    let config = authority.issue("server", &Wanted::role("coordinator/1"));
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let get = async |url: String| client.get(url).send().await?.text().await;
    assert_eq!(
        get(serve_http(config.clone()).await).await.unwrap(),
        "alive"
    );
    let demanding = TlsConfig {
        http_client_auth: true,
        ..config
    };
    get(serve_http(demanding).await).await.unwrap_err();
}

#[test]
fn a_certificate_without_its_key_or_with_another_is_refused_and_named() {
    let authority = Authority::new();
    let good = authority.issue("one", &Wanted::role("coordinator/1"));
    let other = authority.issue("two", &Wanted::role("coordinator/2"));
    let refusal = |config: TlsConfig| Tls::load(config).err().unwrap().to_string();
    let said = refusal(TlsConfig {
        key_file: None,
        ..good.clone()
    });
    assert!(said.contains("tls.key_file is not"), "{said}");
    let said = refusal(TlsConfig {
        key_file: other.key_file.clone(),
        ..good.clone()
    });
    assert!(said.contains("is not that of the certificate"), "{said}");
    let said = refusal(TlsConfig {
        ca_file: good.key_file.clone(),
        ..good.clone()
    });
    assert!(
        said.contains("tls.ca_file") && said.contains("no certificate"),
        "{said}"
    );
    let said = refusal(TlsConfig {
        ca_file: Some("/nowhere".into()),
        ..good
    });
    assert!(said.contains("/nowhere"), "{said}");
}

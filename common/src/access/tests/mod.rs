mod lines;
mod rules;
mod table;

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use prost::Message;
use seawall_proto::v1;
use tonic::{Code, Status, body::Body};
use tower::{Layer as _, Service as _, service_fn};

use super::*;
use crate::tls::{Certificate, Identity, Peer, Tls};

const PEER: ([u8; 4], u16) = ([192, 0, 2, 1], 7);

fn limits(requests: usize, requests_per_connection: usize, watchers: usize) -> CallLimits {
    CallLimits {
        requests,
        requests_per_connection,
        watchers,
        agents: watchers,
    }
}

fn ample() -> CallLimits {
    limits(100, 100, 100)
}

/// Somebody with a certificate of this role and name.
fn peer(identity: &str) -> Peer {
    let certificate = Certificate {
        identity: identity.parse::<Identity>().ok(),
        subject: String::new(),
        expires_unix_s: 0,
    };
    Peer::new(SocketAddr::from(PEER), Some(certificate))
}

fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend(message);
    bytes.into()
}

fn call(method: &str, peer: &Peer, bytes: Bytes) -> Request<Body> {
    let uri = format!("http://a/seawall.v1.{method}");
    let request = Request::builder().uri(uri).extension(peer.clone());
    request.body(Body::new(Full::new(bytes))).unwrap()
}

/// What the service behind the layer has seen.
type Seen = Arc<std::sync::Mutex<Vec<(String, Caller)>>>;

/// Passes a request through the layer to a service that answers with an empty message.
async fn pass(access: &Access, request: Request<Body>) -> (Result<Response<Body>, Status>, Seen) {
    let seen = Seen::default();
    let sees = seen.clone();
    let service = service_fn(move |request: Request<Body>| {
        let sees = sees.clone();
        async move {
            let caller = request.extensions().get::<Caller>().cloned();
            let path = request.uri().path().to_owned();
            sees.lock().unwrap().push((path, caller.unwrap()));
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let body = Full::new(framed(&v1::Tablet::default()));
            let body = body.with_trailers(async move { Some(Ok(trailers)) });
            Ok::<_, Infallible>(Response::new(Body::new(body)))
        }
    });
    let mut guarded = access.layer().layer(service);
    let response = guarded.call(request).await.unwrap();
    let refusal = Status::from_header_map(response.headers());
    match refusal.filter(|status| status.code() != Code::Ok) {
        Some(status) => (Err(status), seen),
        None => (Ok(response), seen),
    }
}

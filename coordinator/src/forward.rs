//! Passes calls that only the leader can answer on to it, as they are, streams too.
//!
//! Left alone are calls between members, the state of the group, health and reflection, and what
//! asks for a stale answer. A call that has been passed on once is not passed on again. Whose call
//! it is travels with it: the leader believes that of a member alone.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response};
use seawall_common::{
    Error, Result,
    access::{CALLER_KEY, Caller, FORWARDED_KEY},
    error::chain,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};
use tower::{Layer, Service, ServiceExt as _};

use crate::{
    context::{STALE_KEY, is_stale},
    ending::{is_stream, while_led},
    raft::{Leadership, Node},
};

const PACKAGE: &str = "/seawall.v1.";
const ANSWERED_BY_ALL: [&str; 2] = ["Raft", "Cluster"];
/// How long a call waits for an election to end.
const LEADER_WAIT: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub struct ForwardLayer {
    node: Node,
    stop: CancellationToken,
}

impl ForwardLayer {
    /// `stop`: ends all streams.
    pub fn new(node: Node, stop: CancellationToken) -> Self {
        Self { node, stop }
    }
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;

    fn layer(&self, local: S) -> Forward<S> {
        Forward {
            local,
            node: Arc::new(self.node.clone()),
            stop: self.stop.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Forward<S> {
    local: S,
    node: Arc<Node>,
    stop: CancellationToken,
}

impl<S> Service<Request<Body>> for Forward<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        self.local.poll_ready(task)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let waiting = self.local.clone();
        let mut local = std::mem::replace(&mut self.local, waiting);
        let is_stream = is_stream(&request);
        let is_ours = self.node.leadership().borrow().is_ours;
        if !needs_leader(&request) || (is_ours && !is_stream) {
            return Box::pin(local.call(request));
        }
        let (node, stop) = (self.node.clone(), self.stop.clone());
        let was_forwarded = request.headers().contains_key(FORWARDED_KEY);
        Box::pin(async move {
            let (led, leader) = match leader(&node, was_forwarded).await {
                Ok(known) => known,
                Err(e) => return Ok(Status::from(e).into_http()),
            };
            let response = match leader {
                Some(leader) => pass_on(&node, leader, request, is_stream)
                    .await
                    .unwrap_or_else(|e| Status::from(e).into_http()),
                None => local.call(request).await?,
            };
            Ok(match is_stream {
                true => while_led(response, &node, led, stop),
                false => response,
            })
        })
    }
}

fn needs_leader(request: &Request<Body>) -> bool {
    let Some(method) = request.uri().path().strip_prefix(PACKAGE) else {
        return false;
    };
    let service = method.split('/').next().unwrap_or_default();
    let stale = request.headers().get(STALE_KEY).map(HeaderValue::as_bytes);
    !ANSWERED_BY_ALL.contains(&service) && !is_stale(stale)
}

/// Who leads, and which other member that is; none when it is this one.
async fn leader(node: &Node, was_forwarded: bool) -> Result<(Leadership, Option<u64>)> {
    let mut leadership = node.leadership();
    let known = leadership.wait_for(|now| now.leader.is_some());
    let leadership = match tokio::time::timeout(LEADER_WAIT, known).await {
        Ok(Ok(leadership)) => *leadership,
        _ => {
            return Err(Error::unavailable("no coordinator leads the group now")
                .hint("Try again; if it stays so, see whether most of the coordinators run."));
        }
    };
    if leadership.is_ours {
        return Ok((leadership, None));
    }
    if was_forwarded {
        return Err(Error::unavailable(format!(
            "coordinator {} was taken for the leader and is not",
            node.id()
        )));
    }
    Ok((leadership, leadership.leader))
}

async fn pass_on(
    node: &Node,
    leader: u64,
    mut request: Request<Body>,
    is_stream: bool,
) -> Result<Response<Body>> {
    let by = HeaderValue::from(node.id());
    let caller = request.extensions().get::<Caller>();
    let caller = caller.and_then(Caller::header);
    let headers = request.headers_mut();
    headers.insert(FORWARDED_KEY, by);
    // What the client says there itself has been taken out before.
    if let Some(caller) = caller {
        headers.insert(CALLER_KEY, caller);
    }
    let unreachable = |e: &tonic::transport::Error| {
        Error::unavailable(format!(
            "coordinator {leader}, which leads the group, cannot be reached: {}",
            chain(e)
        ))
    };
    let mut channel = node.channel_to(leader, is_stream)?;
    let channel = channel.ready().await.map_err(|e| unreachable(&e))?;
    channel.call(request).await.map_err(|e| unreachable(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, stale: Option<&str>) -> Request<Body> {
        let mut request = Request::builder().uri(format!("http://a{path}"));
        if let Some(stale) = stale {
            request = request.header(STALE_KEY, stale);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn only_what_the_leader_alone_knows_is_passed_on() {
        for (path, stale, expected) in [
            ("/seawall.v1.Timestamps/Fetch", None, true),
            ("/seawall.v1.Topology/ListTablets", Some("false"), true),
            ("/seawall.v1.Topology/ListTablets", Some("true"), false),
            ("/seawall.v1.Raft/Vote", None, false),
            ("/seawall.v1.Cluster/Status", None, false),
            ("/grpc.health.v1.Health/Check", None, false),
            ("/other", None, false),
        ] {
            assert_eq!(
                needs_leader(&request(path, stale)),
                expected,
                "{path} {stale:?}"
            );
        }
    }
}

//! Passes calls that only the leader can answer on to it, as they are, streams too.
//!
//! Left alone are calls between members, the state of the group, health and reflection, and a call
//! that asks for a stale answer; a stream cannot ask for that, for it is told by whoever leads. A call
//! that has been passed on once is not passed on again. Whose call it is travels with it: the leader
//! believes that of a member alone.

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
    access::{CALLER_KEY, Caller, FORWARDED_KEY, Method},
    error::chain,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};
use tower::{Layer, Service, ServiceExt as _};

use crate::{
    context::{STALE_KEY, is_stale},
    ending::while_led,
    raft::{Leadership, Node},
};

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
        let stale = request.headers().get(STALE_KEY).map(HeaderValue::as_bytes);
        let method = Method::of_request(&request).filter(|method| needs_leader(method, stale));
        let is_ours = self.node.leadership().borrow().is_ours;
        let Some(method) = method.filter(|method| method.is_stream() || !is_ours) else {
            return Box::pin(local.call(request));
        };
        let (node, stop) = (self.node.clone(), self.stop.clone());
        let was_forwarded = request.headers().contains_key(FORWARDED_KEY);
        Box::pin(async move {
            let (led, leader) = match leader(&node, was_forwarded).await {
                Ok(known) => known,
                Err(e) => return Ok(Status::from(e).into_http()),
            };
            let response = match leader {
                Some(leader) => pass_on(&node, leader, method, request)
                    .await
                    .unwrap_or_else(|e| Status::from(e).into_http()),
                None => local.call(request).await?,
            };
            Ok(match method.is_stream() {
                true => while_led(response, &node, led, stop),
                false => response,
            })
        })
    }
}

/// `stale`: what is said there of a stale answer.
fn needs_leader(method: &Method, stale: Option<&[u8]>) -> bool {
    let may_be_stale = !method.is_stream() && is_stale(stale);
    !ANSWERED_BY_ALL.contains(&method.service()) && !may_be_stale
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
    method: &Method,
    mut request: Request<Body>,
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
    let mut channel = node.channel_to(leader, method.lasts)?;
    let channel = channel.ready().await.map_err(|e| unreachable(&e))?;
    channel.call(request).await.map_err(|e| unreachable(&e))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::{BodyExt as _, StreamBody};
    use seawall_common::access::method;
    use tonic::Code;
    use tower::service_fn;

    use super::*;
    use crate::timestamps::bounds_tests::group_of_one;

    #[test]
    fn only_what_the_leader_alone_knows_is_passed_on() {
        for (name, stale, expected) in [
            ("Timestamps/Fetch", None, true),
            ("Topology/ListTablets", Some("false"), true),
            ("Topology/ListTablets", Some("true"), false),
            ("Topology/WatchServing", Some("true"), true),
            ("Operations/Watch", Some("true"), true),
            ("Agents/Session", Some("true"), true),
            ("Raft/Vote", None, false),
            ("Cluster/Status", None, false),
        ] {
            let needs = needs_leader(method(name).unwrap(), stale.map(str::as_bytes));
            assert_eq!(needs, expected, "{name} {stale:?}");
        }
    }

    /// A call of this name, as the layer before this one hands it on, of a service whose answer goes on
    /// for ever after one frame.
    async fn call(node: &Node, stop: &CancellationToken, name: &str, stale: bool) -> Body {
        let service = service_fn(|_: Request<Body>| async {
            let told = Ok::<_, Status>(Frame::data(Bytes::from_static(b"told")));
            let told = stream::iter([told]).chain(stream::pending());
            Ok::<_, Infallible>(Response::new(Body::new(StreamBody::new(told))))
        });
        let mut request = Request::builder().extension(method(name).unwrap());
        if stale {
            request = request.header(STALE_KEY, "true");
        }
        let request = request.body(Body::empty()).unwrap();
        let layer = ForwardLayer::new(node.clone(), stop.clone());
        let mut response = layer.layer(service).call(request).await.unwrap();
        let first = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "told");
        response.into_body()
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_member_also_when_it_asks_for_a_stale_answer() {
        let directory = tempfile::tempdir().unwrap();
        let node = group_of_one(directory.path()).await;
        for stale in [false, true] {
            let stop = CancellationToken::new();
            let mut told = call(&node, &stop, "Operations/Watch", stale).await;
            assert!(futures::poll!(std::pin::pin!(told.frame())).is_pending());
            stop.cancel();
            let last = told.frame().await.unwrap().unwrap();
            let status = Status::from_header_map(last.trailers_ref().unwrap()).unwrap();
            assert_eq!(status.code(), Code::Unavailable);
            assert!(told.frame().await.is_none());
        }
        node.stop().await;
    }
}

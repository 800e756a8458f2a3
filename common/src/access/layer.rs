//! The layer before the services.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use tokio::time::timeout;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{
    CallLimits, CallNumbers, Caller, Method, REQUEST_BYTES_MAX, Record,
    audit::{Entry, clarified},
    caller::PassedOn,
    limits::{Held, Places},
    method,
};
use crate::{
    error::{Error, Result},
    tls::{Peer, Tls},
};

/// Before the name of each call of Seawall's own in its path.
const PACKAGE: &str = "/seawall.v1.";
/// A flag and a length stand before each message.
const FRAME_HEAD_BYTES: usize = 5;
/// How long a client may take to send a request of one message.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// The rules of one server. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

struct Inner {
    tls: Tls,
    places: Places,
}

impl Access {
    pub fn new(tls: Tls, limits: CallLimits) -> Self {
        if tls.is_on() && !tls.demands_certificates() {
            tracing::warn!(
                "tls.ca_file is not set: whoever reaches this program may do everything"
            );
        }
        let places = Places::new(limits);
        Self {
            inner: Arc::new(Inner { tls, places }),
        }
    }

    pub fn layer(&self) -> AccessLayer {
        AccessLayer(self.clone())
    }

    /// Streams that one connection may have, so that whoever has too many calls under way is told so
    /// by the layer: members' connections carry many callers'.
    pub fn streams_max(&self, spare: u32) -> u32 {
        self.inner.places.streams_max().saturating_add(spare)
    }

    pub fn numbers(&self) -> CallNumbers {
        self.inner.places.numbers()
    }
}

#[derive(Clone)]
pub struct AccessLayer(Access);

impl<S> Layer<S> for AccessLayer {
    type Service = Guarded<S>;

    fn layer(&self, local: S) -> Guarded<S> {
        Guarded {
            local,
            access: self.0.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Guarded<S> {
    local: S,
    access: Access,
}

impl<S> Service<Request<Body>> for Guarded<S>
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

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.local.poll_ready(task)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone is not ready, the one that it replaces is.
        let waiting = self.local.clone();
        let local = std::mem::replace(&mut self.local, waiting);
        let access = self.access.clone();
        Box::pin(async move { access.answer(local, request).await })
    }
}

impl Access {
    async fn answer<S>(
        &self,
        mut local: S,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Infallible>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let Inner { tls, places } = &*self.inner;
        let peer = request.extensions().get::<Peer>().cloned();
        let demands_certificates = tls.demands_certificates();
        let headers = request.headers_mut();
        let (caller, passed_on) = Caller::of(peer.as_ref(), demands_certificates, headers);
        // Health and reflection stand for themselves: whoever got in may ask.
        let called = match request.uri().path().strip_prefix(PACKAGE) {
            None => None,
            Some(name) => match method(name) {
                Some(method) => Some(method),
                None => return Ok(Status::unimplemented("").into_http()),
            },
        };
        let place = places.take(called, peer.as_ref(), passed_on);
        let place = match place {
            Ok(place) => place,
            Err(error) => {
                let entry = called.and_then(|method| entry(method, &caller, passed_on, None));
                return Ok(written(entry, refused(error)).await);
            }
        };
        let (checked, entry) = match called {
            None => (Ok(request), None),
            Some(method) => check(method, &caller, passed_on, request).await,
        };
        let response = match checked {
            Ok(mut request) => {
                request.extensions_mut().insert(caller);
                if let Some(method) = called {
                    request.extensions_mut().insert(method);
                }
                clarified(local.call(request).await?)
            }
            Err(error) => refused(error),
        };
        let response = written(entry, response).await;
        Ok(response.map(|body| Body::new(Held::new(body, place))))
    }
}

/// Whether a call may go on, and the line that is to be written of it.
async fn check(
    method: &'static Method,
    caller: &Caller,
    passed_on: PassedOn,
    request: Request<Body>,
) -> (Result<Request<Body>>, Option<Entry>) {
    let allowed = caller.check(method.name, method.least);
    let Record::Changes(object) = method.record else {
        return (allowed.map(|()| request), None);
    };
    match read(request).await {
        Err(error) => {
            let entry = entry(method, caller, passed_on, None);
            (Err(error), entry)
        }
        Ok((request, message)) => {
            let object = object(&message);
            let entry = entry(method, caller, passed_on, object.as_deref());
            let readable = object
                .map(drop)
                .ok_or_else(|| Error::invalid(format!("this is no request of {}", method.name)));
            (allowed.and(readable).map(|()| request), entry)
        }
    }
}

/// Of what changes something, on the member where the client called. Where anybody can say that a call
/// was passed on, the leader notes it as well: rather two lines than none.
fn entry(
    method: &Method,
    caller: &Caller,
    passed_on: PassedOn,
    object: Option<&str>,
) -> Option<Entry> {
    let is_change = matches!(method.record, Record::Changes(_));
    let is_noted = is_change && passed_on != PassedOn::Proved;
    is_noted.then(|| Entry::begin(caller, method.name, object.unwrap_or("unreadable")))
}

async fn written(entry: Option<Entry>, response: Response<Body>) -> Response<Body> {
    match entry {
        Some(entry) => entry.end(response).await,
        None => response,
    }
}

fn refused(error: Error) -> Response<Body> {
    Status::from(error).into_http()
}

/// The one message of a request, which stays as it is.
async fn read(request: Request<Body>) -> Result<(Request<Body>, Bytes)> {
    let (head, body) = request.into_parts();
    let collected = timeout(
        REQUEST_LIMIT,
        Limited::new(body, FRAME_HEAD_BYTES + REQUEST_BYTES_MAX).collect(),
    );
    let collected = collected.await.map_err(|_| {
        Error::timeout(format!(
            "the request was not there within {REQUEST_LIMIT:?}"
        ))
    })?;
    let bytes = collected
        .map_err(|e| match e.is::<LengthLimitError>() {
            true => Error::exhausted(format!(
                "the request is larger than {REQUEST_BYTES_MAX} bytes"
            )),
            false => Error::unavailable(format!("the request broke off: {e}")),
        })?
        .to_bytes();
    let message = message(&bytes)?;
    let request = Request::from_parts(head, Body::new(Full::new(bytes)));
    Ok((request, message))
}

fn message(bytes: &Bytes) -> Result<Bytes> {
    let malformed = |why| Error::invalid(format!("malformed request: {why}"));
    let head = bytes
        .first_chunk::<FRAME_HEAD_BYTES>()
        .ok_or_else(|| malformed("there is no message in it"))?;
    let [is_compressed, length @ ..] = *head;
    if is_compressed != 0 {
        return Err(malformed("it is compressed, which is not agreed upon"));
    }
    let message = bytes.slice(FRAME_HEAD_BYTES..);
    match usize::try_from(u32::from_be_bytes(length)) {
        Ok(length) if length == message.len() => Ok(message),
        _ => Err(malformed("its length is not the one that it says")),
    }
}

//! How many calls may be under way. Whoever comes when there are as many is refused at once, with
//! the number and what to do; what the members of the group say to each other is never refused.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body};

use super::{
    caller::PassedOn,
    table::{Lasts, Method},
};
use crate::{
    error::{Error, Result},
    tls::Peer,
};

/// Calls of this service are never refused: a group that is busy must not lose its leader.
const BETWEEN_MEMBERS: &str = "Raft/";

#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// Calls under way, watches and streams of agents not counted.
    pub requests: usize,
    /// On one connection; that of another member carries many callers' and is not counted.
    pub requests_per_connection: usize,
    /// Watches under way.
    pub watchers: usize,
    /// Streams of agents under way.
    pub agents: usize,
}

/// The places for calls; their numbers are what Prometheus is told of them.
pub(super) struct Places(CallNumbers);

/// Numbers for Prometheus.
#[derive(Clone)]
pub struct CallNumbers {
    limits: CallLimits,
    requests: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
    agents: Arc<Semaphore>,
    refused: Arc<AtomicU64>,
}

impl CallNumbers {
    pub fn requests(&self) -> u64 {
        taken(self.limits.requests, &self.requests)
    }

    pub fn watchers(&self) -> u64 {
        taken(self.limits.watchers, &self.watchers)
    }

    pub fn agents(&self) -> u64 {
        taken(self.limits.agents, &self.agents)
    }

    /// Because there were too many.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for CallNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallNumbers")
    }
}

impl Collector for CallNumbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in [
            (
                "grpc_requests",
                "Calls under way, watches and streams of agents not counted",
                self.requests(),
            ),
            ("grpc_watchers", "Watches under way", self.watchers()),
            ("grpc_agents", "Streams of agents under way", self.agents()),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let refused = ConstCounter::new(self.refused());
        let help = "Calls, watches and streams of agents that were refused because too many were under way";
        let name = "grpc_requests_refused";
        refused.encode(encoder.encode_descriptor(name, help, None, refused.metric_type())?)
    }
}

fn taken(of: usize, free: &Semaphore) -> u64 {
    let taken = of.saturating_sub(free.available_permits());
    taken.try_into().unwrap_or(u64::MAX)
}

/// One call's, until it is dropped.
pub(super) struct Place {
    _among_all: Option<OwnedSemaphorePermit>,
    _on_connection: Option<OnConnection>,
}

struct OnConnection(Arc<AtomicUsize>);

impl Drop for OnConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Places {
    pub fn new(limits: CallLimits) -> Self {
        Self(CallNumbers {
            limits,
            requests: Arc::new(Semaphore::new(limits.requests)),
            watchers: Arc::new(Semaphore::new(limits.watchers)),
            agents: Arc::new(Semaphore::new(limits.agents)),
            refused: Arc::default(),
        })
    }

    pub fn numbers(&self) -> CallNumbers {
        self.0.clone()
    }

    pub fn streams_max(&self) -> u32 {
        let limits = &self.0.limits;
        let most = [limits.requests, limits.watchers, limits.agents]
            .into_iter()
            .fold(0, usize::saturating_add);
        u32::try_from(most).unwrap_or(u32::MAX)
    }

    /// The connection of a member that passes calls on carries many callers'.
    pub fn take(
        &self,
        method: Option<&Method>,
        peer: Option<&Peer>,
        passed_on: PassedOn,
    ) -> Result<Place> {
        if method.is_some_and(|method| method.name.starts_with(BETWEEN_MEMBERS)) {
            return Ok(Place {
                _among_all: None,
                _on_connection: None,
            });
        }
        let lasts = method.map_or(Lasts::ACall, |method| method.lasts);
        let on_connection = match peer {
            Some(peer) if passed_on == PassedOn::No && lasts == Lasts::ACall => {
                Some(self.on_connection(peer)?)
            }
            _ => None,
        };
        let limits = &self.0.limits;
        let (places, count, what, setting) = match lasts {
            Lasts::ACall => (&self.0.requests, limits.requests, "calls", "requests"),
            Lasts::AWatch => (&self.0.watchers, limits.watchers, "watches", "watchers"),
            Lasts::ASession => (&self.0.agents, limits.agents, "streams of agents", "agents"),
        };
        let among_all = places.clone().try_acquire_owned();
        let among_all = among_all.map_err(|_| {
            self.refuse(
                format!("{count} {what} are under way already"),
                format!(
                    "Try again later; limits.{setting} of the coordinator says how many may be."
                ),
            )
        })?;
        Ok(Place {
            _among_all: Some(among_all),
            _on_connection: on_connection,
        })
    }

    fn on_connection(&self, peer: &Peer) -> Result<OnConnection> {
        let most = self.0.limits.requests_per_connection;
        let before = peer.calls.fetch_add(1, Ordering::Relaxed);
        let place = OnConnection(peer.calls.clone());
        if before < most {
            return Ok(place);
        }
        Err(self.refuse(
            format!("{most} calls are under way on this connection already"),
            "Wait for some to end, or use another connection.".to_owned(),
        ))
    }

    fn refuse(&self, message: String, hint: String) -> Error {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        Error::exhausted(message).hint(hint)
    }
}

/// An answer that keeps its call's place until it has been sent, or nobody wants it any more.
pub(super) struct Held {
    body: Body,
    _place: Place,
}

impl Held {
    pub fn new(body: Body, place: Place) -> Self {
        Self {
            body,
            _place: place,
        }
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! The HTTP side: is it alive, can it serve, what do its numbers say.

mod backups;
mod disk;
mod group;
mod metrics;
mod schedules;
mod tablets;

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
pub use metrics::Metrics;

use seawall_common::{Error, telemetry::OPENMETRICS};

use crate::{platform::blocking, raft::Node};

struct Shared {
    node: Node,
    metrics: Metrics,
}

pub fn router(node: Node, metrics: Metrics) -> Router {
    let shared = Arc::new(Shared { node, metrics });
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(encode))
        .with_state(shared);
    #[cfg(feature = "fault-injection")]
    let router = router.merge(seawall_common::fault::routes());
    router
}

/// Ready means: a call to this member would reach a leader that can answer it.
async fn ready(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let leadership = *shared.node.leadership().borrow();
    let not_ready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    match leadership.leader {
        None => not_ready("no coordinator leads the group now"),
        Some(_) if leadership.is_ours && !shared.node.hears_a_quorum() => {
            not_ready("this coordinator led last, and no quorum answers it")
        }
        Some(leader) => (StatusCode::OK, format!("coordinator {leader} leads\n")),
    }
}

async fn encode(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let encode = move || {
        let text = shared.metrics.encode(&shared.node);
        text.map_err(|e| Error::internal(format!("the metrics cannot be written: {e}")))
    };
    match blocking(encode).await {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

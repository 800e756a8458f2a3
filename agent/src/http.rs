//! The HTTP listener: alive, ready, serving, metrics.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use seawall_common::telemetry::OPENMETRICS;

use crate::{status, tablet::Tablet};

pub fn routes(tablet: Arc<Tablet>) -> Router {
    let routes = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/serving", get(serving))
        .route("/metrics", get(metrics))
        .with_state(tablet);
    #[cfg(feature = "fault-injection")]
    let routes = routes.merge(seawall_common::fault::routes());
    routes
}

/// Ready: the leftovers of an earlier process are dealt with, so that commands are taken.
async fn ready(State(tablet): State<Arc<Tablet>>) -> (StatusCode, String) {
    match tablet.check_recovered() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

/// For a load balancer's check: 200 while the tablet may receive traffic.
async fn serving(State(tablet): State<Arc<Tablet>>) -> (StatusCode, String) {
    match status::serving(&tablet) {
        Ok(()) => (StatusCode::OK, "serving\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(tablet): State<Arc<Tablet>>) -> impl IntoResponse {
    match tablet.metrics.render(&tablet) {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

//! The agent's own metrics and health, for Prometheus and the kubelet.

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::uplink::SensorStatus;

/// `/metrics`, `/healthz` (the process answers) and `/readyz` (the sensor works, whatever the uplink does).
pub fn router(registry: Registry, sensor: watch::Receiver<SensorStatus>) -> Router {
    let registry = Arc::new(registry);
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                let problem = sensor.borrow().problem();
                match problem {
                    None => (StatusCode::OK, "ok\n".to_owned()),
                    Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move {
                let mut text = String::new();
                match prometheus_client::encoding::text::encode(&mut text, &registry) {
                    Ok(()) => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
                    Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
                }
            }),
        )
}

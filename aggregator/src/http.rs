//! Plain HTTP for the machinery around us: `/metrics` (OpenMetrics), `/healthz`, `/readyz`; and, where it is asked for, `/v1/alerts`. Nothing secret leaves.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

use crate::{
    counters::Counters,
    fleet::Fleet,
    gauges::Gauges,
    problems::Problems,
    receive::{Door, PATH},
};

/// What the pages show.
pub struct Pages {
    registry: Registry,
    fleet: Arc<Fleet>,
    problems: Arc<Problems>,
    nodes_connected: Gauge,
    nodes_known: Gauge,
    containers_alive: Gauge,
    containers_gone: Gauge,
    counters: Arc<Counters>,
}

impl Pages {
    /// Pages over these.
    #[must_use]
    pub fn new(counters: Arc<Counters>, gauges: Gauges) -> Self {
        let (fleet, problems) = (Arc::clone(&gauges.fleet), Arc::clone(&gauges.problems));
        let mut registry = Registry::with_prefix("vedette_aggregator");
        counters.register(&mut registry);
        registry.register_collector(Box::new(gauges));
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let nodes_connected = gauge("nodes_connected", "Nodes with an open stream");
        let nodes_known = gauge("nodes_known", "Nodes remembered");
        let containers_alive = gauge("containers_alive", "Containers alive");
        let containers_gone = gauge("containers_gone", "Containers gone and remembered");
        Self { registry, fleet, problems, nodes_connected, nodes_known, containers_alive, containers_gone, counters }
    }

    /// Serves them, and takes other tools' alerts where there is a door for these.
    pub fn router(self, alerts: Option<Door>) -> Router {
        let alerts = alerts.map_or_else(Router::new, |door| Router::new().route(PATH, post(Door::take)).with_state(Arc::new(door)));
        alerts.merge(self.pages())
    }

    fn pages(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(Arc::new(self))
    }
}

async fn metrics(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    let status = pages.fleet.status();
    pages.nodes_connected.set(i64::from(status.nodes_connected));
    pages.nodes_known.set(i64::from(status.nodes_known));
    pages.containers_alive.set(status.containers_alive as i64);
    pages.containers_gone.set(status.containers_gone as i64);
    let counted = pages.counters.forgotten.get();
    pages.counters.forgotten.inc_by(status.forgotten.saturating_sub(counted));
    let counted = pages.counters.nodes_forgotten.get();
    pages.counters.nodes_forgotten.inc_by(status.nodes_forgotten.saturating_sub(counted));
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &pages.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text)
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], format!("{error}\n")),
    }
}

async fn ready(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    let lines: String = pages.problems.lines().into_iter().map(|line| line + "\n").collect();
    if pages.problems.ready() { (StatusCode::OK, format!("ready\n{lines}")) } else { (StatusCode::SERVICE_UNAVAILABLE, lines) }
}

//! What the small aggregator of the tests answers.

use std::collections::HashMap;

use vedette_proto::v1::{
    Answer, BaselineState, Container, Evidence, ExplainIncidentResponse, Family, GetStatusResponse, Handling, Incident, Kind, Node,
    NodeState, Origin, Peers, RecordedAnswer, RecordedHandling, Series, Severity, Workload,
};

use super::HOSTILE;

/// 2026-11-22T10:00:00Z.
pub const T0: i64 = 1_795_341_600_000;

pub fn status() -> GetStatusResponse {
    GetStatusResponse {
        version: "0.1.0".into(),
        cluster: "lab".into(),
        started_unix_ms: T0,
        nodes_connected: 1,
        nodes_known: 2,
        containers_alive: 1234,
        observations_stored: 1_000_000,
        refused: HashMap::from([("future".to_owned(), 3)]),
        incidents_open: 1,
        history_bytes: 1_258_291,
        history_observations: 2_000_000,
        history_oldest_unix_ms: T0,
        problems: vec![format!("disk {HOSTILE}")],
        ..GetStatusResponse::default()
    }
}

pub fn nodes() -> Vec<Node> {
    let node = |name: &str, state: NodeState| Node {
        name: name.into(),
        state: state.into(),
        last_heard_unix_ms: T0,
        containers: 110,
        agent_version: "0.1.0".into(),
        cluster: "lab".into(),
        ..Node::default()
    };
    vec![node("worker-1", NodeState::Live), node("worker-2", NodeState::Silent)]
}

pub fn workload() -> Workload {
    Workload {
        cluster: "lab".into(),
        namespace: "shop".into(),
        owner_kind: "Deployment".into(),
        owner_name: "web".into(),
        container_name: "nginx".into(),
    }
}

pub fn container() -> Container {
    Container {
        workload: Some(workload()),
        node: "worker-1".into(),
        pod_uid: "8f3c".into(),
        container_id: "ab".repeat(32),
        cpu_millicores: Some(250),
        rx_bytes_per_second: Some(1_258_291),
        score: 0.97,
        baseline: BaselineState::Ready.into(),
        ..Container::default()
    }
}

pub fn incident() -> Incident {
    Incident {
        id: 12,
        workload: Some(workload()),
        kind: Kind::Scan.into(),
        effect: Kind::Scan.effect().into(),
        severity: Severity::Page.into(),
        onset_unix_ms: T0,
        opened_unix_ms: T0 + 4_000,
        updated_unix_ms: T0 + 4_000,
        peak_score: 0.97,
        evidence: vec![Evidence {
            sentence: "TCP connections opened 198/s, normally 0.3/s (0 to 1.2)".into(),
            family: Family::NetworkConnections.into(),
            feature: "tcp_active_opens_per_sec".into(),
            observed: Some(198.0),
            expected: Some(0.3),
            expected_low: Some(0.0),
            expected_high: Some(1.2),
            unit: "1/s".into(),
            baseline: "own".into(),
            unix_ms: T0 + 3_000,
        }],
        nodes: vec!["worker-1".into()],
        pods: vec!["web-7d9f".into()],
        container_ids: vec!["ab".repeat(32)],
        attack_techniques: vec!["T1046".into()],
        answer: Answer::Unspecified.into(),
        summary: "connection sweep (scan?) in shop/Deployment/web since 10:00:00".into(),
        origin: Origin::Live.into(),
        ..Incident::default()
    }
}

pub fn explained(incident: Incident) -> ExplainIncidentResponse {
    ExplainIncidentResponse {
        incident: Some(incident),
        series: vec![Series {
            feature: "tcp_active_opens_per_sec".into(),
            unit: "1/s".into(),
            unix_ms: (-4..4).map(|i| T0 + i * 1_000).collect(),
            values: vec![0.0, 0.0, f64::NAN, 0.0, 100.0, 200.0, 200.0, 150.0],
            container_id: "ab".repeat(32),
        }],
        peers: vec![Peers { container_id: "ab".repeat(32), unix_ms: T0, lines: vec!["10.0.0.7:443, 12 connections, 3 connecting".into()] }],
        processes: vec!["nginx".into(), HOSTILE.into()],
        answers: vec![RecordedAnswer { id: 1, answer: Answer::Unsure.into(), author: "jo".into(), unix_ms: T0, ..Default::default() }],
        handlings: vec![RecordedHandling {
            id: 1,
            handling: Handling::Commented.into(),
            author: "jo".into(),
            note: HOSTILE.into(),
            unix_ms: T0,
            ..Default::default()
        }],
        reasoning: "opens without established connections".into(),
        ..ExplainIncidentResponse::default()
    }
}

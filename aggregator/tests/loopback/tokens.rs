//! Who may do what.

use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use vedette_proto::v1::{
    self, label_service_client::LabelServiceClient, query_service_client::QueryServiceClient, stream_request::Message,
};

use crate::harness::{Agent, channel, hello, message, start, token, with_token};

#[tokio::test]
async fn the_agent_token_delivers_and_does_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let agent = token(dir.path(), "agent.token");
    let admin = token(dir.path(), "admin.token");
    let mut query = QueryServiceClient::new(channel.clone());
    let mut label = LabelServiceClient::new(channel.clone());

    let by_agent = query.get_status(with_token(v1::GetStatusRequest {}, &agent)).await.unwrap_err();
    let label_by_agent = label.list_labels(with_token(v1::ListLabelsRequest::default(), &agent)).await.unwrap_err();
    let by_nobody = query.get_status(v1::GetStatusRequest {}).await.unwrap_err();
    let by_stranger = query.get_status(with_token(v1::GetStatusRequest {}, &"0".repeat(64))).await.unwrap_err();
    let by_admin = query.get_status(with_token(v1::GetStatusRequest {}, &admin)).await.unwrap().into_inner();

    assert_eq!((by_agent.code(), label_by_agent.code()), (Code::PermissionDenied, Code::PermissionDenied));
    assert_eq!((by_nobody.code(), by_stranger.code()), (Code::Unauthenticated, Code::Unauthenticated));
    assert_eq!((by_admin.refused["permission_denied"], by_admin.refused["unauthenticated"]), (2, 2));
    aggregator.stop().await;
}

#[tokio::test]
async fn nobody_delivers_without_a_token_and_health_needs_none() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;

    let refused = Agent::open(&channel, "wrong", message(Message::Hello(hello("n", 1)))).await.err().unwrap();
    let mut health = HealthClient::new(channel);
    let check = HealthCheckRequest { service: "vedette.v1.IngestService".into() };
    let mut serving = health.check(check.clone()).await;
    while serving.is_err() {
        tokio::task::yield_now().await;
        serving = health.check(check.clone()).await;
    }

    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(serving.unwrap().into_inner().status(), ServingStatus::Serving);
    aggregator.stop().await;
}

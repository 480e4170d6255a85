//! Every method of every service, found by the descriptors: who may call it, and what it does with what is no message at all.

use prost::Message;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb;
use vedette_aggregator::problems::Source;
use vedette_proto::v1::{self, query_service_client::QueryServiceClient};

use crate::harness::{channel, start, token, with_token};

/// Bytes as they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, length).to_vec()))
    }
}

/// The methods of all services, as paths.
fn methods() -> Vec<String> {
    let mut methods = Vec::new();
    for set in [
        vedette_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        pb::v1::FILE_DESCRIPTOR_SET,
        pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        for file in prost_types::FileDescriptorSet::decode(set).unwrap().file {
            for service in &file.service {
                let paths = service.method.iter().map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                methods.extend(paths);
            }
        }
    }
    methods
}

/// Sends one message of these bytes and reads to the end; `None` without an error.
async fn call(channel: &Channel, path: &str, token: Option<&str>, message: Vec<u8>) -> Option<Status> {
    let request = Request::new(tokio_stream::once(message));
    let request = match token {
        Some(token) => with_token(request.into_inner(), token),
        None => request,
    };
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(64 << 20);
    grpc.ready().await.unwrap();
    match grpc.streaming(request, path.parse().unwrap(), Raw).await {
        Err(status) => Some(status),
        Ok(answer) => {
            let mut answer = answer.into_inner();
            loop {
                match answer.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(status) => return Some(status),
                }
            }
        }
    }
}

#[tokio::test]
async fn every_method_refuses_strangers_garbage_and_giants_and_the_next_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let (admin, agent) = (token(dir.path(), "admin.token"), token(dir.path(), "agent.token"));
    let methods = methods();
    let mut wrong = Vec::new();

    for path in &methods {
        let (public, ingest) = (path.starts_with("/grpc.health.v1."), path.starts_with("/vedette.v1.IngestService/"));
        let mut expect = |what: &str, codes: &[Code], outcome: Option<Status>| match outcome {
            Some(status) if codes.contains(&status.code()) && !status.message().is_empty() => {}
            // Reflection, which is not ours, ends such a stream without a word.
            None if path.starts_with("/grpc.reflection.") && ["garbage", "a giant"].contains(&what) => {}
            other => wrong.push(format!("{path}, {what}: {other:?}")),
        };
        if !public {
            expect("nobody", &[Code::Unauthenticated], call(&channel, path, None, Vec::new()).await);
            expect("a stranger", &[Code::Unauthenticated], call(&channel, path, Some("0123"), Vec::new()).await);
            if !ingest {
                expect("an agent", &[Code::PermissionDenied], call(&channel, path, Some(&agent), Vec::new()).await);
            }
        }
        // The engine below says "internal" of what it cannot decode; what it says is clear all the same.
        let undecodable = [Code::Internal, Code::InvalidArgument];
        expect("garbage", &undecodable, call(&channel, path, Some(&admin), vec![0xff; 100]).await);
        let limit = if ingest {
            8 << 20
        } else if path.contains("LabelService") {
            16 << 20
        } else if path.contains("ModelService") {
            // A model's file, and what is said of it.
            20 << 20
        } else {
            4 << 20
        };
        let too_long = [Code::OutOfRange, Code::InvalidArgument];
        expect("a giant", &too_long, call(&channel, path, Some(&admin), vec![0; limit + 1]).await);
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(methods.len() >= 17, "{methods:?}");
    let mut query = QueryServiceClient::new(channel);
    assert!(query.get_status(with_token(v1::GetStatusRequest {}, &admin)).await.is_ok());
    aggregator.stop().await;
}

const SERVICES: [&str; 7] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "vedette.v1.ExportService",
    "vedette.v1.IngestService",
    "vedette.v1.LabelService",
    "vedette.v1.QueryService",
];

macro_rules! reflected {
    ($version:ident, $channel:expr, $token:expr) => {{
        use pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request,
            server_reflection_response,
        };
        let list = server_reflection_request::MessageRequest::ListServices(String::new());
        let asked = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
        let mut client = ServerReflectionClient::new($channel.clone());
        let mut answers = client.server_reflection_info(with_token(tokio_stream::once(asked), $token)).await.unwrap().into_inner();
        match answers.message().await.unwrap().unwrap().message_response {
            Some(server_reflection_response::MessageResponse::ListServicesResponse(list)) => {
                let mut names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
                names.sort();
                names
            }
            other => panic!("no list but {other:?}"),
        }
    }};
}

#[tokio::test]
async fn both_versions_of_reflection_list_the_services() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let admin = token(dir.path(), "admin.token");

    let (v1, v1alpha) = (reflected!(v1, channel, &admin), reflected!(v1alpha, channel, &admin));

    // Each tells of itself, and of everything that a client may want to call.
    let told = |names: &[String]| -> Vec<String> {
        SERVICES
            .iter()
            .filter(|name| !name.starts_with("grpc.reflection"))
            .filter(|name| !names.iter().any(|told| told == **name))
            .map(|name| (*name).to_owned())
            .collect()
    };
    assert_eq!((told(&v1), told(&v1alpha)), (vec![], vec![]), "{v1:?} {v1alpha:?}");
    assert!(v1.contains(&SERVICES[1].to_owned()) && v1alpha.contains(&SERVICES[2].to_owned()), "{v1:?} {v1alpha:?}");
    aggregator.stop().await;
}

/// What health says of a service; a moment may pass until it follows.
async fn health(channel: &Channel, service: &str, wanted: ServingStatus) -> ServingStatus {
    let mut client = HealthClient::new(channel.clone());
    let mut said = ServingStatus::Unknown;
    for _ in 0..200 {
        let check = HealthCheckRequest { service: service.into() };
        said = client.check(check).await.map_or(ServingStatus::Unknown, |answer| answer.into_inner().status());
        if said == wanted {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    said
}

#[tokio::test]
async fn health_says_by_service_whether_observations_can_be_taken_in() {
    use ServingStatus::{NotServing, Serving};
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let channel = channel(&aggregator, dir.path()).await;
    let problems = &aggregator.shared.problems;

    let at_first = health(&channel, "vedette.v1.IngestService", Serving).await;
    problems.state(Source::History, "no space left");
    let full = (
        health(&channel, "vedette.v1.IngestService", NotServing).await,
        health(&channel, "", NotServing).await,
        health(&channel, "vedette.v1.QueryService", Serving).await,
    );
    problems.clear(Source::History);
    let again = health(&channel, "vedette.v1.IngestService", Serving).await;

    assert_eq!((at_first, full, again), (Serving, (NotServing, NotServing, Serving), Serving));
    aggregator.stop().await;
}

#[tokio::test]
async fn nothing_is_served_without_tls() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;
    let admin = token(dir.path(), "admin.token");

    let plain = Channel::from_shared(format!("http://{}", aggregator.grpc)).unwrap().connect().await.unwrap();
    let refused = QueryServiceClient::new(plain).get_status(with_token(v1::GetStatusRequest {}, &admin)).await;

    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(aggregator.shared.counters.handshakes_failed.get(), 1);
    aggregator.stop().await;
}

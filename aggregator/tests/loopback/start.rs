//! What keeps the aggregator from starting is one clear line, and nothing is lost.

use vedette_aggregator::serve;

use crate::harness::{config, start};

#[tokio::test]
async fn a_port_in_use_is_named_and_the_data_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(dir.path());
    config.grpc.listen = taken.local_addr().unwrap();

    let error = serve::start(config).await.err().unwrap().to_string();

    assert!(error.contains("grpc.listen") && error.contains(&taken.local_addr().unwrap().to_string()), "{error}");
    assert!(!dir.path().join("data").exists());
}

#[tokio::test]
async fn a_data_directory_in_use_or_of_another_version_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let first = start(dir.path()).await;

    let in_use = serve::start(config(dir.path())).await.err().unwrap().to_string();
    first.stop().await;
    std::fs::write(dir.path().join("data/VERSION"), "vedette-aggregator 7\n").unwrap();
    let version = serve::start(config(dir.path())).await.err().unwrap().to_string();

    assert!(in_use.contains("in use"), "{in_use}");
    assert!(version.contains("vedette-aggregator 7"), "{version}");
}

#[tokio::test]
async fn http_tells_readiness_and_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let aggregator = start(dir.path()).await;

    let ready = get(aggregator.http, "/readyz").await;
    let metrics = get(aggregator.http, "/metrics").await;

    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(metrics.contains("vedette_aggregator_refused_total{reason=\"sequence\"} 0"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    aggregator.stop().await;
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

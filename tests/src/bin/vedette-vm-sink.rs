//! Stands in for the aggregator inside the cgroup v2 virtual machine: `vedette-vm-sink FOLDER ADDRESS`
//! writes `ca.pem` into the folder, listens with TLS, and writes what agents send to `received.jsonl`.

use std::{env, fs, path::PathBuf};

use anyhow::Context;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use vedette_proto::v1::ingest_service_server::IngestServiceServer;
use vedette_tests::{certificates, sink::Sink};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok().context("a crypto provider is already installed")?;
    let mut arguments = env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().context("first argument: a folder")?);
    let address = arguments.next().context("second argument: an address")?.to_string_lossy().parse()?;

    let certificates = certificates::make()?;
    let received = fs::File::create(folder.join("received.jsonl"))?;
    fs::write(folder.join("ca.pem"), &certificates.ca)?;
    let identity = Identity::from_pem(certificates.certificate, certificates.key);
    Server::builder()
        .tls_config(ServerTlsConfig::new().identity(identity))?
        .add_service(IngestServiceServer::new(Sink::new(received)))
        .serve(address)
        .await?;
    Ok(())
}

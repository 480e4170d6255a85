//! A small aggregator that serves the real contract over TLS, and the binary under test beside it.

// Each test binary uses its part of this.
#![allow(dead_code)]

mod answers;
mod services;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::broadcast;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use vedette_proto::v1::export_service_server::ExportServiceServer;
use vedette_proto::v1::label_service_server::LabelServiceServer;
use vedette_proto::v1::query_service_server::QueryServiceServer;
use vedette_proto::v1::{Incident, Label, WatchIncidentsResponse};

pub use answers::incident;

/// The token that the aggregator accepts.
pub const TOKEN: &str = "right-token";
/// A process name that tries to clear the screen and to read backwards.
pub const HOSTILE: &str = "\u{1b}[2Jxmr\u{202e}gip";

/// What the aggregator knows.
pub struct State {
    pub incidents: Vec<Incident>,
    pub labels: Vec<Label>,
    /// Ends an export before its last message.
    pub export_breaks: bool,
    pub changes: broadcast::Sender<WatchIncidentsResponse>,
}

/// A certificate authority with a directory that looks like an aggregator's.
pub struct Installation {
    pub dir: tempfile::TempDir,
    identity: Identity,
}

impl Installation {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let leaf_pem = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem();
        std::fs::create_dir(dir.path().join("tls")).unwrap();
        std::fs::create_dir(dir.path().join("config")).unwrap();
        std::fs::write(dir.path().join("tls/ca.pem"), ca_pem).unwrap();
        std::fs::write(dir.path().join("admin.token"), format!("{TOKEN}\n")).unwrap();
        Self { dir, identity: Identity::from_pem(leaf_pem, key.serialize_pem()) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `vedette` with nothing of this machine's own configuration; `args` are split at spaces, `%` stands for one.
    pub fn vedette(&self, address: SocketAddr, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vedette"));
        command.env_clear().env("TZ", "UTC").env("USER", "mira").env("XDG_CONFIG_HOME", self.path("config"));
        command.env("VEDETTE_ENDPOINT", format!("https://{address}")).env("VEDETTE_DATA_DIR", self.dir.path());
        command.args(args.split_whitespace().map(|arg| arg.replace('%', " "))).stdin(Stdio::null());
        command
    }
}

/// A running aggregator; it ends when this is dropped, with every connection.
pub struct Aggregator {
    pub address: SocketAddr,
    pub state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

impl Aggregator {
    pub fn start(installation: &Installation) -> Self {
        let state = State { incidents: vec![incident()], labels: Vec::new(), export_breaks: false, changes: broadcast::channel(16).0 };
        Self::start_at(installation, "127.0.0.1:0".parse().unwrap(), Arc::new(Mutex::new(state)))
    }

    pub fn start_at(installation: &Installation, address: SocketAddr, state: Arc<Mutex<State>>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let services = services::Services(Arc::clone(&state));
        let tls = ServerTlsConfig::new().identity(installation.identity.clone());
        let server = Server::builder().tls_config(tls).unwrap();
        let router = { server }
            .add_service(QueryServiceServer::with_interceptor(services.clone(), services::check))
            .add_service(LabelServiceServer::with_interceptor(services.clone(), services::check))
            .add_service(ExportServiceServer::with_interceptor(services, services::check));
        runtime.spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, state, runtime: Some(runtime) }
    }
}

impl Drop for Aggregator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a run of the binary left.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs the command to its end.
pub fn ran(mut command: Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

/// Runs `vedette` against a fresh aggregator.
pub fn run(args: &str) -> Ran {
    let installation = Installation::new();
    let aggregator = Aggregator::start(&installation);
    ran(installation.vedette(aggregator.address, args))
}

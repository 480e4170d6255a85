//! Alerts, with Debian's Alertmanager and Prometheus: one attack is one notification, across restarts; other tools' alerts come in; and
//! every query that is shipped returns data.

#![allow(clippy::unwrap_used)]

mod attack;
mod inbox;
mod monitoring;
mod notified;
mod received;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use vedette_tests::process::{self, Process};

/// For anything that must come to pass, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);
/// The program that Debian installs.
pub const ALERTMANAGER: &str = "/usr/bin/prometheus-alertmanager";

/// A real Alertmanager with this configuration, on a port that was free.
pub fn alertmanager(folder: &Path, config: &str) -> (Process, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], process::free_port().unwrap()));
    fs::write(folder.join("alertmanager.yml"), config).unwrap();
    let arguments = [
        format!("--config.file={}", folder.join("alertmanager.yml").display()),
        format!("--storage.path={}", folder.join("alertmanager").display()),
        format!("--web.listen-address={address}"),
        "--cluster.listen-address=".to_owned(),
    ];
    let mut alertmanager = Process::start_program(Path::new(ALERTMANAGER), arguments, folder).unwrap();
    let ready = || matches!(process::get(address, "/-/ready"), Ok((200, _)));
    alertmanager.wait_for("Alertmanager is ready", LIMIT, ready).unwrap();
    (alertmanager, address)
}

/// `POST` of JSON over plain HTTP; the status.
pub fn post(address: SocketAddr, path: &str, token: Option<&str>, body: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    let authorization = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{authorization}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Looks again and again until something is so.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !done() {
        assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

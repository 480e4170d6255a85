//! Bad input to either program: one clear line that names the place, a non-zero exit, nothing lost.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use vedette_tests::{
    agent::{self, Agent, Setup},
    aggregator::{self, Aggregator},
    certificates, checkout,
    process::Process,
};

/// A program that goes on in spite of bad input fails the test after this.
const PATIENCE: Duration = Duration::from_secs(20);

/// The binary's configuration file, with a change.
fn change(path: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, change(text)).unwrap();
}

/// Runs a binary that must refuse; gives its last line, and checks that it is the only complaint.
fn refusal(binary: &str, folder: &Path) -> String {
    let config = folder.join(format!("{}.toml", binary.trim_start_matches("vedette-")));
    let mut process = Process::start(binary, ["--config".into(), config.into_os_string()], folder).unwrap();
    let status = process.wait(PATIENCE).unwrap();
    let log = process.log();
    assert!(!status.success(), "{binary} accepted it:\n{log}");
    assert!(!log.contains("panicked"), "{log}");
    // A start may be logged before; the complaint itself is one line.
    let complaints: Vec<_> = log.lines().filter(|line| !line.contains(" INFO ") && !line.trim().is_empty()).collect();
    assert_eq!(complaints.len(), 1, "not one clear line:\n{log}");
    complaints[0].to_owned()
}

fn names(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "{word:?} is not named in: {line}");
    }
}

/// An aggregator's folder, configured.
fn aggregator_folder() -> (tempfile::TempDir, SocketAddr, SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    let (grpc, http) = aggregator::configure(folder.path(), "").unwrap();
    (folder, grpc, http)
}

/// An agent's folder, configured for an aggregator that does not exist.
fn agent_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("ca.pem"), certificates::make().unwrap().ca).unwrap();
    let aggregator = SocketAddr::from(([127, 0, 0, 1], 9));
    let setup = Setup {
        node: "n".into(),
        spool: path("spool"),
        aggregator,
        ca_file: path("ca.pem"),
        token_file: PathBuf::new(),
        more: String::new(),
    };
    agent::configure(folder.path(), &setup).unwrap();
    folder
}

#[test]
fn an_unknown_key_of_the_aggregator_is_named() {
    let (folder, ..) = aggregator_folder();
    change(&folder.path().join("aggregator.toml"), |text| format!("{text}\n[ingest]\nmax_strems = 1\n"));

    names(&refusal("vedette-aggregator", folder.path()), &["aggregator.toml", "max_strems"]);
}

#[test]
fn an_unknown_key_of_the_agent_is_named() {
    let folder = agent_folder();
    change(&folder.path().join("agent.toml"), |text| text.replace("heartbeat_ms", "hartbeat_ms"));

    names(&refusal("vedette-agent", folder.path()), &["agent.toml", "hartbeat_ms"]);
}

#[test]
fn a_missing_configuration_is_named() {
    let folder = tempfile::tempdir().unwrap();

    names(&refusal("vedette-agent", folder.path()), &["agent.toml"]);
    names(&refusal("vedette-aggregator", folder.path()), &["aggregator.toml"]);
}

#[test]
fn a_cgroup_root_that_cannot_be_read_is_named() {
    let folder = agent_folder();
    let root = folder.path().join("nowhere");
    change(&folder.path().join("agent.toml"), |text| {
        text.replace("[sensor]\n", &format!("[sensor]\nroot = {:?}\n", root.display().to_string()))
    });

    names(&refusal("vedette-agent", folder.path()), &["nowhere"]);
}

#[test]
fn a_port_in_use_is_named() {
    let (folder, grpc, _) = aggregator_folder();
    let _taken = TcpListener::bind(grpc).unwrap();
    names(&refusal("vedette-aggregator", folder.path()), &[&grpc.to_string()]);

    let (folder, _, http) = aggregator_folder();
    let _taken = TcpListener::bind(http).unwrap();
    names(&refusal("vedette-aggregator", folder.path()), &[&http.to_string()]);

    let folder = agent_folder();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    change(&folder.path().join("agent.toml"), |text| {
        let (before, _) = text.split_once("[http]").unwrap();
        format!("{before}[http]\nlisten = \"{address}\"\n")
    });
    names(&refusal("vedette-agent", folder.path()), &[&address]);
}

#[test]
fn a_trusted_certificate_that_is_none_is_named() {
    let folder = agent_folder();
    fs::write(folder.path().join("ca.pem"), "this is not a certificate\n").unwrap();

    names(&refusal("vedette-agent", folder.path()), &["ca.pem"]);
}

#[test]
fn a_server_certificate_that_is_none_is_named() {
    let (folder, ..) = aggregator_folder();
    let path = folder.path().join("server.pem");
    fs::write(&path, "this is not a certificate\n").unwrap();
    let file = path.display().to_string();
    change(&folder.path().join("aggregator.toml"), |text| format!("{text}\n[tls]\ncert_file = {file:?}\nkey_file = {file:?}\n"));

    names(&refusal("vedette-aggregator", folder.path()), &["server.pem"]);
}

/// Every file below a folder with its content.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(contents(&entry.path()));
        } else {
            found.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_data_directory_of_another_version_is_named_and_left_as_it_was() {
    let (folder, grpc, http) = aggregator_folder();
    let mut running = Aggregator::start_configured(folder.path(), grpc, http).unwrap();
    running.process.terminate().unwrap();
    running.process.wait(PATIENCE).unwrap();
    fs::remove_file(folder.path().join("vedette-aggregator.log")).unwrap();
    let data = folder.path().join("data");
    let version = contents(&data).into_iter().map(|(path, _)| path).find(|path| path.ends_with("VERSION")).expect("a file VERSION");
    fs::write(&version, "99\n").unwrap();
    // The lock's content may change with whoever holds it.
    let kept =
        || contents(&data).into_iter().filter(|(path, _)| !path.to_string_lossy().to_lowercase().contains("lock")).collect::<Vec<_>>();
    let before = kept();

    let line = refusal("vedette-aggregator", folder.path());

    names(&line, &["99", "version"]);
    assert!(kept() == before, "something in the directory was changed");
}

fn vedette(arguments: &[&str]) -> Output {
    Command::new(checkout::binary("vedette")).args(arguments).env("XDG_CONFIG_HOME", "/nonexistent").output().unwrap()
}

#[test]
fn a_wrong_certificate_stops_the_command_line_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let other = folder.path().join("other.pem");
    fs::write(&other, certificates::make().unwrap().ca).unwrap();
    let (endpoint, ca) = (format!("https://{}", aggregator.grpc), other.display().to_string());
    let token = aggregator.token_file().display().to_string();

    let said = vedette(&["--endpoint", &endpoint, "--ca", &ca, "--token-file", &token, "status"]);

    let line = String::from_utf8(said.stderr).unwrap();
    assert!(!said.status.success());
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    names(&line.to_lowercase(), &["certificate"]);
}

#[tokio::test]
async fn an_agent_that_trusts_another_authority_says_so_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let other = folder.path().join("other.pem");
    fs::write(&other, certificates::make().unwrap().ca).unwrap();
    let setup = |ca_file: &Path| Setup {
        node: "distrust".into(),
        spool: folder.path().join("spool"),
        aggregator: aggregator.grpc,
        ca_file: ca_file.to_owned(),
        token_file: aggregator.agent_token_file(),
        more: String::new(),
    };
    let mut agent = Agent::start(folder.path(), &setup(&other)).unwrap();
    let log = folder.path().join("vedette-agent.log");
    agent
        .process
        .wait_for("the log names the certificate", PATIENCE, || fs::read_to_string(&log).unwrap().to_lowercase().contains("certificate"))
        .unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    agent.process.terminate().unwrap();
    agent.process.wait(PATIENCE).unwrap();
    let stopped = vedette_tests::feeder::now_unix_ms();

    let _agent = Agent::start(folder.path(), &setup(&aggregator.ca_file())).unwrap();

    let sql = format!("select count(*) from observations where node = 'distrust' and time < to_timestamp_millis({stopped})");
    for _ in 0..100 {
        if aggregator.number(&sql).await.unwrap() >= 15 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("what was observed before the right certificate came did not arrive\n{}", fs::read_to_string(log).unwrap());
}

#[tokio::test]
async fn an_unknown_column_in_a_question_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let data = folder.path().join("data").display().to_string();
    let endpoint = format!("https://{}", aggregator.grpc);

    let said = vedette(&["--endpoint", &endpoint, "--data-dir", &data, "query", "select cpu_usge_us from observations"]);

    let line = String::from_utf8(said.stderr).unwrap();
    assert!(!said.status.success());
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    names(&line, &["cpu_usge_us"]);
}

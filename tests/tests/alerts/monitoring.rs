//! Every query of the dashboards and the rules, against a real Prometheus that scrapes a live aggregator and a live agent.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::Value;
use vedette_tests::{
    agent::{Agent, Setup},
    aggregator::{self, Aggregator},
    checkout, prerequisite,
    process::{self, Process},
};

use crate::{
    LIMIT,
    attack::{deliver, identity, node},
};

const PROMETHEUS: &str = "/usr/bin/prometheus";
const PROMTOOL: &str = "/usr/bin/promtool";
const FOLDER: &str = "manifests/overlays/monitoring";

fn manifest(name: &str) -> Value {
    let path = checkout::root().join(FOLDER).join(name);
    serde_norway::from_str(&fs::read_to_string(&path).unwrap()).unwrap()
}

/// The dashboards: (name of the file, the dashboard).
fn dashboards() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for name in ["fleet-dashboard-configmap.yaml", "agents-dashboard-configmap.yaml"] {
        let object = manifest(name);
        assert_eq!(object["metadata"]["labels"]["grafana_dashboard"], "1");
        for (file, text) in object["data"].as_object().unwrap() {
            found.push((file.clone(), serde_json::from_str(text.as_str().unwrap()).unwrap()));
        }
    }
    found
}

/// What an expression compares with a number: that must always be there, whatever the comparison comes to.
fn compared(expression: &str) -> &str {
    let comparison = [" > ", " < "].iter().filter_map(|sign| expression.rfind(sign)).max();
    comparison.filter(|&at| expression[at + 3..].parse::<f64>().is_ok()).map_or(expression, |at| &expression[..at])
}

/// Every expression, with what a reader would look for.
fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for (file, board) in dashboards() {
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                queries.push((format!("{file}: {}", panel["title"]), target["expr"].as_str().unwrap().to_owned()));
            }
        }
        for annotation in board["annotations"]["list"].as_array().unwrap() {
            queries.push((format!("{file}: annotation {}", annotation["name"]), compared(annotation["expr"].as_str().unwrap()).to_owned()));
        }
        for variable in board["templating"]["list"].as_array().unwrap() {
            if let Some(query) = variable["query"]["query"].as_str() {
                let (metric, label) =
                    query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')?.split_once(", ")).unwrap();
                queries.push((format!("{file}: variable {}", variable["name"]), format!("count by ({label}) ({metric})")));
            }
        }
    }
    for group in manifest("vedette-prometheusrule.yaml")["spec"]["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            queries.push((format!("rule {}{}", rule["alert"], rule["record"]), compared(rule["expr"].as_str().unwrap()).to_owned()));
        }
    }
    queries
}

/// An expression as Grafana would send it.
fn filled_in(expression: &str) -> String {
    expression.replace("$__rate_interval", "10s").replace("$namespace", ".*")
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Whether a query gives at least one number; else what it gives.
fn answer(prometheus: SocketAddr, query: &str) -> Result<(), String> {
    let (status, text) = process::get(prometheus, &format!("/api/v1/query?query={}", encoded(query))).map_err(|error| error.to_string())?;
    let body = text.find('{').zip(text.rfind('}')).map_or("", |(start, end)| &text[start..=end]);
    let body: Value = serde_json::from_str(&body.replace("\r\n", "")).map_err(|_| format!("{status}: {text}"))?;
    let rows = body["data"]["result"].as_array().cloned().unwrap_or_default();
    let number = |row: &Value| row["value"][1].as_str().is_some_and(|value| value != "NaN");
    if status == 200 && rows.iter().any(number) { Ok(()) } else { Err(format!("{status}: {body}")) }
}

fn run(program: &str, arguments: &[&str], input: &str) -> (bool, String) {
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// OpenMetrics as the older text format has it, which is what promtool reads: a counter is described under its full name.
fn as_text_format(metrics: &str) -> String {
    let counters: Vec<&str> = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let described = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let (hash, keyword, name, rest) = (words.next()?, words.next()?, words.next()?, words.next()?);
        (hash == "#" && counters.contains(&name)).then(|| format!("{hash} {keyword} {name}_total {rest}"))
    };
    let kept = metrics.lines().filter(|line| !line.starts_with("# UNIT") && *line != "# EOF");
    kept.map(|line| described(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

#[test]
fn what_is_compared_with_a_number_is_looked_at_without_it() {
    assert_eq!(compared("sum(a) > 0.9"), "sum(a)");
    assert_eq!(compared("(sum(up) or vector(0)) < 1"), "(sum(up) or vector(0))");
    assert_eq!(compared("rate(a[5m])"), "rate(a[5m])");
    assert!(queries().len() > 50, "{}", queries().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shipped_query_returns_data() {
    if !prerequisite::file(Path::new(PROMETHEUS), "make prepare") || !prerequisite::file(Path::new(PROMTOOL), "make prepare") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = node(20);
    let receiver = format!(
        "[notify]\nresend_seconds = 1\n[[notify.receivers]]\nname = \"am\"\nkind = \"alertmanager\"\nurls = [\"http://127.0.0.1:{}\"]\n",
        process::free_port().unwrap()
    );
    let (grpc, http) = aggregator::configure(folder.path(), &(identity(folder.path(), &node) + &receiver)).unwrap();
    let aggregator = Aggregator::start_configured(folder.path(), grpc, http).unwrap();
    let setup = Setup {
        node: "agent".into(),
        spool: folder.path().join("spool"),
        aggregator: aggregator.grpc,
        ca_file: aggregator.ca_file(),
        token_file: aggregator.agent_token_file(),
        more: String::new(),
    };
    let agent = Agent::start(folder.path(), &setup).unwrap();
    deliver(&aggregator, &node, 1..=3, true).await;
    let rules = folder.path().join("rules.yml");
    fs::write(&rules, serde_norway::to_string(&manifest("vedette-prometheusrule.yaml")["spec"]).unwrap()).unwrap();
    let port = process::free_port().unwrap();
    let scrape = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n  - job_name: \
         vedette-aggregator\n    static_configs: [{{targets: ['{http}']}}]\n  - job_name: vedette-agent/vedette-agent\n    static_configs: \
         [{{targets: ['{}']}}]\n",
        rules.display(),
        agent.http
    );
    fs::write(folder.path().join("prometheus.yml"), scrape).unwrap();
    let arguments = [
        format!("--config.file={}", folder.path().join("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let prometheus = SocketAddr::from(([127, 0, 0, 1], port));
    let mut server = Process::start_program(Path::new(PROMETHEUS), arguments, folder.path()).unwrap();
    server.wait_for("Prometheus is ready", LIMIT, || matches!(process::get(prometheus, "/-/ready"), Ok((200, _)))).unwrap();

    let checked = run(PROMTOOL, &["check", "rules", &rules.display().to_string()], "");
    let (_, metrics) = process::get(http, "/metrics").unwrap();
    let linted = run(PROMTOOL, &["check", "metrics"], &as_text_format(&metrics));
    let started = Instant::now();
    let mut waiting = queries();
    let mut said = Vec::new();
    while !waiting.is_empty() && started.elapsed() < LIMIT {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        said.clear();
        waiting.retain(|(title, query)| match answer(prometheus, &filled_in(query)) {
            Ok(()) => false,
            Err(problem) => {
                said.push(format!("{title}\n  {query}\n  {problem}"));
                true
            }
        });
    }

    assert!(checked.0, "{}", checked.1);
    assert!(linted.0, "{}", linted.1);
    assert!(said.is_empty(), "without data:\n{}", said.join("\n"));
}

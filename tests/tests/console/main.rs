//! The console in a real browser, driven as a person would drive it: against an aggregator that is fed an attack, and one with a large fleet.

#![allow(clippy::unwrap_used)]

mod shop;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ring::signature::{Ed25519KeyPair, KeyPair};
use shop::{CALM, MARKUP, Shop};
use vedette_detect::Classifier;
use vedette_forest::Model;
use vedette_proto::v1::stream_request;
use vedette_tests::{
    aggregator::{self, Aggregator},
    checkout, cli,
    feeder::{Feed, Node},
    prerequisite,
    process::Process,
};

/// For anything that must come to pass, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// What the script downloads at first paint, compressed.
const SCRIPT_BYTES: u64 = 200_000;

/// Node, Chromium and the modules that drive it.
struct Browser {
    modules: PathBuf,
    chromium: PathBuf,
}

impl Browser {
    /// `None`: something is missing, and the calling test was skipped.
    fn find() -> Option<Self> {
        let modules = checkout::cache().join("browser");
        let chromium = PathBuf::from("/usr/bin/chromium");
        let node = Command::new("node").arg("--version").output();
        if !node.is_ok_and(|said| said.status.success()) {
            prerequisite::skip("node does not run (make prepare)");
            return None;
        }
        let there =
            prerequisite::file(&chromium, "make prepare") && prerequisite::file(&modules.join("node_modules/axe-core"), "make prepare");
        there.then_some(Self { modules, chromium })
    }

    fn script(&self, aggregator: &Aggregator, url: &str) -> Command {
        let mut command = Command::new("node");
        command.arg(checkout::root().join("tests/browser/console.mjs"));
        command.env("BROWSER_MODULES", &self.modules).env("CHROMIUM", &self.chromium).env("CONSOLE_URL", url);
        command.env("SCREENSHOTS", screenshots()).env("VEDETTE", checkout::binary("vedette"));
        for (name, value) in cli::command(aggregator, [""; 0]).get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command
    }
}

/// Where people find the pictures.
fn screenshots() -> PathBuf {
    checkout::root().join("target/screenshots")
}

/// `vedette console` against an aggregator, and the address that it prints.
fn open_console(aggregator: &Aggregator) -> (Process, String) {
    let data = aggregator.folder.join("data").display().to_string();
    let endpoint = format!("https://{}", aggregator.grpc);
    let arguments = ["console", "--no-browser", "--author", "anna", "--endpoint", &endpoint, "--data-dir", &data];
    let mut console = Process::start("vedette", arguments, &aggregator.folder).unwrap();
    let log = aggregator.folder.join("vedette.log");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    console.wait_for("the console's address", LIMIT, || said().contains("/#") && said().ends_with('\n')).unwrap();
    (console, said().lines().find(|line| line.starts_with("http://127.0.0.1:")).unwrap().to_owned())
}

/// Reads the script's lines to its end; `on` is shown each. All it said, and whether every step passed.
fn follow(mut script: Child, mut on: impl FnMut(&str, &mut Child)) -> (String, bool) {
    let mut said = String::new();
    for line in BufReader::new(script.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        println!("{line}");
        said.push_str(&line);
        said.push('\n');
        on(&line, &mut script);
    }
    let passed = script.wait().unwrap().success();
    (said, passed)
}

/// Sends batches up to what is due now, and goes on with one a second: an attack that nobody stops.
async fn keep_feeding(mut feed: Feed, shop: Shop, mut next: u64) {
    loop {
        while next <= shop.due() {
            if feed.send(stream_request::Message::Batch(shop.batch(next))).await.is_err() {
                return;
            }
            next += 1;
        }
        while feed.acknowledged + 1 < next {
            if feed.receive().await.is_err() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_finds_explains_answers_and_labels_an_attack() {
    let Some(browser) = Browser::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::new();
    let identities = folder.path().join("identity.jsonl");
    fs::write(&identities, shop.identities()).unwrap();
    // The stated signatures: what they call this is known.
    let more = format!("[identity]\nfile = {:?}\n[detect]\nmodel = \"none\"", identities.display().to_string());
    let (grpc, http) = aggregator::configure(folder.path(), &more).unwrap();
    let aggregator = Aggregator::start_configured(folder.path(), grpc, http).unwrap();
    let mut feed = Feed::open_on(aggregator.channel().await.unwrap(), &aggregator, shop.hello()).await.unwrap();
    for sequence in 1..=CALM {
        feed.send(stream_request::Message::Batch(shop.batch(sequence))).await.unwrap();
        while feed.acknowledged + 32 < sequence {
            feed.receive().await.unwrap();
        }
    }
    for note in ["one", "another"] {
        bring_model(&aggregator, note);
    }
    let (console, url) = open_console(&aggregator);

    let script = browser.script(&aggregator, &url).spawn().unwrap();
    let mut feeding = Some((feed, shop));
    let runtime = tokio::runtime::Handle::current();
    let (said, passed) = tokio::task::block_in_place(|| {
        follow(script, |line, script| {
            if line != "ready" {
                return;
            }
            let (feed, shop) = feeding.take().unwrap();
            runtime.spawn(keep_feeding(feed, shop, CALM + 1));
            let id = runtime.block_on(found(&aggregator));
            let mut to = script.stdin.take().unwrap();
            writeln!(to, "incident {id}").unwrap();
        })
    });

    assert!(passed, "{said}\n{}\n{}", console.log(), aggregator.process.log());
    let answers = aggregator.sql("select distinct answer from answers order by answer").await.unwrap();
    assert_eq!(answers, [["attack"], ["expected"], ["nothing-there"], ["unsure"]]);
    assert_eq!(aggregator.number("select count(distinct handling) from handlings where author = 'anna'").await.unwrap(), 5);
    assert_eq!(aggregator.number("select count(*) from labels where author = 'anna' and note like 'brushed%'").await.unwrap(), 1);
    assert_eq!(
        aggregator.number(&format!("select count(distinct owner_name) from incidents where owner_name = '{MARKUP}'")).await.unwrap(),
        1
    );
}

/// Brings a model: the shipped trees, with a card of the test's own.
fn bring_model(aggregator: &Aggregator, note: &str) {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let shipped = Classifier::shipped().unwrap();
    let mut description = shipped.model().description().clone();
    description.card.insert("note".to_owned(), note.to_owned());
    let file = aggregator.folder.join(format!("{note}.vdtm"));
    fs::write(&file, Model::new(description, shipped.model().forest().clone()).unwrap().to_bytes(&key)).unwrap();
    let public: String = key.public_key().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(aggregator.folder.join(format!("{note}.vdtm.pub")), public).unwrap();
    let added = cli::run(aggregator, ["model", "add", file.to_str().unwrap(), "--note", note]).unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
}

/// The incident of the sweep, once there are both.
async fn found(aggregator: &Aggregator) -> i64 {
    let started = Instant::now();
    loop {
        let both = aggregator
            .number("select count(distinct owner_name) from incidents where resolved is null and owner_kind = 'Deployment'")
            .await;
        if both.is_ok_and(|both| both >= 2) {
            return aggregator.number("select min(id) from incidents where owner_name = 'web' and kind = 'scan'").await.unwrap();
        }
        assert!(started.elapsed() < LIMIT, "the attack was not found\n{}", aggregator.process.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_of_ten_thousand_containers_is_shown_and_timed() {
    let Some(browser) = Browser::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(folder.path()).unwrap();
    let mut feeds = Vec::new();
    for number in 0..10 {
        let node = Node::new(&"n".repeat(number + 1), 1_000, 10);
        let mut feed = Feed::open(&aggregator, &node).await.unwrap();
        feed.deliver(&node, 1..=3).await.unwrap();
        feeds.push(feed);
    }
    let (_console, url) = open_console(&aggregator);

    let script = browser.script(&aggregator, &url).env("FLEET", "10000").spawn().unwrap();
    let (said, passed) = tokio::task::block_in_place(|| follow(script, |_, _| {}));

    assert!(passed, "{said}\n{}", aggregator.process.log());
}

#[test]
fn what_is_shipped_is_built_from_these_sources_and_small() {
    let dist = checkout::root().join("console/dist");
    let check = Command::new("node").arg(checkout::root().join("console/stamp.mjs")).output();
    let Ok(check) = check else { return prerequisite::skip("node does not run (make prepare)") };
    let compressed: u64 =
        files(&dist.join("assets")).iter().filter(|path| path.extension().is_some_and(|end| end == "js")).map(|path| gzip(path)).sum();
    println!("the console's scripts, compressed: {compressed} bytes");

    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    assert!((10_000..SCRIPT_BYTES).contains(&compressed), "{compressed} bytes");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn gzip(path: &Path) -> u64 {
    let output = Command::new("gzip").arg("-9c").arg(path).output().unwrap();
    output.stdout.len() as u64
}

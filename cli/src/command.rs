//! The commands, their help, and which function runs each.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use jiff::Timestamp;

use crate::alerts::{self, AlertsCommand};
use crate::backtest::{self, BacktestArgs};
use crate::budget::{self, BudgetArgs};
use crate::canary::{self, CanaryArgs};
use crate::client::{Client, ConnectArgs};
use crate::cluster::Role;
use crate::console::{self, ConsoleArgs};
use crate::containers::{self, ContainersArgs};
use crate::crosscheck::{self, CrosscheckArgs};
use crate::demo::{self, DemoArgs};
use crate::evaluate::{self, EvaluateArgs};
use crate::exception::{self, ApplyArgs, ExceptionCommand};
use crate::exit::{self, Exit};
use crate::explain;
use crate::export::{self, ExportArgs};
use crate::handle::{self, AcknowledgeArgs, CommentArgs, SnoozeArgs};
use crate::incidents::{self, IncidentsArgs};
use crate::judge::{self, JudgeArgs};
use crate::label::{self, AcceptArgs, AnswerArgs, LabelCommand};
use crate::model::{self, ModelCommand};
use crate::output::{Format, Output};
use crate::query::{self, QueryArgs};
use crate::record::{self, RecordArgs};
use crate::replay::{self, ReplayArgs};
use crate::simulate::{self, SimulateArgs};
use crate::top::{self, TopArgs};
use crate::train::{self, TrainArgs};
use crate::{status, watch};

/// Watches every container from the kernel's own files, tells normal from abnormal, and says why.
#[derive(Debug, Parser)]
#[command(name = "vedette", version, after_help = exit::CODES, disable_help_subcommand = true)]
struct Cli {
    /// How to write the answer
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show how the aggregator itself is
    #[command(after_help = "\
Examples:
  vedette status --data-dir /var/lib/vedette
  vedette status -o json | jq .problems")]
    Status,
    /// List the nodes and how they are
    #[command(after_help = "\
A node is live; blind (connected, but its sensor cannot read); silent (though nothing said so); or left (on purpose).

Example:
  vedette nodes -o json | jq -r '.[] | select(.state != \"live\").name'")]
    Nodes,
    /// List containers with what they use and what is known of their normal
    #[command(after_help = "\
The baseline is learning, ready, or frozen while an incident is open.

Examples:
  vedette containers --namespace shop
  vedette containers --owner Deployment/web --gone")]
    Containers(ContainersArgs),
    /// Show what comparing the agents' counters with Prometheus's comes to
    #[command(after_help = "\
Both read the same kernel. A broken source says what is wrong with Prometheus's values; a disagreement means that a scrape, a clock or the
agent is at fault, and proves nothing else. Agents compare once their configuration names a Prometheus.

Examples:
  vedette crosscheck
  vedette crosscheck --outcome disagree --namespace shop
  vedette query \"select time, node, metric, outcome, cause from cross_checks order by time desc limit 20\"")]
    Crosscheck(CrosscheckArgs),
    /// List incidents, newest first, or watch them come
    #[command(after_help = "\
Examples:
  vedette incidents --open
  vedette incidents --since 24h --severity page
  vedette incidents --watch --severity ticket
  vedette incidents --watch -o json | jq -r .effect     # one object a line

In a script (3 means that nothing matches):
  vedette incidents --open --severity page >/dev/null && echo somebody should look")]
    Incidents(IncidentsArgs),
    /// Show nodes, workloads by score and open incidents, live
    #[command(after_help = "\
q or Ctrl-C ends it. Where nobody watches it prints once; -o json prints one object.

Examples:
  vedette top
  vedette top --namespace shop --every 5
  vedette top -o json | jq -r '.workloads[:5][] | \"\\(.score) \\(.workload.owner_name)\"'")]
    Top(TopArgs),
    /// Say everything that is known about an incident
    #[command(after_help = "\
What moved, by how much, against which baseline; each picture runs from before the onset (^) on.
-o csv has a row per piece of evidence, -o json everything.

Example:
  vedette explain 12")]
    Explain {
        /// The incident
        id: u64,
    },
    /// Say what a stretch of time was; nothing said is ever changed, only taken back
    #[command(subcommand)]
    Label(LabelCommand),
    /// Say what an incident was
    #[command(after_help = "\
attack         it was one; becomes a label
expected       real but allowed; becomes an exception, never an example of normal
nothing-there  nothing unusual happened; becomes a label
unsure         looked at, and undecided

After expected and nothing-there, what is like it (another replica, time, up to twice as much) is a ticket at most; a different or stronger
case of that kind still pages. docs/alerts.md says what alike means.

Examples:
  vedette answer 12 attack --kind scan
  vedette answer 13 expected --note \"load test until Friday\"
  vedette answer 13 --undo")]
    Answer(AnswerArgs),
    /// Say that you are looking at an incident
    #[command(after_help = "\
Lists, notifications and the console then say by whom and since when. It answers nothing, and teaches nothing.

Examples:
  vedette acknowledge 12
  vedette acknowledge 12 --undo")]
    Acknowledge(AcknowledgeArgs),
    /// Let nobody be told of an incident for a while
    #[command(after_help = "\
It is told of again once the time is over, or at once where it becomes more severe. For longer than 7 days make an exception.

Examples:
  vedette snooze 12 --for 2h --note \"the load test ends at four\"
  vedette snooze 12 --undo")]
    Snooze(SnoozeArgs),
    /// Add something to know to an incident
    #[command(after_help = "\
Example:
  vedette comment 12 \"asked the team of the shop; their release is an hour old\"")]
    Comment(CommentArgs),
    /// Show whether this installation pages and what it would have paged; say that it shall
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// Show how often people were bothered, what was withheld, and how much is missed
    #[command(after_help = "\
Rates are per week with their Poisson interval, and say on how many days of watching they rest. The digest is what policy made a note of.

Examples:
  vedette budget
  vedette budget --since 28d -o json | jq .pages")]
    Budget(BudgetArgs),
    /// Let things happen without bothering anybody
    #[command(subcommand)]
    Exception(ExceptionCommand),
    /// Make the exceptions of a file those that stand, and say what they would have hidden
    #[command(after_help = "\
Exceptions of a file applied before that are in it no more end; those that people added stay. docs/alerts.md shows a file.

Examples:
  vedette apply exceptions.yaml --dry-run
  vedette apply exceptions.yaml")]
    Apply(ApplyArgs),
    /// Judge quiet minutes drawn by chance, so that misses are seen
    #[command(after_help = "\
Every workload is as likely as another. Answers become labels; `vedette budget` says how many were misses, with an interval.

Examples:
  vedette judge
  vedette judge --list --count 3
  vedette judge 17 nothing-there
  vedette judge 18 attack --kind mining")]
    Judge(JudgeArgs),
    /// Say that what a workload does while an incident is open is its normal from now on
    #[command(after_help = "\
While an incident is open, the workload's baseline stands still, and what the workload does is learnt beside it. Accepting makes that the
baseline, and the frozen reference. A ticket that was steady for a day asks for it; a day later a timer accepts, unless somebody
answered attack or unsure.

Example:
  vedette accept 12 --note \"version 2.4 keeps a cache\"")]
    Accept(AcceptArgs),
    /// Ask history in SQL
    #[command(after_help = "\
Tables: observations, incidents, labels, answers, handlings, containers, nodes, cross_checks, audit, gaps. Read-only.

Examples:
  vedette query 'select * from observations limit 1'
  vedette query \"select kind, count(*) from observations where time > now() - interval '1 hour' group by kind\"
  vedette query -o csv - < question.sql > answer.csv")]
    Query(QueryArgs),
    /// Take the labelled history away as a file
    #[command(after_help = "\
Layouts:
  full  a row per observation: identity, every column, verdict, label
  seed  a row per 10 s: timestamp,restarts,cpu,memory,net_tx,net_rx,label

Examples:
  vedette export --since 7d --format parquet --out week.parquet
  vedette export --layout seed --out history.csv
  vedette export --kind mining --kind scan --format jsonl | head")]
    Export(ExportArgs),
    /// Open the web console in a browser on this machine
    #[command(after_help = "\
Serves it on 127.0.0.1 over the same connection as every other command: whoever runs this may do in the browser what --role says, until
Ctrl-C. The address that is printed opens one session of eight hours; docs/decisions/061 says what that protects against.

Examples:
  vedette console
  vedette console --role viewer --context production
  vedette console --data-dir /var/lib/vedette --port 8443 --no-browser")]
    Console(ConsoleArgs),
    /// Run aggregator, agent and simulated attacks on this machine: a demonstration, not evidence
    #[command(after_help = "\
Needs root on Linux for the live run; otherwise replays a recording.

Examples:
  vedette demo
  vedette demo --report demo.json
  vedette demo --keep")]
    Demo(DemoArgs),
    /// Run a plan of the range, on this machine or in a cluster: ordinary work, attacks and look-alikes, labelled as they happen
    #[command(after_help = "\
Makes pods of its own and sends to nobody else; needs root on Linux. Labels go to the aggregator, whose agent must watch this machine.
Ctrl-C removes everything; after a crash, --clean does. docs/plans.md says how to write a plan.

With --backend kube the pods are a cluster's, in a namespace that the run makes and removes: no root. Attacks wait until network policies
were seen to be enforced. docs/lab.md says what addresses the cluster's pods need, and what a person must be allowed.

Examples:
  vedette simulate seed-session --data-dir /var/lib/vedette
  vedette simulate plans/mine.yaml --dry-run --seed 7
  vedette simulate seed-session-short --no-labels --schedule-out schedule.json
  vedette simulate --clean
  vedette simulate seed-session --backend kube
  vedette simulate --clean --backend kube")]
    Simulate(SimulateArgs),
    /// Play recorded sessions to the aggregator as agents would deliver them, with their labels
    #[command(after_help = "\
A replay has a cluster name of its own, its events keep their time, and it never pages. Each recording is checked against its
manifest first. The same replay again adds nothing; one that was interrupted goes on.

Examples:
  vedette replay recordings/
  vedette replay recordings/shop-01 --speed 20 --session shop-again
  vedette incidents --cluster shop-again")]
    Replay(ReplayArgs),
    /// Run a plan of the range and record it: observations, containers, labels
    #[command(after_help = "\
Starts an aggregator and an agent of its own, as in production. A recording appears whole or not at all; of a list of sessions those
already there are skipped. Needs root on Linux, and a machine that does nothing else. docs/recordings.md says what a recording holds.

Examples:
  vedette record demo --out recordings
  vedette record --sessions plans/sessions.yaml --out recordings")]
    Record(RecordArgs),
    /// Play recordings through the detector, and print what it finds, what it misses and whom it bothers
    #[command(after_help = "\
Recordings need no aggregator. docs/evaluation.md says how events are counted. With --model and --against two models are compared on recordings that
neither was made with, and the exit code says whether the first may take the second's place (0) or not (1). With --history what an
aggregator stored is held against its labels; it is cut into stretches of time, which are what recordings are otherwise.

Examples:
  vedette evaluate --recordings recordings
  vedette evaluate --set DEV --out target/evaluation.json --html target/evaluation.html
  vedette evaluate -o json | jq '.[] | select(.target != \"\")'
  vedette evaluate --recordings others --model kind.vdtm --against shipped --comparison-out comparison.json
  vedette evaluate --history --since 30d --split workload")]
    Evaluate(EvaluateArgs),
    /// See and choose the kind classifiers that an aggregator has
    #[command(subcommand)]
    Model(ModelCommand),
    /// Attack pods of its own with a scan and a miner, labelled as simulated, and say whether that was detected and how fast
    #[command(after_help = "\
Takes two and a half minutes, touches nobody else's pods, and removes its own however it ends. Whatever was not detected is a failure (1): a
canary in a schedule tells when detection itself no longer works. On this machine it needs root, and an agent that watches it; in a cluster
what `vedette simulate --backend kube` needs (docs/lab.md).

Examples:
  vedette canary --data-dir /var/lib/vedette
  vedette canary --backend kube
  vedette canary -o json | jq '.[] | select(.detected == \"no\")'")]
    Canary(CanaryArgs),
    /// Play history through a fresh detector and compare with what was told; or score the rows of any table
    #[command(after_help = "\
History is played with today's detector, after some minutes that only teach it: `same` was told then and would be now, `new` would be told
now, `gone` was told then. It is held in memory, at most 5 million rows at once. With --model a model of the aggregator is asked, and whether
the one in service tells the same of the same rows stands beside it: what only one of them tells is due to the model, not to a fresh detector.

A table is a CSV file with a header, also .csv.gz, of any size; - is standard input. Every row gets a score by the unsupervised layers, from
nothing but the rows before it. Every column but those named otherwise must be numeric; an empty field, NaN and null are absent.
docs/evaluation.md says what the score is made of.

Examples:
  vedette backtest --since 6h --namespace shop
  vedette backtest --model 3fa2 --since 6h
  vedette backtest --since 2d --until 1d -o json | jq '.[] | select(.state == \"new\")'
  vedette backtest --csv metrics.csv --time timestamp --scores-out scores.csv
  vedette backtest --csv pods.csv.gz --time timestamp --entity pod --label label --train-rows 5000
  vedette backtest --csv pods.csv.gz --time timestamp --entity pod --column cpu_millicores -o json")]
    Backtest(BacktestArgs),
    /// Train the kind classifier from recordings, and sign it
    #[command(after_help = "\
Trees are grown on the set DEV, thresholds chosen by the set CAL. The file has the figures of models trained likewise, each asked about the
session that it did not know. The same recordings, seed and key give the same bytes.

Example:
  vedette train --recordings recordings --out kind.vdtm")]
    Train(TrainArgs),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  vedette completion bash > /etc/bash_completion.d/vedette
  vedette completion zsh > \"${fpath[1]}/_vedette\"
  vedette completion fish > ~/.config/fish/completions/vedette.fish")]
    Completion {
        /// The shell
        #[arg(value_parser = shell())]
        shell: Shell,
    },
}

/// The shells whose completion is tried in tests.
fn shell() -> impl clap::builder::TypedValueParser<Value = Shell> {
    use clap::builder::TypedValueParser as _;
    clap::builder::PossibleValuesParser::new(["bash", "zsh", "fish"]).try_map(|name| name.parse::<Shell>())
}

/// Parses the command line, runs the command, reports an error in one line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(cli)));
    match result {
        Ok(code) => code,
        Err(error) => {
            let (exit, line) = exit::of_error(&error);
            if let Some(line) = line {
                eprintln!("vedette: {line}");
            }
            exit.into()
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let mut output = Output::stdout(cli.output);
    match cli.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Simulate(args) => simulate::run(args, &cli.connect).await,
        Command::Record(args) => record::run(args).await,
        Command::Evaluate(args) => evaluate::run(&args, &cli.connect, &mut output).await.map(ExitCode::from),
        Command::Canary(args) => canary::run(args, &cli.connect, &mut output).await.map(ExitCode::from),
        Command::Backtest(args) => backtest::run(&args, &cli.connect, &mut output).await.map(ExitCode::from),
        Command::Train(args) => train::run(&args, &mut output).map(ExitCode::from),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vedette", &mut script);
            output.sink.write_all(&script)?;
            output.sink.flush()?;
            Ok(Exit::Ok.into())
        }
        command => ask(command, &cli.connect, &mut output).await.map(ExitCode::from),
    }
}

/// The role that suffices for a command.
fn needs(command: &Command) -> Role {
    match command {
        Command::Model(command) => command.needs(),
        Command::Answer(_) | Command::Accept(_) | Command::Console(_) | Command::Judge(_) => Role::Operator,
        Command::Acknowledge(_) | Command::Snooze(_) | Command::Comment(_) => Role::Operator,
        Command::Alerts(command) if command.writes() => Role::Operator,
        Command::Exception(command) if command.writes() => Role::Operator,
        Command::Apply(_) => Role::Operator,
        Command::Label(command) if command.writes() => Role::Operator,
        Command::Export(_) | Command::Replay(_) => Role::Admin,
        _ => Role::Viewer,
    }
}

async fn ask(command: Command, connect: &ConnectArgs, output: &mut Output) -> anyhow::Result<Exit> {
    let route = connect.route(needs(&command))?;
    let mut client: Client = crate::progress::waiting("connecting", route.connect()).await?;
    let client = &mut client;
    let now = Timestamp::now();
    match command {
        Command::Status => status::status(client, output, now.as_millisecond()).await,
        Command::Nodes => status::nodes(client, output, now.as_millisecond()).await,
        Command::Containers(args) => containers::run(args, client, output).await,
        Command::Crosscheck(args) => crosscheck::run(args, client, output).await,
        Command::Incidents(args) if args.watch => watch::run(args, &route, client.clone(), output).await,
        Command::Incidents(args) => incidents::run(args, client, output, now).await,
        Command::Top(args) => top::run(args, &route, client.clone(), output).await,
        Command::Explain { id } => explain::run(id, client, output, now).await,
        Command::Label(command) => label::run(command, client, output, now).await,
        Command::Answer(args) => label::answer(args, client, output).await,
        Command::Acknowledge(args) => handle::acknowledge(args, client, output).await,
        Command::Snooze(args) => handle::snooze(args, client, output, now).await,
        Command::Comment(args) => handle::comment(args, client, output).await,
        Command::Alerts(command) => alerts::run(command, client, output, now.as_millisecond()).await,
        Command::Budget(args) => budget::run(args, client, output, now).await,
        Command::Exception(command) => exception::run(command, client, output, now).await,
        Command::Apply(args) => exception::apply(args, client, output, now).await,
        Command::Judge(args) => judge::run(args, client, output).await,
        Command::Accept(args) => label::accept(args, client, output).await,
        Command::Query(args) => query::run(args, client, output).await,
        Command::Console(args) => console::run(args, client, output).await,
        Command::Export(args) => export::run(args, client, now).await,
        Command::Replay(args) => replay::run(args, client, output).await,
        Command::Model(command) => model::run(command, client, output).await,
        Command::Demo(_)
        | Command::Simulate(_)
        | Command::Record(_)
        | Command::Evaluate(_)
        | Command::Backtest(_)
        | Command::Canary(_)
        | Command::Train(_)
        | Command::Completion { .. } => {
            unreachable!("these ask no aggregator")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let taught = command.has_subcommands() || help.contains("Example");
            assert!(taught, "{} has no example", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn words_are_read_in_both_spellings() {
        for line in ["answer 1 nothing-there", "answer 1 nothing_there", "incidents --kind crash-loop", "incidents --kind crash_loop"] {
            assert!(Cli::try_parse_from(std::iter::once("vedette").chain(line.split(' '))).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["vedette", "incidents", "--kind", "burglary"]).is_err());
    }

    #[test]
    fn completion_knows_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vedette", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} does not know {}", command.get_name());
            }
        }
    }
}

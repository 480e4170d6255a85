//! `vedette record`: runs plans of the range and saves what was observed, one recording a session.

mod cpio;
mod load;
mod local;
mod session;
mod sessions;
mod vm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::escape::escaped;
use crate::exit::{Exit, Stop};
use crate::recording::{MANIFEST, Manifest, Set, is_session_name};
use session::Session;

/// Flags of `vedette record`.
#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// The plan to run: a name that the range knows, or a file
    #[arg(value_name = "PLAN", required_unless_present = "sessions", conflicts_with = "sessions")]
    plan: Option<String>,
    /// A list of sessions instead of one plan
    #[arg(long, value_name = "FILE")]
    sessions: Option<PathBuf>,
    /// Folder of the recordings, one folder each
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the recording [default: the plan's]
    #[arg(long, value_name = "NAME", conflicts_with = "sessions", value_parser = name)]
    name: Option<String>,
    /// What everything random in the plan comes from [default: another one each time]
    #[arg(long, value_name = "N", conflicts_with = "sessions")]
    seed: Option<u64>,
    /// What runs the containers
    #[arg(long, value_name = "BACKEND", conflicts_with = "sessions", default_value = "local")]
    backend: session::Backend,
    /// Ordinary work before the plan's first phase, such as 1h [default: as the plan has it]
    #[arg(long, value_name = "LENGTH", conflicts_with = "sessions")]
    warm_up: Option<String>,
    /// What the recording may be used for
    #[arg(long, value_name = "SET", conflicts_with = "sessions", value_parser = set, default_value = "DEV")]
    set: Set,
    /// Only this session of the list; may be given several times
    #[arg(long, value_name = "NAME", requires = "sessions")]
    only: Vec<String>,
    /// Record although the machine does other things as well
    #[arg(long)]
    despite_load: bool,
}

fn name(text: &str) -> Result<String, String> {
    if is_session_name(text) { Ok(text.to_owned()) } else { Err("must be 1 to 63 characters of a-z 0-9 - .".to_owned()) }
}

fn set(text: &str) -> Result<Set, String> {
    match text {
        "DEV" => Ok(Set::Dev),
        "CAL" => Ok(Set::Cal),
        _ => Err("must be DEV or CAL".to_owned()),
    }
}

/// Records one session after another; stops at the first that fails.
pub async fn run(args: RecordArgs) -> anyhow::Result<ExitCode> {
    let sessions = match &args.sessions {
        Some(file) => chosen(sessions::read(file)?, &args.only)?,
        None => vec![single(&args)?],
    };
    let (missing, there): (Vec<_>, Vec<_>) = sessions.into_iter().partition(|session| !is_there(&args.out, &session.name));
    if !there.is_empty() {
        let names = there.iter().map(|session| session.name.as_str()).collect::<Vec<_>>().join(", ");
        eprintln!("vedette: {} of {} sessions are there already: {names}", there.len(), there.len() + missing.len());
    }
    for (place, session) in missing.iter().enumerate() {
        eprintln!("vedette: session {} of {}: {session}", place + 1, missing.len());
        let manifest = session.record(&args.out, args.despite_load).await?;
        let bytes: u64 = manifest.files.values().map(|file| file.bytes).sum();
        println!(
            "{}: {} observations of {} containers, {} labels, {} bytes in {}",
            session.name,
            manifest.rows,
            manifest.containers,
            manifest.labels,
            bytes,
            args.out.join(&session.name).display()
        );
    }
    Ok(Exit::Ok.into())
}

fn single(args: &RecordArgs) -> anyhow::Result<Session> {
    let plan = args.plan.clone().ok_or_else(|| Stop::usage("name a plan, or give --sessions FILE"))?;
    let stem = Path::new(&plan).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = args.name.clone().unwrap_or(stem);
    if !is_session_name(&name) {
        return Err(Stop::usage(format!("{} cannot be the name of a recording; give --name", escaped(&name))).into());
    }
    if args.out.join(&name).exists() {
        return Err(Stop::usage(format!("{} is there already; give another --name or --out", args.out.join(&name).display())).into());
    }
    Ok(Session { name, plan, seed: args.seed, backend: args.backend, warm_up: args.warm_up.clone(), set: args.set })
}

fn chosen(sessions: Vec<Session>, only: &[String]) -> anyhow::Result<Vec<Session>> {
    if let Some(unknown) = only.iter().find(|name| sessions.iter().all(|session| session.name != **name)) {
        return Err(Stop::usage(format!("the list has no session {}", escaped(unknown))).into());
    }
    Ok(sessions.into_iter().filter(|session| only.is_empty() || only.contains(&session.name)).collect())
}

/// Whether a session was recorded: recordings appear whole, so one manifest that can be read is enough.
fn is_there(out: &Path, name: &str) -> bool {
    Manifest::read(&out.join(name).join(MANIFEST)).is_ok()
}

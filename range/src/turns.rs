//! Lives of a container whose pod somebody else looks after, such as a kubelet: it starts the same command again and again, and which
//! program that is stands in a file of the pod.
//!
//! `keep` is the container's first process: it runs the program whose turn it is and ends as that does. `turn` is started inside the
//! running container: it writes down other programs for a while, and ends the present life badly.

use std::{
    fs, io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::{now_unix_ms, orphans};

/// Between two looks at a program that must end at some time: a span is right to this.
const LOOK: Duration = Duration::from_millis(20);
/// How long `turn` waits for the first process to have started its program.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stands for the container's own program where it may be one among others.
pub const OWN: &str = "own";

/// What a container runs, life after life.
#[derive(clap::Args, Debug)]
pub struct KeepArgs {
    /// The file that says otherwise for a while; its directory outlives the container
    #[arg(long)]
    book: PathBuf,
    /// Arguments of this program in one life, a JSON list; repeated for the lives that follow, the last one for ever
    #[arg(long = "life", required = true)]
    lives: Vec<String>,
}

/// What it is to run for a while.
#[derive(clap::Args, Debug)]
pub struct TurnArgs {
    /// The file that `keep` reads
    #[arg(long)]
    book: PathBuf,
    /// As for `keep`; `own` stands for the container's own program, which then stays
    #[arg(long = "life", required = true)]
    lives: Vec<String>,
    /// For how long; then the container's own programs have their turn again
    #[arg(long)]
    milliseconds: u64,
}

/// The file: what is written down of one pod's lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
struct Book {
    /// Programs that have their turn, one per life, `None` for the container's own; empty: nothing but those.
    lives: Vec<Option<Vec<String>>>,
    /// Lives of these so far.
    begun: usize,
    /// When the container's own have their turn again, Unix milliseconds; 0: never.
    until_unix_ms: i64,
    /// Lives of the container's own programs so far.
    own_begun: usize,
    /// The process that runs now.
    present: Option<i32>,
}

impl Book {
    /// None is an empty one: the pod's first life.
    fn read(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| io::Error::other(format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// At once, so that a reader never sees half of it.
    fn write(&self, path: &Path) -> io::Result<()> {
        let draft = path.with_extension("draft");
        fs::write(&draft, serde_json::to_vec(self)?)?;
        fs::rename(&draft, path)
    }

    /// The program of the life that begins now, and when it must end.
    fn next(&mut self, own: &[Vec<String>], now_unix_ms: i64) -> Option<(Vec<String>, Option<i64>)> {
        let is_on = !self.lives.is_empty() && now_unix_ms < self.until_unix_ms;
        if !is_on {
            self.lives.clear();
        }
        let other = self.lives.get(self.begun).or(self.lives.last()).cloned().flatten();
        self.begun += 1;
        if let Some(program) = other {
            return Some((program, Some(self.until_unix_ms)));
        }
        let program = own.get(self.own_begun).or(own.last())?.clone();
        self.own_begun += 1;
        Some((program, None))
    }
}

/// Runs the program whose turn it is, and ends as it does.
///
/// # Errors
/// When the book cannot be read or written, or the program cannot be started.
pub fn keep(args: &KeepArgs) -> io::Result<ExitCode> {
    orphans::take_away();
    let own: Vec<_> = programs(&args.lives)?.into_iter().flatten().collect();
    let mut book = Book::read(&args.book)?;
    let (program, until_unix_ms) = book.next(&own, now_unix_ms()).ok_or_else(|| io::Error::other("there is no program"))?;
    let mut child = Command::new(std::env::current_exe()?).args(&program).spawn()?;
    book.present = i32::try_from(child.id()).ok();
    book.write(&args.book)?;
    let status = loop {
        let Some(until_unix_ms) = until_unix_ms else { break child.wait()? };
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if now_unix_ms() >= until_unix_ms {
            child.kill()?;
            break child.wait()?;
        }
        thread::sleep(LOOK);
    };
    Ok(as_a_shell(status))
}

/// Gives other programs their turn, and ends the present life; says when, as one JSON object.
///
/// # Errors
/// When the book cannot be read or written, or nothing runs that could be ended.
pub fn turn(args: &TurnArgs) -> io::Result<()> {
    let lives = programs(&args.lives)?;
    let began = Instant::now();
    let (mut book, present) = loop {
        let book = Book::read(&args.book)?;
        match book.present.filter(|&process| is_child_of_the_first(process)).and_then(Pid::from_raw) {
            Some(present) => break (book, present),
            None if began.elapsed() > PATIENCE => return Err(io::Error::other("the container's program does not run")),
            None => thread::sleep(LOOK),
        }
    };
    let now = now_unix_ms();
    book.until_unix_ms = now.saturating_add(i64::try_from(args.milliseconds).unwrap_or(i64::MAX));
    (book.lives, book.begun, book.present) = (lives, 0, None);
    book.write(&args.book)?;
    kill_process(present, Signal::KILL)?;
    println!("{}", serde_json::json!({"turned_unix_ms": now, "until_unix_ms": book.until_unix_ms}));
    Ok(())
}

fn programs(lives: &[String]) -> io::Result<Vec<Option<Vec<String>>>> {
    let wrong = |text: &str, error: serde_json::Error| io::Error::other(format!("--life {text}: {error}"));
    let one = |text: &String| serde_json::from_str(text).map(Some).map_err(|error| wrong(text, error));
    lives.iter().map(|text| if text == OWN { Ok(None) } else { one(text) }).collect()
}

/// Of a life before, only the number is left, and it may be somebody else's by now.
fn is_child_of_the_first(process: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.split_whitespace().nth(1) == Some("1"))
}

/// The exit code by which a shell would pass an end on.
fn as_a_shell(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str) -> Vec<String> {
        vec!["behave".to_owned(), name.to_owned()]
    }

    #[test]
    fn lives_have_their_turn_one_by_one_and_the_last_for_ever() {
        let own = [program("fail"), program("idle")];
        let mut book = Book::default();

        let run: Vec<_> = (0..3).map(|_| book.next(&own, 5).unwrap()).collect();

        assert_eq!(run, [(program("fail"), None), (program("idle"), None), (program("idle"), None)]);
    }

    #[test]
    fn others_have_their_turn_for_a_while_and_then_its_own_go_on() {
        let own = [program("web")];
        let mut book = Book { lives: vec![Some(program("fail"))], until_unix_ms: 100, ..Book::default() };

        let run: Vec<_> = [10, 99, 100, 50].map(|now| book.next(&own, now).unwrap()).into();

        // What was over does not begin again, whatever the clock does.
        assert_eq!(run, [(program("fail"), Some(100)), (program("fail"), Some(100)), (program("web"), None), (program("web"), None)]);
    }

    #[test]
    fn its_own_among_others_stays_where_they_would_be_ended() {
        let own = [program("web")];
        let mut book = Book { lives: vec![Some(program("fail")), None], until_unix_ms: 100, ..Book::default() };

        let run: Vec<_> = (0..3).map(|_| book.next(&own, 10).unwrap()).collect();

        assert_eq!(run, [(program("fail"), Some(100)), (program("web"), None), (program("web"), None)]);
    }

    #[test]
    fn a_book_outlives_its_reader_and_a_broken_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("book");
        let book = Book { lives: vec![Some(program("fail")), None], begun: 2, until_unix_ms: 9, own_begun: 1, present: Some(7) };

        assert_eq!(Book::read(&path).unwrap(), Book::default());
        book.write(&path).unwrap();
        assert_eq!(Book::read(&path).unwrap(), book);
        fs::write(&path, "{").unwrap();
        assert!(Book::read(&path).is_err());
    }

    #[test]
    fn an_end_by_a_signal_is_passed_on_as_a_shell_would() {
        // An ExitCode can only be compared by its looks.
        let looks = |raw| format!("{:?}", as_a_shell(ExitStatus::from_raw(raw)));

        assert_eq!(looks(9), format!("{:?}", ExitCode::from(137)));
        assert_eq!(looks(3 << 8), format!("{:?}", ExitCode::from(3)));
    }
}

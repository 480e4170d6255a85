//! Programs inside a running container, by pods/exec: held by the connection, so that none outlives whoever started it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader, Lines};
use tokio::time::{Instant, sleep_until, timeout};
use vedette_range::now_unix_ms;
use vedette_range::run::record::Outcome;

/// The range in its image.
const RANGE: &str = "/vedette-range";
/// How long a program may take to say that it began, or that it ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why nothing ran.
pub enum NotRun {
    /// The container is between two lives, or just went.
    NotNow(String),
    /// The API server refused.
    Refused(kube::Error),
}

/// What `vedette-range held` says of its program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Said {
    began_unix_ms: Option<i64>,
    ended_unix_ms: Option<i64>,
    early: Option<String>,
    turned_unix_ms: Option<i64>,
}

/// Where a program is started.
pub struct Container<'a> {
    /// The pods of the run.
    pub pods: &'a Api<Pod>,
    /// Which one.
    pub pod: &'a str,
    /// Its container.
    pub container: &'a str,
}

impl Container<'_> {
    /// Runs a program until an instant, or until it ends by itself. The times are those of its node.
    pub async fn hold(&self, room: &str, program: &[String], until: Instant) -> Result<Outcome, NotRun> {
        let left = until.saturating_duration_since(Instant::now());
        let mut command = vec![RANGE.to_owned(), "held".to_owned(), format!("--room={room}")];
        // Its own bound, in case nobody can let go: a little behind ours.
        command.push(format!("--milliseconds={}", (left + PATIENCE).as_millis()));
        command.push("--".to_owned());
        command.extend_from_slice(program);
        let mut attached = self.exec(command, true).await?;
        let missing = || NotRun::NotNow("the connection has no streams".to_owned());
        let mut stdin = attached.stdin().ok_or_else(missing)?;
        let mut lines = BufReader::new(attached.stdout().ok_or_else(missing)?).lines();
        let began = timeout(PATIENCE, next(&mut lines)).await.ok().flatten().and_then(|said| said.began_unix_ms);
        let Some(start_unix_ms) = began else {
            return Err(NotRun::NotNow("it does not say that it began".to_owned()));
        };
        let by_itself = tokio::select! {
            () = sleep_until(until) => None,
            said = next(&mut lines) => Some(said),
        };
        let said = match by_itself {
            Some(said) => said,
            None => {
                // Any word lets go; an end of the stream alone is not passed on by older API servers.
                let _ = stdin.write_all(b"enough\n").await;
                let _ = stdin.flush().await;
                timeout(PATIENCE, next(&mut lines)).await.ok().flatten()
            }
        };
        Ok(outcome(start_unix_ms, said))
    }

    /// Gives other programs their turn for a while; gives when, by the node's clock.
    pub async fn turn(&self, book: &str, lives: &[String], length: Duration) -> Result<i64, NotRun> {
        let mut command = vec![RANGE.to_owned(), "turn".to_owned(), format!("--book={book}")];
        command.extend(lives.iter().map(|life| format!("--life={life}")));
        command.push(format!("--milliseconds={}", length.as_millis()));
        let mut attached = self.exec(command, false).await?;
        let missing = || NotRun::NotNow("the connection has no streams".to_owned());
        let mut lines = BufReader::new(attached.stdout().ok_or_else(missing)?).lines();
        let said = timeout(PATIENCE, next(&mut lines)).await.ok().flatten();
        said.and_then(|said| said.turned_unix_ms).ok_or_else(|| NotRun::NotNow("its program cannot be changed now".to_owned()))
    }

    async fn exec(&self, command: Vec<String>, stdin: bool) -> Result<kube::api::AttachedProcess, NotRun> {
        let params = AttachParams::default().container(self.container).stdin(stdin).stdout(true).stderr(false);
        self.pods.exec(self.pod, command, &params).await.map_err(|error| match error {
            // A kubelet words a container that does not run as not found, or as an error of its own.
            kube::Error::Api(status) if !status.is_forbidden() && status.code != 401 => NotRun::NotNow(status.message.clone()),
            error => NotRun::Refused(error),
        })
    }
}

/// The next line that says something; anything else on the way is skipped.
async fn next<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>) -> Option<Said> {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(said) = serde_json::from_str::<Said>(line.trim()) {
            return Some(said);
        }
    }
    None
}

/// What became of a program that began then.
fn outcome(start_unix_ms: i64, said: Option<Said>) -> Outcome {
    let lost = Said { early: Some("the connection to its container was lost".to_owned()), ..Said::default() };
    let said = said.unwrap_or(lost);
    // Without its node's word our own clock is the best there is.
    let stop_unix_ms = said.ended_unix_ms.unwrap_or_else(now_unix_ms).max(start_unix_ms);
    Outcome { start_unix_ms, stop_unix_ms, bursts: Vec::new(), ended_early: said.early }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(text: &str) -> Option<Said> {
        next(&mut BufReader::new(text.as_bytes()).lines()).await
    }

    #[tokio::test]
    async fn the_times_are_those_of_the_node() {
        let ended = said("noise\n{\"ended_unix_ms\": 70, \"early\": null}\n").await;

        let outcome = outcome(50, ended);

        assert_eq!((outcome.start_unix_ms, outcome.stop_unix_ms, outcome.ended_early), (50, 70, None));
    }

    #[tokio::test]
    async fn an_early_end_says_how_and_a_lost_connection_is_one() {
        let early = said("{\"ended_unix_ms\": 70, \"early\": \"exit status: 1\"}\n").await;

        assert_eq!(outcome(50, early).ended_early.as_deref(), Some("exit status: 1"));
        assert_eq!(said("").await, None);
        assert!(outcome(50, None).ended_early.is_some_and(|why| why.contains("lost")));
    }
}

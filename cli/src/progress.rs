//! Shows on a terminal that something takes longer than two seconds.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// What is quicker than this needs no progress bar.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits for `work`; after two seconds a spinner on standard error says for what.
pub async fn waiting<T>(what: &'static str, work: impl Future<Output = T>) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    tokio::pin!(work);
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
        return done;
    }
    let spinner = ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(Duration::from_millis(120));
    let done = work.await;
    spinner.finish_and_clear();
    done
}

/// Rows that arrive over time.
pub struct Transfer {
    started: Instant,
    bar: Option<ProgressBar>,
    wanted: bool,
}

impl Transfer {
    /// Begins now. Nothing is shown where `wanted` is false or standard error is no terminal.
    pub fn begin(wanted: bool) -> Self {
        Self { started: Instant::now(), bar: None, wanted: wanted && std::io::stderr().is_terminal() }
    }

    /// So many rows so far, of so many in all (0: not known), and so many bytes.
    pub fn at(&mut self, rows: u64, total_rows: u64, bytes: u64) {
        if !self.wanted || self.started.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = if total_rows > 0 { ProgressBar::new(total_rows) } else { ProgressBar::new_spinner() };
            let template = if total_rows > 0 {
                "{bar:30} {human_pos} of {human_len} rows, {msg}, {eta} to go"
            } else {
                "{spinner} {human_pos} rows, {msg}"
            };
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_position(rows);
        bar.set_message(HumanBytes(bytes).to_string());
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A run of a known length with named parts: a bar on a terminal, a line per part elsewhere.
pub struct Course {
    name: String,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Course {
    /// Begins now.
    pub fn begin(name: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:30} {elapsed} of about {len} s, {msg}");
            ProgressBar::new(0).with_prefix(name.to_owned()).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { name: name.to_owned(), began: Instant::now(), bar }
    }

    /// It will take so many seconds.
    pub fn length(&mut self, seconds: u64) {
        self.began = Instant::now();
        match &self.bar {
            Some(bar) => bar.set_length(seconds),
            None => eprintln!("vedette: {}: {seconds} s", self.name),
        }
    }

    /// A part begins.
    pub fn phase(&self, phase: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(phase.to_owned()),
            None => eprintln!("vedette: {}: {phase} after {} s", self.name, self.began.elapsed().as_secs()),
        }
    }

    /// Time went on.
    pub fn tick(&self) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.began.elapsed().as_secs());
        }
    }

    /// Since its length was known, or else its begin.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

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

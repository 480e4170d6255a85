//! How far a simulation is: a bar with the phase and what comes next on a terminal, lines elsewhere.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::demo::schedule::{Coming, Event, Said};

/// The course of one run.
pub struct Course {
    bar: Option<ProgressBar>,
    /// Lines go to standard error.
    quiet: bool,
    began: Option<Instant>,
    phase: String,
    /// Episodes that run.
    running: Vec<String>,
    /// Episodes that will come, the next one first.
    coming: VecDeque<Coming>,
}

impl Course {
    /// Nothing was said yet; `quiet` keeps standard output for somebody else.
    pub fn begin(quiet: bool) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style).with_message("checking the plan")
        });
        Self { bar, quiet, began: None, phase: String::new(), running: Vec::new(), coming: VecDeque::new() }
    }

    /// The range said something.
    pub fn event(&mut self, event: &Event) {
        self.said(&event.said);
    }

    /// Something that is no part of the plan: a line, also above a bar.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => self.line(text),
        }
    }

    /// Something happened.
    pub fn said(&mut self, said: &Said) {
        match said {
            Said::Starting { pods } => {
                self.phase = format!("starting {pods} pods");
                self.line(&self.phase);
            }
            Said::Plan { seconds } => {
                self.began = Some(Instant::now());
                if let Some(bar) = &self.bar {
                    bar.set_length(*seconds);
                }
                self.line(&format!("everybody is there; {} to go", clock(Duration::from_secs(*seconds))));
            }
            Said::Coming { episodes } => self.coming = episodes.iter().cloned().collect(),
            Said::Phase { name } => {
                self.phase.clone_from(name);
                self.line(&format!("phase {name}"));
            }
            Said::Start { episode, kind, owner_name, .. } => {
                let role = self.coming.iter().find(|coming| coming.episode == *episode).map_or("", |coming| coming.role.as_str());
                let like = if role == "attack" { String::new() } else { format!(" ({role}, like {kind})") };
                self.line(&format!("{episode} begins{like}, about {owner_name}"));
                self.coming.retain(|coming| coming.episode != *episode);
                self.running.push(episode.clone());
            }
            Said::Stop { episode } => {
                self.line(&format!("{episode} ends"));
                self.running.retain(|running| running != episode);
            }
            Said::Other => {}
        }
        self.tick();
    }

    /// Time went on.
    pub fn tick(&self) {
        let Some(bar) = &self.bar else { return };
        let elapsed = self.elapsed();
        bar.set_position(elapsed.as_secs());
        bar.set_message(message(elapsed, bar.length().unwrap_or(0), &self.phase, &self.running, self.coming.front()));
    }

    /// The bar is no longer needed.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn elapsed(&self) -> Duration {
        self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    /// A line, where there is no bar.
    fn line(&self, text: &str) {
        let line = || format!("{}  {text}", clock(self.elapsed()));
        match &self.bar {
            Some(_) => {}
            None if self.quiet => eprintln!("{}", line()),
            None => println!("{}", line()),
        }
    }
}

fn message(elapsed: Duration, seconds: u64, phase: &str, running: &[String], next: Option<&Coming>) -> String {
    let mut parts = vec![format!("{} of {}", clock(elapsed), clock(Duration::from_secs(seconds))), phase.to_owned()];
    if !running.is_empty() {
        parts.push(format!("running: {}", running.join(", ")));
    }
    if let Some(next) = next {
        let left = Duration::from_secs_f64((next.at_seconds - elapsed.as_secs_f64()).max(0.0));
        parts.push(format!("next: {} in {}", next.episode, clock(left)));
    }
    parts.join(" | ")
}

/// Minutes and seconds, with hours where there are any.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes:02}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_where_it_is_and_what_comes_next() {
        let next = Coming { episode: "scan-1".to_owned(), role: "attack".to_owned(), at_seconds: 100.4 };

        let with = message(Duration::from_secs(65), 3_700, "session", &["mining-1".to_owned()], Some(&next));
        let without = message(Duration::ZERO, 60, "normal", &[], None);

        assert_eq!(with, "01:05 of 1:01:40 | session | running: mining-1 | next: scan-1 in 00:35");
        assert_eq!(without, "00:00 of 01:00 | normal");
    }
}

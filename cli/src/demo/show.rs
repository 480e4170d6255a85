//! What people see while a demonstration runs: phases, incidents as they open, a bar on a terminal; and the tables at its end.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use vedette_proto::v1::{Incident, Severity};

use super::accounting::Accounting;
use super::judge::Judgement;
use super::schedule::{Event, Said};
use crate::cell::{Cell, Tone};
use crate::containers::place;
use crate::escape::escaped;
use crate::incidents::severity_tone;
use crate::output::{Format, Output};
use crate::table::Table;
use crate::when;

/// The show of a run in progress.
pub struct Show {
    output: Output,
    bar: Option<ProgressBar>,
    began: Instant,
    phase: String,
    /// Attacks and placebos that run, with what the bar says of them.
    running: BTreeMap<String, String>,
    /// Owner and begin of each attack so far.
    attacks: Vec<(String, String, i64)>,
}

impl Show {
    /// Begins now.
    pub fn begin() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {elapsed} of about {len} s, {msg}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let output = Output::stdout(Format::Table);
        Self { output, bar, began: Instant::now(), phase: String::new(), running: BTreeMap::new(), attacks: Vec::new() }
    }

    /// A line above the bar.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    /// The bar's end, in seconds of the show.
    pub fn length(&self, seconds: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(seconds);
        }
    }

    /// Time went on.
    pub fn tick(&self, at: Duration) {
        if let Some(bar) = &self.bar {
            bar.set_position(at.as_secs());
            let running = self.running.values().cloned().collect::<Vec<_>>().join(", ");
            bar.set_message(if running.is_empty() { self.phase.clone() } else { format!("{}: {running}", self.phase) });
        }
    }

    /// The range said something.
    pub fn event(&mut self, event: &Event) {
        match &event.said {
            Said::Plan { seconds } => {
                self.began = Instant::now();
                self.length(*seconds);
            }
            Said::Phase { name } => {
                self.phase.clone_from(name);
                self.line(&self.output.bold(&format!("{}  {name}", self.clock(event.unix_ms))));
            }
            Said::Start { episode, kind, attack, owner_name } => {
                let what = if *attack { kind.clone() } else { format!("like {kind}") };
                self.running.insert(episode.clone(), what);
                if *attack {
                    self.attacks.push((owner_name.clone(), kind.clone(), event.unix_ms));
                }
            }
            Said::Stop { episode } => {
                self.running.remove(episode);
            }
            Said::Starting { .. } | Said::Coming { .. } | Said::Other => {}
        }
        self.tick(self.began.elapsed());
    }

    /// Since when the range's plan runs.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// An incident opened.
    pub fn incident(&self, incident: &Incident) {
        let owner = incident.workload.as_ref().map_or("", |workload| &workload.owner_name);
        let attack = self.attacks.iter().rev().find(|attack| attack.0 == owner && attack.2 <= incident.opened_unix_ms);
        let since = attack.map_or_else(
            || "no attack began there".to_owned(),
            |(_, kind, start)| format!("{:.0} s into {kind}", (incident.opened_unix_ms - start) as f64 / 1000.0),
        );
        let severity = self.output.toned(&format!("{:<6}", incident.severity().word()), severity_tone(incident.severity()));
        let place = escaped(&place(&incident.workload.clone().unwrap_or_default()));
        let why = incident.evidence.first().map(|evidence| format!(": {}", escaped(&evidence.sentence))).unwrap_or_default();
        let clock = self.clock(incident.opened_unix_ms);
        self.line(&format!("{clock}  {severity}  #{}  {}  {place} ({since}){why}", incident.id, escaped(&incident.effect)));
    }

    /// The bar is no longer needed.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn clock(&self, unix_ms: i64) -> String {
        when::clock(unix_ms, &self.output.zone)
    }

    /// Attacks against incidents.
    pub fn judgement(&self, judgement: &Judgement, placebos: usize) {
        let headers = ["ATTACK", "PLACEMENT", "ROUND", "ONSET", "OPENED", "DELAY", "DETECTED", "NAMED"];
        let mut table = Table::new(headers.map(str::to_owned).to_vec());
        for attack in &judgement.attacks {
            let word = |yes: bool, no: Tone| Cell::word(if yes { "yes" } else { "no" }, if yes { Tone::Good } else { no });
            let row = vec![
                Cell::text(attack.kind.clone()),
                Cell::text(attack.placement.clone()),
                Cell::Unsigned(attack.round.into()),
                Cell::text(self.clock(attack.onset)),
                attack.opened.map_or(Cell::Absent, |opened| Cell::text(self.clock(opened))),
                attack.delay_seconds.map_or(Cell::Absent, |delay| Cell::text(format!("{delay:.1} s"))),
                word(attack.detected, Tone::Bad),
                word(attack.named, Tone::Warning),
            ];
            table.row(row, &self.output.zone);
        }
        println!();
        print!("{}", table.print(self.output.width, self.output.colour));
        let count = |f: fn(&super::judge::Attack) -> bool| judgement.attacks.iter().filter(|attack| f(attack)).count();
        println!();
        println!(
            "{} of {} attacks detected, {} named; {} placebos; {} false incidents; {} more on the same attacks, {} on pods that an attack touched",
            count(|attack| attack.detected),
            judgement.attacks.len(),
            count(|attack| attack.named),
            placebos,
            judgement.false_incidents.len(),
            judgement.extra,
            judgement.excused,
        );
        for incident in &judgement.false_incidents {
            let place = escaped(&place(&incident.workload.clone().unwrap_or_default()));
            let severity = self.output.toned("false", if incident.severity() == Severity::Note { Tone::Warning } else { Tone::Bad });
            println!(
                "  {severity}: #{} {} {place} at {}: {}",
                incident.id,
                escaped(&incident.effect),
                self.clock(incident.opened_unix_ms),
                escaped(&incident.summary)
            );
        }
    }

    /// Observations from the kernel to the export.
    pub fn accounting(&self, accounting: &Accounting, observations: u64, acknowledged: u64, exported_rows: u64) {
        let share = accounting.stored as f64 / accounting.expected.max(1) as f64 * 100.0;
        println!(
            "{} observations expected, {observations} made, {acknowledged} acknowledged, {} stored ({share:.1} %), {exported_rows} rows exported in the seed's layout",
            accounting.expected, accounting.stored,
        );
        for (reason, observations, containers) in &accounting.missing {
            println!("  {observations} of {containers} containers missing: {reason}");
        }
        if accounting.surplus > 0 {
            println!("  {} more than whole seconds alive: ticks that fell well", accounting.surplus);
        }
        if accounting.strangers > 0 {
            println!("  {} of containers that are not of this run", accounting.strangers);
        }
    }
}

//! `vedette incidents --watch`: a line per change, through lost connections.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use vedette_proto::v1::{Incident, IncidentChange, ListIncidentsRequest, Selector, WatchIncidentsRequest, WatchIncidentsResponse};

use crate::cell::Cell;
use crate::client::{Client, Route};
use crate::containers::place;
use crate::escape::escaped;
use crate::exit::{Exit, Stop};
use crate::incidents::{self, IncidentsArgs, change_word, columns, severity_tone};
use crate::output::{Format, Output, Rows};
use crate::when;

/// Waits between attempts to connect again: doubling from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Incidents remembered to tell news from repetition; beyond it the oldest resolved ones are forgotten.
const REMEMBERED: usize = 10_000;

/// Prints changes until Ctrl-C. The first connection must succeed; later ones are tried for ever.
pub async fn run(args: IncidentsArgs, route: &Route, client: Client, output: &mut Output) -> anyhow::Result<Exit> {
    let mut watch = Watch { args, seen: HashMap::new() };
    tokio::select! {
        result = watch.follow(route, client, output) => result.map(|()| Exit::Ok),
        _ = tokio::signal::ctrl_c() => Ok(Exit::Ok),
    }
}

struct Watch {
    args: IncidentsArgs,
    /// What was last printed of each incident.
    seen: HashMap<u64, Incident>,
}

impl Watch {
    async fn follow(&mut self, route: &Route, client: Client, output: &mut Output) -> anyhow::Result<()> {
        let mut printer = Printer::begin(output)?;
        let mut client = Some(client);
        let mut wait = BACKOFF.0;
        let mut first = true;
        loop {
            let lost = match client.take() {
                Some(client) => self.stream(client, &mut printer, &mut first, &mut wait).await?,
                None => match route.connect().await {
                    Ok(connected) => {
                        client = Some(connected);
                        continue;
                    }
                    Err(stop) => stop,
                },
            };
            // A refusal or an impossible question will not heal by asking again.
            if lost.exit == Exit::Refused || (first && lost.exit != Exit::Unreachable) || lost.exit == Exit::Usage {
                return Err(lost.into());
            }
            eprintln!("vedette: {}; trying again in {:.1} s", lost.message, wait.as_secs_f64());
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    /// Prints what one stream brings, until it breaks; says how it broke.
    async fn stream(
        &mut self,
        mut client: Client,
        printer: &mut Printer<'_>,
        first: &mut bool,
        wait: &mut Duration,
    ) -> anyhow::Result<Stop> {
        let request = WatchIncidentsRequest {
            minimum_severity: self.args.severity.unwrap_or_default().into(),
            changes_only: false,
            selector: self.args.which.selector(),
        };
        let mut stream = match client.query.watch_incidents(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Ok(status.into()),
        };
        if !*first {
            eprintln!("vedette: connected again");
            // What resolved meanwhile is not among those open now.
            if let Err(stop) = self.catch_up(&mut client, printer).await? {
                return Ok(stop);
            }
        }
        *first = false;
        loop {
            let WatchIncidentsResponse { change, incident } = match stream.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(Stop::new(Exit::Unreachable, "the aggregator ended the watch")),
                Err(status) => return Ok(watch_lost(status)),
            };
            *wait = BACKOFF.0;
            let change = IncidentChange::try_from(change).unwrap_or_default();
            if change == IncidentChange::Missed {
                eprintln!("vedette: changes came too fast; listing what was missed");
                if let Err(stop) = self.catch_up(&mut client, printer).await? {
                    return Ok(stop);
                }
            } else if let Some(incident) = incident {
                self.print(change, incident, printer)?;
            }
        }
    }

    /// Lists what changed while nobody was listening.
    async fn catch_up(&mut self, client: &mut Client, printer: &mut Printer<'_>) -> anyhow::Result<Result<(), Stop>> {
        let open = || self.seen.values().filter(|incident| incident.resolved_unix_ms == 0);
        let newest = self.seen.values().map(|incident| incident.updated_unix_ms).max().unwrap_or_default();
        let since = open().map(|incident| incident.onset_unix_ms).min().unwrap_or(newest);
        let mut selectors = vec![self.args.which.selector()];
        if selectors[0].is_none() {
            // Without a selector a list is about one cluster, a watch about all.
            let mut clusters: Vec<_> =
                self.seen.values().filter_map(|incident| Some(incident.workload.as_ref()?.cluster.clone())).collect();
            clusters.sort();
            clusters.dedup();
            selectors.extend(clusters.into_iter().map(|cluster| Some(Selector { cluster, ..Selector::default() })));
        }
        for selector in selectors {
            let request = ListIncidentsRequest {
                range: Some(vedette_proto::v1::TimeRange { start_unix_ms: since, end_unix_ms: 0 }),
                minimum_severity: self.args.severity.unwrap_or_default().into(),
                selector,
                limit: 10_000,
                ..ListIncidentsRequest::default()
            };
            let mut incidents = match client.query.list_incidents(request).await {
                Ok(answer) => answer.into_inner().incidents,
                Err(status) => return Ok(Err(status.into())),
            };
            incidents.sort_by_key(|incident| incident.updated_unix_ms);
            for incident in incidents {
                let change = match (incident.resolved_unix_ms, self.seen.contains_key(&incident.id)) {
                    (0, true) => IncidentChange::Updated,
                    (0, false) => IncidentChange::Opened,
                    _ => IncidentChange::Resolved,
                };
                self.print(change, incident, printer)?;
            }
        }
        Ok(Ok(()))
    }

    fn print(&mut self, change: IncidentChange, incident: Incident, printer: &mut Printer<'_>) -> std::io::Result<()> {
        let wanted = self.args.kind.is_none_or(|kind| incident.kind() == kind);
        let is_news = self.seen.get(&incident.id) != Some(&incident);
        if wanted && is_news && !(self.args.open && change == IncidentChange::Resolved) {
            printer.print(change, &incident)?;
        }
        if self.seen.len() >= REMEMBERED && !self.seen.contains_key(&incident.id) {
            let oldest = self.seen.values().min_by_key(|one| (one.resolved_unix_ms == 0, one.updated_unix_ms)).map(|one| one.id);
            oldest.and_then(|id| self.seen.remove(&id));
        }
        self.seen.insert(incident.id, incident);
        Ok(())
    }
}

fn watch_lost(status: tonic::Status) -> Stop {
    if status.code() == tonic::Code::Unauthenticated {
        // A watch ends with its token. With a fresh one it goes on; where there is none, the next call is refused.
        return Stop::new(Exit::Unreachable, format!("the watch ended with its token ({})", escaped(status.message())));
    }
    let stop = Stop::from(status);
    match stop.exit {
        // A broken stream has many codes; all of them mean to connect again.
        Exit::Failure => Stop::new(Exit::Unreachable, stop.message),
        _ => stop,
    }
}

enum Printer<'a> {
    Lines(&'a mut Output),
    Rows(Rows<'a>),
}

impl<'a> Printer<'a> {
    fn begin(output: &'a mut Output) -> std::io::Result<Self> {
        Ok(match output.format {
            Format::Table => Self::Lines(output),
            Format::Json | Format::Csv => Self::Rows(output.stream(columns(Some(IncidentChange::Current)))?),
        })
    }

    fn print(&mut self, change: IncidentChange, incident: &Incident) -> std::io::Result<()> {
        let now = Timestamp::now().as_millisecond();
        match self {
            Self::Rows(rows) => rows.row(incidents::cells(Some(change), incident, now)),
            Self::Lines(output) => {
                let line = line(output, change, incident);
                output.line(&line)?;
                output.sink.flush()
            }
        }
    }
}

/// `2026-11-22 10:03:05 CET  opened    page    #12  connection sweep (scan?)  shop/Deployment/web/nginx: TCP ...`.
fn line(output: &Output, change: IncidentChange, incident: &Incident) -> String {
    let at = match change {
        IncidentChange::Opened => incident.opened_unix_ms,
        IncidentChange::Resolved if incident.resolved_unix_ms != 0 => incident.resolved_unix_ms,
        IncidentChange::Current => incident.onset_unix_ms,
        _ => incident.updated_unix_ms,
    };
    let severity = output.toned(&format!("{:<6}", incident.severity().word()), severity_tone(incident.severity()));
    let place = escaped(&place(&incident.workload.clone().unwrap_or_default()));
    let why = match (change, incident.evidence.first()) {
        (IncidentChange::Resolved, _) => format!(": lasted {}", when::span(incident.resolved_unix_ms - incident.onset_unix_ms)),
        (_, Some(evidence)) => format!(": {}", escaped(&evidence.sentence)),
        (_, None) => String::new(),
    };
    let at = Cell::instant(at).human(&output.zone);
    format!("{at}  {:<8}  {severity}  #{}  {}  {place}{why}", change_word(change), incident.id, escaped(&incident.effect))
}

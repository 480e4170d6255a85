//! The evaluation as one page that needs nothing else: pictures first, then the figures.

use std::fmt::Write as _;

use vedette_proto::v1::Kind;

use super::{
    events::About,
    figures::{self, Figure, Session},
    picture::{self, Axes, Stretch, escaped},
    stats::{curve, quantile},
    truth::{Role, Was},
};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #8a929c; --rule: #d9dee4; --one: #2563ab; --two: #b4540a; --three: #2a7d4f; --four: #8a3ffc; --bad: #c02b2b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --paper: #14171a; --faint: #8a929c; --rule: #2d333a; --one: #6ea8fe; --two: #f0a35e; --three: #6cc794; --four: #c4a2ff; --bad: #ff7b7b; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); }
.title { font-size: 14px; font-weight: 600; } .tick, .axis, .cell { font-size: 11px; } .grid { stroke: var(--rule); }
.told { fill: var(--three); } .missed { fill: var(--bad); } .quiet { fill: var(--rule); } .bothered { fill: var(--two); } .right { fill: var(--one); } .wrong { fill: var(--bad); }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: 2px 8px; border-bottom: 1px solid var(--rule); } td.number { text-align: right; font-variant-numeric: tabular-nums; }
";
/// Upper ends of the bars of delays, seconds.
const DELAYS_S: [f64; 8] = [2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, f64::INFINITY];

/// The page.
pub fn page(sessions: &[&Session], figures: &[Figure], title: &str) -> String {
    let title = escaped(title);
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style><h1>{title}</h1>"
    );
    let _ = write!(html, "<p>{}</p><div class=\"pictures\">", summary(sessions));
    for picture in [curves(sessions, true), curves(sessions, false), confusion(sessions), delays(sessions), reliability(sessions)] {
        let _ = write!(html, "<figure>{picture}</figure>");
    }
    html.push_str("</div><h2>Sessions</h2><p>Attacks: told or missed. Look-alikes and placebos: quiet or bothering. Alarms: right or wrong.</p><div class=\"pictures\">");
    for session in sessions {
        let _ = write!(html, "<figure>{}</figure>", timeline(session));
    }
    html.push_str("</div><h2>Figures</h2><table><tr><th>model</th><th>metric</th><th>value</th><th>target</th></tr>");
    for figure in figures {
        let value = figure.value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let cells = [&figure.model, &figure.metric, &value, &figure.target].map(|cell| escaped(cell));
        let _ =
            write!(html, "<tr><td>{}</td><td>{}</td><td class=\"number\">{}</td><td>{}</td></tr>", cells[0], cells[1], cells[2], cells[3]);
    }
    html + "</table></html>\n"
}

fn summary(sessions: &[&Session]) -> String {
    let attacks = || sessions.iter().flat_map(|session| &session.outcome.attacks);
    let told = attacks().filter(|attack| attack.delay_s.is_some()).count();
    let mut delays: Vec<f64> = attacks().filter_map(|attack| attack.delay_s).collect();
    let (tickets, pages) = figures::alarms(sessions, &[About::Ordinary]);
    let days: f64 = sessions.iter().map(|session| session.container_days).sum();
    let middle = quantile(&mut delays, 0.5).map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.0} s"));
    format!(
        "{} recordings, {days:.2} container-days. {told} of {} attacks told, half of them within {middle}. {tickets} tickets and {pages} pages on ordinary work.",
        sessions.len(),
        attacks().count()
    )
}

fn curves(sessions: &[&Session], roc: bool) -> String {
    let of = |score: &dyn Fn(&super::play::Row) -> f32| {
        let rows = sessions.iter().flat_map(|session| &session.played.rows);
        let rows: Vec<(f32, bool)> = rows
            .filter(|row| matches!(row.was, Was::Attack(_) | Was::Normal))
            .map(|row| (score(row), matches!(row.was, Was::Attack(_))))
            .collect();
        curve(rows, roc)
    };
    let series = [("vedette", of(&|row| row.score)), ("z-score", of(&|row| row.z))];
    let (title, x, y) = match roc {
        true => ("Rows: hits against false alarms (ROC)", "share of ordinary rows called abnormal", "share of attack rows called abnormal"),
        false => ("Rows: precision against recall", "share of attack rows called abnormal", "share of those called abnormal that are"),
    };
    picture::lines(&Axes { title, x, y, x_most: 1.0, y_most: 1.0 }, &series)
}

fn confusion(sessions: &[&Session]) -> String {
    let attacks = || sessions.iter().flat_map(|session| &session.outcome.attacks);
    let mut kinds: Vec<Kind> = attacks().flat_map(|attack| [Some(attack.episode.kind), attack.called]).flatten().collect();
    kinds.sort_unstable();
    kinds.dedup();
    let words: Vec<String> = kinds.iter().map(|kind| kind.word().to_owned()).collect();
    let columns = [words.clone(), vec!["missed".to_owned()]].concat();
    let count = |row: usize, column: usize| {
        let called = kinds.get(column).copied();
        attacks().filter(|attack| attack.episode.kind == kinds[row] && attack.called == called).count()
    };
    picture::shades("Attacks: what they were, and what they were called", &words, &columns, count)
}

fn delays(sessions: &[&Session]) -> String {
    let delays: Vec<f64> = sessions.iter().flat_map(|session| &session.outcome.attacks).filter_map(|attack| attack.delay_s).collect();
    let mut least = 0.0;
    let bars: Vec<(String, f64)> = DELAYS_S
        .iter()
        .map(|most| {
            let count = delays.iter().filter(|delay| (least..*most).contains(*delay)).count();
            let name = if most.is_finite() { format!("< {most:.0} s") } else { "later".to_owned() };
            least = *most;
            (name, count as f64)
        })
        .collect();
    let y_most = bars.iter().fold(5.0, |most, bar| bar.1.max(most));
    picture::bars(&Axes { title: "Attacks: from onset to incident", x: "delay", y: "attacks", x_most: 1.0, y_most }, &bars)
}

fn reliability(sessions: &[&Session]) -> String {
    let tenths = figures::tenths(sessions.iter().flat_map(|session| &session.played.rows));
    let points = tenths.into_iter().map(|(score, share, _)| (score, share)).collect();
    let axes =
        Axes { title: "Rows: is a score a probability?", x: "score", y: "share of rows that are of attacks", x_most: 1.0, y_most: 1.0 };
    picture::lines(&axes, &[("vedette", points), ("if it were", vec![(0.0, 0.0), (1.0, 1.0)])])
}

fn timeline(session: &Session) -> String {
    let outcome = &session.outcome;
    let attacks = outcome.attacks.iter().map(|attack| &attack.episode);
    let begin =
        attacks.chain(outcome.baits.iter().map(|bait| &bait.episode)).map(|episode| episode.onset_unix_ms).min().unwrap_or(0) - 60_000;
    let at = |unix_ms: i64| (unix_ms - begin) as f64 / 1e3;
    let mut stretches = Vec::new();
    let mut add = |lane, from: i64, to: i64, class, hint| stretches.push(Stretch { lane, from_s: at(from), to_s: at(to), class, hint });
    for attack in &outcome.attacks {
        let episode = &attack.episode;
        let class = if attack.delay_s.is_some() { "told" } else { "missed" };
        let delay = attack.delay_s.map_or_else(|| "missed".to_owned(), |delay| format!("told after {delay:.0} s"));
        let hint = format!("{} ({}, {}): {delay}", episode.name, episode.placement, episode.intensity);
        add(0, episode.onset_unix_ms, episode.stop_unix_ms, class, hint);
        if let Some(delay) = attack.delay_s {
            let opened = episode.onset_unix_ms + (delay * 1e3) as i64;
            add(3, opened, opened + 5_000, "right", format!("{}: {}", episode.name, attack.called.map_or("", Kind::word)));
        }
    }
    for bait in &outcome.baits {
        let lane = if bait.episode.role == Role::Placebo { 2 } else { 1 };
        let class = if bait.ticket { "bothered" } else { "quiet" };
        add(
            lane,
            bait.episode.onset_unix_ms,
            bait.episode.stop_unix_ms,
            class,
            format!("{} ({})", bait.episode.name, bait.episode.placement),
        );
    }
    for alarm in &outcome.false_alarms {
        let opened = alarm.told.opened_unix_ms;
        add(3, opened, opened + 5_000, "wrong", format!("{}: {}", alarm.told.place.2, alarm.told.summary));
    }
    let length_s = stretches.iter().fold(60.0, |most: f64, stretch| most.max(stretch.to_s)) + 30.0;
    picture::lanes(&session.name, &["attacks", "look-alikes", "placebos", "alarms"], length_s, &stretches)
}

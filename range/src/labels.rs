//! What the injector knows, said to the aggregator through the LabelService.

use std::{path::PathBuf, time::Duration};

use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use vedette_proto::v1::{AddLabelsRequest, Kind, Label, LabelSource, Selector, TimeRange, label_service_client::LabelServiceClient};

use crate::schedule::{Affected, EpisodeRecord, Normal, Schedule};

/// Most labels of one request; the aggregator takes ten times as many.
pub const MAX_LABELS: usize = 1_000;
/// Longest value of an attribute that the aggregator takes, in characters.
const MAX_VALUE: usize = 256;
/// Attempts before labels are given up; the schedule file still holds them.
const ATTEMPTS: u32 = 5;
/// The injector's name in labels.
const AUTHOR: &str = "vedette-range";

/// Where labels go.
#[derive(clap::Args, Clone, Debug)]
pub struct LabelArgs {
    /// Address of the aggregator, https://HOST:PORT
    #[arg(long, requires = "ca", requires = "token_file")]
    pub labels_endpoint: Option<String>,
    /// PEM file with the certificate of its CA
    #[arg(long)]
    pub ca: Option<PathBuf>,
    /// File that holds the token to show
    #[arg(long)]
    pub token_file: Option<PathBuf>,
    /// Name that its certificate must carry, where it is not the endpoint's host
    #[arg(long)]
    pub server_name: Option<String>,
}

/// Why labels could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    /// A file that was named cannot be read.
    #[error("cannot read {0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The endpoint or the certificate is not usable.
    #[error("cannot use the labels endpoint {0}: {1}")]
    Endpoint(String, tonic::transport::Error),
    /// The token is no header value.
    #[error("{0} does not hold one token")]
    Token(PathBuf),
    /// The aggregator refused or could not be reached.
    #[error("the aggregator did not take {0} labels: {1}")]
    Refused(usize, Box<tonic::Status>),
}

/// A connection to the LabelService; `None` inside means that nobody wants labels.
#[derive(Clone)]
pub struct Labels(Option<(LabelServiceClient<Channel>, MetadataValue<Ascii>)>);

impl Labels {
    /// Prepares the connection; it is made with the first label.
    ///
    /// # Errors
    /// When a file cannot be read or the endpoint makes no sense.
    pub fn prepare(args: &LabelArgs) -> Result<Self, LabelError> {
        let (Some(url), Some(ca), Some(token_file)) = (&args.labels_endpoint, &args.ca, &args.token_file) else {
            return Ok(Self(None));
        };
        let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(|error| LabelError::File(path.clone(), error));
        let bad = |error| LabelError::Endpoint(url.clone(), error);
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
        if let Some(name) = &args.server_name {
            tls = tls.domain_name(name);
        }
        let endpoint = Endpoint::from_shared(url.clone()).map_err(bad)?.tls_config(tls).map_err(bad)?;
        let mut token: MetadataValue<Ascii> =
            format!("Bearer {}", read(token_file)?.trim()).parse().map_err(|_| LabelError::Token(token_file.clone()))?;
        token.set_sensitive(true);
        let channel = endpoint.connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(10)).connect_lazy();
        Ok(Self(Some((LabelServiceClient::new(channel), token))))
    }

    /// Says what an episode was, and what it touched.
    ///
    /// # Errors
    /// When the aggregator does not take it.
    pub async fn episode(&self, episode: &EpisodeRecord, affected: &[Affected]) -> Result<(), LabelError> {
        self.add(of_episode(episode, affected)).await
    }

    /// Says what was ordinary work.
    ///
    /// # Errors
    /// When the aggregator does not take it.
    pub async fn normal(&self, schedule: &Schedule) -> Result<(), LabelError> {
        self.add(of_ordinary_work(schedule)).await
    }

    async fn add(&self, labels: Vec<Label>) -> Result<(), LabelError> {
        let Some((client, token)) = &self.0 else { return Ok(()) };
        for labels in labels.chunks(MAX_LABELS) {
            add(client, token, labels).await?;
        }
        Ok(())
    }
}

async fn add(client: &LabelServiceClient<Channel>, token: &MetadataValue<Ascii>, labels: &[Label]) -> Result<(), LabelError> {
    let mut attempt = 1;
    loop {
        let mut request = Request::new(AddLabelsRequest { labels: labels.to_vec() });
        request.metadata_mut().insert("authorization", token.clone());
        match client.clone().add_labels(request).await {
            Ok(_) => return Ok(()),
            // A time-out may hide a success; then a label stands twice, which changes nothing.
            Err(status) if attempt < ATTEMPTS && matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded) => {
                attempt += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(status) => return Err(LabelError::Refused(labels.len(), Box::new(status))),
        }
    }
}

/// Labels of an attack and of what it touched. Look-alikes and placebos are ordinary work; they are labelled with their pods' normal time.
#[must_use]
pub fn of_episode(episode: &EpisodeRecord, affected: &[Affected]) -> Vec<Label> {
    if !episode.attack {
        return Vec::new();
    }
    let touched = affected.iter().map(|affected| touched(affected, episode));
    attack(episode).into_iter().chain(touched).collect()
}

/// Labels of what was ordinary work.
#[must_use]
pub fn of_ordinary_work(schedule: &Schedule) -> Vec<Label> {
    schedule.normal.iter().map(|normal| ordinary(normal, schedule)).collect()
}

/// One label per container, exactly as long as the episode was there; for a crash loop one per pod, whose containers come and go.
fn attack(episode: &EpisodeRecord) -> Vec<Label> {
    let kind = Kind::from_word(&episode.kind).unwrap_or(Kind::Unknown);
    let label = |pod_uid: &str, container_id: &str, start_unix_ms, stop_unix_ms| Label {
        selector: Some(Selector { pod_uid: pod_uid.to_owned(), container_id: container_id.to_owned(), ..Selector::default() }),
        range: Some(TimeRange { start_unix_ms, end_unix_ms: stop_unix_ms }),
        attributes: attributes(episode),
        ..from_simulation(kind)
    };
    if kind == Kind::CrashLoop {
        let mut pods: Vec<_> = episode.spans.iter().map(|span| span.pod_uid.as_str()).collect();
        pods.dedup();
        return pods.into_iter().map(|pod| label(pod, "", episode.start_unix_ms, episode.stop_unix_ms)).collect();
    }
    episode.spans.iter().map(|span| label(&span.pod_uid, &span.container_id, span.start_unix_ms, span.stop_unix_ms)).collect()
}

fn touched(affected: &Affected, episode: &EpisodeRecord) -> Label {
    Label {
        selector: Some(Selector { pod_uid: affected.pod_uid.clone(), ..Selector::default() }),
        range: Some(TimeRange { start_unix_ms: affected.start_unix_ms, end_unix_ms: affected.stop_unix_ms }),
        affected: true,
        attributes: attributes(episode),
        ..from_simulation(Kind::from_word(&affected.kind).unwrap_or(Kind::Unknown))
    }
}

fn ordinary(normal: &Normal, schedule: &Schedule) -> Label {
    let episode = schedule.episodes.iter().find(|episode| !normal.episode.is_empty() && episode.episode == normal.episode);
    Label {
        selector: Some(Selector { pod_uid: normal.pod_uid.clone(), ..Selector::default() }),
        range: Some(TimeRange { start_unix_ms: normal.start_unix_ms, end_unix_ms: normal.stop_unix_ms }),
        attributes: episode.map(attributes).unwrap_or_default(),
        ..from_simulation(Kind::Normal)
    }
}

fn attributes(episode: &EpisodeRecord) -> std::collections::HashMap<String, String> {
    // Of ordinary work the kind is only what it looks like.
    let like = if episode.attack { String::new() } else { episode.kind.clone() };
    let pairs = [
        ("episode", episode.episode.clone()),
        ("act", episode.act.clone()),
        ("role", episode.role.to_owned()),
        ("like", like),
        ("placebo_of", episode.placebo_of.clone()),
        ("placement", episode.placement.clone()),
        ("phase", episode.phase.clone()),
        ("round", if episode.round > 0 { episode.round.to_string() } else { String::new() }),
        ("intensity", episode.intensity.clone()),
        ("on_seconds", on_seconds(episode)),
    ];
    let said = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    said.map(|(name, value)| (name.to_owned(), value.chars().take(MAX_VALUE).collect())).collect()
}

/// When a program was on that was on and off, in seconds from its begin, such as `0-2 22-24`.
fn on_seconds(episode: &EpisodeRecord) -> String {
    let seconds = |unix_ms: i64| (unix_ms - episode.start_unix_ms + 500) / 1_000;
    let bursts = episode.bursts.iter().map(|burst| format!("{}-{}", seconds(burst.start_unix_ms), seconds(burst.stop_unix_ms)));
    bursts.collect::<Vec<_>>().join(" ")
}

fn from_simulation(kind: Kind) -> Label {
    Label { kind: kind.into(), source: LabelSource::Simulation.into(), author: AUTHOR.to_owned(), ..Label::default() }
}

//! Tells a webhook of each event once, signed, until it says that it heard.
//!
//! `X-Vedette-Signature: t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA256, under the secret, of `SECONDS`, a full stop, and the body.
//! `X-Vedette-Id`, also in the body, is the same whenever the same event is sent again: a receiver that remembers ids is told once, and
//! one that refuses signatures older than five minutes cannot be fooled by a recorded call.

use std::{sync::Arc, time::Duration};

use ring::hmac;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{
    Notifier, SETTLE,
    alert::{kind_word, link, rfc3339},
    backoff,
    board::Event,
    client::{Client, NotifyError},
    listen, stopped,
    text::{harmless, line},
};
use crate::clock;

/// Events looked up at once.
const BATCH: usize = 64;
/// Between two looks at the board, if nothing was said.
const LOOK: Duration = Duration::from_secs(10);

/// Runs until the aggregator stops.
pub(super) async fn run(notifier: Arc<Notifier>, index: usize, mut client: Client, mut stop: watch::Receiver<bool>) {
    let mut news = notifier.news.subscribe();
    let every = Duration::from_secs(u64::from(notifier.config.alive_seconds));
    let mut alive_at = Instant::now();
    let mut failures = 0;
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(wait) => {}
            Ok(()) = news.changed(), if failures == 0 => tokio::time::sleep(SETTLE).await,
        }
        news.mark_unchanged();
        let result = tokio::select! {
            () = stopped(&mut stop) => return,
            result = round(&notifier, index, &mut client, &mut alive_at, every) => result,
        };
        failures = if result.is_ok() { 0 } else { failures + 1 };
        wait = if result.is_ok() { LOOK.min(alive_at.saturating_duration_since(Instant::now())) } else { backoff(failures) };
        if let Err(error) = result {
            notifier.fared(&notifier.receiver(index).name, client.url(), &Err(error));
        }
    }
}

/// Tells everything that was not told; the first failure ends it, and the rest waits.
async fn round(
    notifier: &Arc<Notifier>,
    index: usize,
    client: &mut Client,
    alive_at: &mut Instant,
    every: Duration,
) -> Result<(), NotifyError> {
    let receiver = notifier.receiver(index);
    if !receiver.alive {
        *alive_at = Instant::now() + every;
    } else if *alive_at <= Instant::now() {
        if notifier.alive() {
            let now_ms = clock::unix_ms();
            let id = format!("{}-alive-{}", notifier.shared.cluster, now_ms / 1_000);
            let body = json!({"version": 1, "id": id, "status": "alive", "cluster": *notifier.shared.cluster, "sent": rfc3339(now_ms)});
            post(client, &id, &body).await?;
            notifier.fared(&receiver.name, client.url(), &Ok(()));
        }
        *alive_at = Instant::now() + every;
    }
    loop {
        let events = notifier.board().events(index, BATCH);
        if events.is_empty() {
            return Ok(());
        }
        for event in events {
            let id = format!("{}-{}-{}", notifier.shared.cluster, event.incident.id, event.stage);
            let result = post(client, &id, &body(notifier, &id, &event)).await;
            match result {
                Err(error) if error.is_final() => {
                    // It would block everything behind it for ever.
                    notifier.fared(&receiver.name, client.url(), &Err(error));
                    notifier.shared.counters.notify.dropped.inc();
                }
                result => {
                    result?;
                    notifier.fared(&receiver.name, client.url(), &Ok(()));
                }
            }
            listen::told(notifier, index, event.incident.id, &event.stage).await;
        }
    }
}

async fn post(client: &mut Client, id: &str, body: &Value) -> Result<(), NotifyError> {
    let body = body.to_string().into_bytes();
    let signature = sign(&client.secret()?, clock::unix_ms() / 1_000, &body);
    client.post("", &[("x-vedette-id", id.to_owned()), ("x-vedette-signature", signature)], body).await
}

/// The header for a body sent at an instant, Unix seconds.
fn sign(secret: &[u8], seconds: i64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    context.update(format!("{seconds}.").as_bytes());
    context.update(body);
    let hex: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

/// What is told of an event.
fn body(notifier: &Notifier, id: &str, event: &Event) -> Value {
    let incident = &event.incident;
    let workload = incident.workload.clone().unwrap_or_default();
    let time = |unix_ms: i64| if unix_ms > 0 { Value::from(rfc3339(unix_ms)) } else { Value::Null };
    let all = |names: &[String]| names.iter().map(|name| line(name)).collect::<Vec<_>>();
    let address = link(&notifier.config.link, incident.id);
    json!({
        "version": 1,
        "id": id,
        "status": event.state.word(),
        "cluster": *notifier.shared.cluster,
        "sent": rfc3339(clock::unix_ms()),
        "link": address,
        "incident": {
            "id": incident.id,
            "severity": incident.severity().word(),
            "kind": kind_word(incident.kind()),
            "effect": line(&incident.effect),
            "summary": line(&incident.summary),
            "score": incident.peak_score,
            "namespace": line(&workload.namespace),
            "owner_kind": line(&workload.owner_kind),
            "owner": line(&workload.owner_name),
            "container": line(&workload.container_name),
            "onset": time(incident.onset_unix_ms),
            "opened": time(incident.opened_unix_ms),
            "resolved": time(incident.resolved_unix_ms),
            "acknowledged_by": line(&incident.acknowledged_by),
            "acknowledged": time(incident.acknowledged_unix_ms),
            "snoozed_by": line(&incident.snoozed_by),
            "snoozed_until": time(incident.snoozed_until_unix_ms),
            "evidence": incident.evidence.iter().map(|evidence| harmless(&evidence.sentence)).collect::<Vec<_>>(),
            "pods": all(&incident.pods),
            "nodes": all(&incident.nodes),
            "attack_techniques": all(&incident.attack_techniques),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_over_the_time_and_the_body() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'sixteen bytes or more'
        let expected = "t=1700000000,v1=ca01cc9110dc59dc1c3125223218e0a09883c98c16a0940b4d5acf5e6f1ae1c4";

        let signed = sign(b"sixteen bytes or more", 1_700_000_000, br#"{"a":1}"#);

        assert_eq!(signed, expected);
        assert_ne!(sign(b"sixteen bytes or more", 1_700_000_001, br#"{"a":1}"#)[13..], expected[13..]);
    }
}

//! What people do about an incident without saying what it was: acknowledge, snooze, comment. It reaches notifications and lists, never the detector.

use tonic::Status;
use vedette_proto::v1::{HandleIncidentRequest, Handling, IncidentChange, WatchIncidentsResponse};

use super::{check, service::claimed};
use crate::{
    Shared,
    store::{DAY_MS, NewHandling, now_unix_ms},
};

/// Longest snooze: what is to be quiet for longer is an exception, which has a reason and is listed.
const MAX_SNOOZE_MS: i64 = 7 * DAY_MS;

/// Records what `caller` asks for and tells whoever watches. Gives its id.
///
/// # Errors
/// `INVALID_ARGUMENT` that names the field; what the store says.
pub(super) async fn handle(shared: &Shared, caller: &str, request: &HandleIncidentRequest) -> Result<u64, Status> {
    let now = now_unix_ms();
    checked(request, now)?;
    let HandleIncidentRequest { incident_id, author, note, until_unix_ms, .. } = request;
    let new = NewHandling { incident_id: *incident_id, handling: request.handling(), author, note, until_unix_ms: *until_unix_ms };
    let id = shared.store.add_handling(&new).await?;
    let until = match request.handling() {
        Handling::Snoozed => format!(" for {} min", ((until_unix_ms - now + 30_000) / 60_000).max(1)),
        _ => String::new(),
    };
    let note = if note.is_empty() { String::new() } else { format!(": {note}") };
    let detail = format!("{}incident {incident_id}: {}{until}{note}", claimed(caller, [&**author]), request.handling().word());
    shared.store.audit(caller, "handle", &detail).await?;
    if let Some(stored) = shared.store.incident(*incident_id).await? {
        // Without a receiver nobody is watching, which is no failure.
        let _ = shared.changes.send(WatchIncidentsResponse { change: IncidentChange::Updated.into(), incident: Some(stored.incident) });
    }
    Ok(id)
}

fn checked(request: &HandleIncidentRequest, now_unix_ms: i64) -> Result<(), Status> {
    if !check::known(Handling::WORDS, request.handling) {
        return Err(check::invalid("handling", "required, one of those that are known"));
    }
    check::author(&request.author)?;
    check::note(&request.note)?;
    if request.handling() == Handling::Commented && request.note.trim().is_empty() {
        return Err(check::invalid("note", "a comment says something"));
    }
    let ahead = request.until_unix_ms.saturating_sub(now_unix_ms);
    match request.handling() {
        Handling::Snoozed if !(1..=MAX_SNOOZE_MS).contains(&ahead) => {
            let days = MAX_SNOOZE_MS / DAY_MS;
            Err(check::invalid(
                "until_unix_ms",
                format!("required, in the future and at most {days} days ahead; for longer make an exception"),
            ))
        }
        Handling::Snoozed => Ok(()),
        _ if request.until_unix_ms != 0 => Err(check::invalid("until_unix_ms", "goes with snoozed only")),
        _ => Ok(()),
    }
}

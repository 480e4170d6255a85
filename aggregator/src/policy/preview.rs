//! What exceptions would have hidden: incidents of the last days, held against them.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tonic::Status;
use vedette_detect::policy::Exception;
use vedette_proto::v1::{Incident, Severity};

use super::asked;
use crate::{Shared, store::IncidentFilter};

/// What one exception would have hidden.
#[derive(Debug, Default)]
pub struct Hidden {
    /// Tickets and pages.
    pub total: AtomicU64,
    /// Pages, or what would have been.
    pub pages: AtomicU64,
    /// Those that it fits, but whose images nobody knows any more.
    pub images_unknown: AtomicU64,
}

/// Holds the incidents of the own cluster since an instant against exceptions, in one pass. Lists the newest of those that any of them
/// would have hidden, up to a limit.
///
/// # Errors
/// What the store says.
pub async fn hidden(
    shared: &Shared,
    exceptions: &[Exception],
    since_unix_ms: i64,
    limit: usize,
) -> Result<(Vec<Hidden>, Vec<Incident>), Status> {
    let counts: Vec<Hidden> = exceptions.iter().map(|_| Hidden::default()).collect();
    let listed = Mutex::new(Vec::new());
    let filter =
        IncidentFilter { cluster: Some(shared.cluster.to_string()), range: (since_unix_ms, i64::MAX), ..IncidentFilter::default() };
    let look = |incident: &Incident| {
        if asked(incident) < Severity::Ticket {
            return false;
        }
        let mut any = false;
        for (exception, count) in exceptions.iter().zip(&counts) {
            if !exception.fits(incident) || exception.at_most >= asked(incident) {
                continue;
            }
            if !exception.image_digests.is_empty() {
                let images = shared.fleet.image_digests(&shared.cluster, &incident.container_ids);
                if images.is_none() {
                    count.images_unknown.fetch_add(1, Relaxed);
                }
                if !exception.runs_only(images.as_deref()) {
                    continue;
                }
            }
            count.total.fetch_add(1, Relaxed);
            count.pages.fetch_add(u64::from(asked(incident) == Severity::Page), Relaxed);
            any = true;
        }
        if any {
            let mut listed = listed.lock().unwrap_or_else(PoisonError::into_inner);
            if listed.len() < limit {
                listed.push(incident.clone());
            }
        }
        false
    };
    shared.store.incidents(&filter, 1, look).await?;
    Ok((counts, listed.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

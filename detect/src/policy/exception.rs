//! What may happen without bothering anybody: by selector and kind until it ends, or because an incident like it was answered.

use vedette_proto::v1::{Incident, Kind, Severity};

use super::{alike, glob::matches};

/// An exception that stands. Its texts are globs; an empty one fits anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Exception {
    /// Its name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Owner kind.
    pub owner_kind: String,
    /// Owner name.
    pub owner_name: String,
    /// Container name.
    pub container_name: String,
    /// Kind; unspecified is any.
    pub kind: Kind,
    /// Until when, Unix milliseconds.
    pub expires_unix_ms: i64,
    /// Every container must run one of these; empty is any.
    pub image_digests: Vec<String>,
    /// To what it lowers.
    pub at_most: Severity,
    /// The incident that was answered, as it was then: only what is like it is covered, and the fields above are its own.
    pub like: Option<Box<Incident>>,
}

impl Exception {
    /// Whether an answer made it.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.like.is_some()
    }

    /// Whether it is about this incident, whatever the time and the images.
    #[must_use]
    pub fn fits(&self, incident: &Incident) -> bool {
        if let Some(answered) = &self.like {
            return alike(incident, answered);
        }
        let Some(workload) = &incident.workload else { return false };
        let any_or = |pattern: &str, is: &str| pattern.is_empty() || matches(pattern, is);
        (self.kind == Kind::Unspecified || self.kind == incident.kind())
            && any_or(&self.namespace, &workload.namespace)
            && any_or(&self.owner_kind, &workload.owner_kind)
            && any_or(&self.owner_name, &workload.owner_name)
            && any_or(&self.container_name, &workload.container_name)
    }

    /// Whether it covers this incident at an instant. Images that nobody knows are other images.
    pub fn covers(&self, incident: &Incident, unix_ms: i64, images: &dyn Fn() -> Option<Vec<String>>) -> bool {
        unix_ms < self.expires_unix_ms && self.fits(incident) && (self.image_digests.is_empty() || self.runs_only(images().as_deref()))
    }

    /// Whether these images are all among those that it is bound to.
    #[must_use]
    pub fn runs_only(&self, images: Option<&[String]>) -> bool {
        let bound = |image: &String| self.image_digests.contains(image);
        images.is_some_and(|images| !images.is_empty() && images.iter().all(bound))
    }
}

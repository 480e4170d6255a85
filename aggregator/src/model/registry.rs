//! Which models there are and which is in service; the detector's task follows what is chosen here.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;
use vedette_detect::{Classifier, LoadError, Signed};
use vedette_proto::v1::{Model, ModelChange, ModelComparison, ModelState};

use super::gate;
use crate::store::{Store, StoreError, StoredModel, now_unix_ms};

/// Most models besides the shipped one: each is some MiB, and nobody compares more.
const MAX_MODELS: usize = 16;
/// Largest file that may be added.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// Shortest beginning of an id that may stand for it.
const LEAST_PREFIX: usize = 4;

/// Why a model cannot be added, found or chosen.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No file of a model, or of nobody who is trusted.
    #[error("{0}")]
    File(String),
    /// It needs what this aggregator does not compute.
    #[error("the model cannot serve here: {0}")]
    Unfit(String),
    /// There is none of this name.
    #[error("there is no model {0:?}; list them with vedette model list")]
    Missing(String),
    /// A beginning that several have.
    #[error("{0:?} is the beginning of several models' ids: write more of it")]
    Ambiguous(String),
    /// It is needed.
    #[error("the model {id} {doing}: {instead}")]
    InUse {
        /// Its id.
        id: String,
        /// What it does.
        doing: &'static str,
        /// What to do first.
        instead: &'static str,
    },
    /// No room.
    #[error("there are {MAX_MODELS} models already: remove one first")]
    Full,
    /// Nothing speaks for it.
    #[error("{0}; --force puts it into service all the same, with a reason that stays on record")]
    NotGranted(String),
    /// Nothing served before.
    #[error("no model served before the present one")]
    NothingBefore,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the detector is to ask.
#[derive(Clone, Default)]
pub struct Choice {
    /// The model that decides.
    pub serving: Option<Arc<Classifier>>,
    /// The model that only watches, and where it is counted.
    pub shadow: Option<(Arc<Classifier>, Arc<Tally>)>,
}

/// How a watching model compares with the one in service, row by row.
#[derive(Debug, Default)]
pub struct Tally {
    /// Observations that it was asked about.
    pub asked: AtomicU64,
    /// Abnormal by its word alone.
    pub only_this: AtomicU64,
    /// Abnormal by the word of the one in service alone.
    pub only_serving: AtomicU64,
}

/// A model that is known.
struct Entry {
    about: Model,
    classifier: Arc<Classifier>,
}

struct State {
    /// The shipped one first, then in the order of their coming.
    models: Vec<Entry>,
    /// Its id; empty: none serves.
    serving: String,
    shadow: Option<(String, Arc<Tally>)>,
}

/// All models.
pub struct Registry {
    store: Store,
    /// Id, file and key of the model of the configuration, which is in no database.
    configured: Option<(String, Vec<u8>, Vec<u8>)>,
    /// Keys that files may be signed with; none: any that an admin brings.
    trusted: Vec<[u8; 32]>,
    state: Mutex<State>,
    /// One change at a time: each reads, writes the database and then tells.
    changing: tokio::sync::Mutex<()>,
    choice: watch::Sender<Choice>,
}

impl Registry {
    /// The models of the database beside the configured one (the shipped one, or that of a file; `None`: none), and what served last.
    /// A stored model that cannot be read any more is left out, with a warning.
    ///
    /// # Errors
    /// What SQLite says.
    pub async fn open(store: Store, configured: Option<Signed>, trusted: Vec<[u8; 32]>) -> Result<Self, ModelError> {
        let mut models = Vec::new();
        let mut file = None;
        if let Some(signed) = configured {
            let about = Model { shipped: true, bytes: signed.file.len() as u64, ..about(&signed.classifier) };
            file = Some((about.id.clone(), signed.file, signed.public_key.to_vec()));
            models.push(Entry { classifier: Arc::new(signed.classifier), about });
        }
        for stored in store.models().await? {
            match entry(&stored) {
                Ok(entry) => models.push(entry),
                Err(error) => tracing::warn!(model = stored.id, %error, "a stored model cannot be used"),
            }
        }
        let mut state = State { models, serving: String::new(), shadow: None };
        state.serving = state.models.first().filter(|entry| entry.about.shipped).map_or_else(String::new, |entry| entry.about.id.clone());
        let changes = store.model_changes(10_000).await?;
        let served = changes.iter().find(|change| serves(change)).map(|change| change.model.clone());
        match served.filter(|id| !id.is_empty() && *id != state.serving) {
            Some(id) if state.find(&id).is_some() => state.serving = id,
            Some(id) => tracing::warn!(model = id, serving = state.serving, "the model that served last is not there any more"),
            None => {}
        }
        let shadow = changes.iter().find(|change| change.what == "shadow" || serves(change));
        if let Some(shadow) = shadow.filter(|change| change.what == "shadow" && state.find(&change.model).is_some()) {
            state.shadow = Some((shadow.model.clone(), Arc::default()));
        }
        let (choice, _) = watch::channel(state.choice());
        Ok(Self { store, configured: file, trusted, state: Mutex::new(state), changing: tokio::sync::Mutex::default(), choice })
    }

    /// What the detector is to ask, now and whenever it changes.
    #[must_use]
    pub fn choice(&self) -> watch::Receiver<Choice> {
        self.choice.subscribe()
    }

    /// The models, the one in service first, then the newest.
    #[must_use]
    pub fn list(&self) -> Vec<Model> {
        let state = self.state();
        let mut models: Vec<Model> = state.models.iter().map(|entry| state.told(&entry.about)).collect();
        models.sort_by_key(|model| (model.state() != ModelState::Serving, std::cmp::Reverse(model.added_unix_ms)));
        models
    }

    /// A model by its id, a beginning of it, or what it does.
    ///
    /// # Errors
    /// [`ModelError::Missing`], [`ModelError::Ambiguous`].
    pub fn find(&self, name: &str) -> Result<Model, ModelError> {
        let state = self.state();
        Ok(state.told(&state.named(name)?.about))
    }

    /// The file of a model, by its id, and the key that signed it.
    ///
    /// # Errors
    /// [`ModelError::Missing`], or what SQLite says.
    pub async fn file(&self, id: &str) -> Result<(Vec<u8>, Vec<u8>), ModelError> {
        match &self.configured {
            Some((configured, file, key)) if configured == id => Ok((file.clone(), key.clone())),
            _ => self.store.model_file(id).await?.ok_or_else(|| ModelError::Missing(id.to_owned())),
        }
    }

    /// Adds the model of a file. Gives what it is, and whether it was there before.
    ///
    /// # Errors
    /// A file that is none, signed by another key than is trusted, or of a model that cannot serve here.
    pub async fn add(&self, file: Vec<u8>, public_key: Vec<u8>, note: String, who: &str) -> Result<(Model, bool), ModelError> {
        let _one = self.changing.lock().await;
        let key: [u8; 32] = public_key
            .as_slice()
            .try_into()
            .map_err(|_| ModelError::File(format!("public_key: {} bytes, an Ed25519 key has 32", public_key.len())))?;
        if !self.trusted.is_empty() && !self.trusted.contains(&key) {
            return Err(ModelError::File(
                "public_key: not among detect.model_keys of the configuration, and not the shipped one".to_owned(),
            ));
        }
        if file.len() > MAX_FILE_BYTES {
            return Err(ModelError::File(format!("file: {} bytes, at most {MAX_FILE_BYTES} may be added", file.len())));
        }
        let id = Classifier::from_bytes(&file, &[key]).map_err(unfit)?.name().to_owned();
        {
            let state = self.state();
            if let Some(known) = state.find(&id) {
                return Ok((state.told(&known.about), true));
            }
            if state.models.iter().filter(|entry| !entry.about.shipped).count() >= MAX_MODELS {
                return Err(ModelError::Full);
            }
        }
        let stored = StoredModel { id, file, public_key, added_by: who.to_owned(), added_unix_ms: now_unix_ms(), note };
        let entry = entry(&stored)?;
        self.store.add_model(&stored).await?;
        let mut state = self.state();
        let told = state.told(&entry.about);
        state.models.push(entry);
        Ok((told, false))
    }

    /// Takes a model away.
    ///
    /// # Errors
    /// It serves, it watches, or it is the shipped one.
    pub async fn remove(&self, name: &str, who: &str) -> Result<(), ModelError> {
        let _one = self.changing.lock().await;
        let Model { id, shipped, .. } = {
            let model = self.find(name)?;
            let in_use = |doing, instead| Err(ModelError::InUse { id: model.id.clone(), doing, instead });
            match (model.state(), model.shipped) {
                (ModelState::Serving, _) => return in_use("is in service", "promote another one first"),
                (ModelState::Shadow, _) => return in_use("watches", "vedette model shadow --off first"),
                _ => model,
            }
        };
        if shipped {
            let (doing, instead) = ("is part of the configuration", "set detect.model to leave it out");
            return Err(ModelError::InUse { id, doing, instead });
        }
        self.store.remove_model(&id, who).await?;
        self.state().models.retain(|entry| entry.about.id != id);
        Ok(())
    }

    /// Puts a model into service.
    ///
    /// # Errors
    /// [`ModelError::NotGranted`] where no comparison with the model in service passed and it is not forced.
    pub async fn promote(
        &self,
        name: &str,
        mut comparison: Option<ModelComparison>,
        forced: Option<String>,
        who: &str,
    ) -> Result<Model, ModelError> {
        let _one = self.changing.lock().await;
        let model = self.find(name)?;
        if model.state() == ModelState::Serving {
            return Ok(model);
        }
        // Without a model in service there is nothing to be worse than.
        if forced.is_none()
            && let Some(serving) = self.serving()
        {
            let conditions = gate::granted(&model, &serving, comparison.as_ref())?;
            if let Some(given) = &mut comparison {
                // On record is what was checked here.
                given.conditions = conditions.iter().map(ToString::to_string).collect();
            }
        }
        let change = ModelChange {
            what: "promote".to_owned(),
            forced: forced.is_some(),
            reason: forced.unwrap_or_default(),
            comparison,
            ..ModelChange::default()
        };
        self.serve(model.id, change, who).await
    }

    /// What is in service, if anything is.
    fn serving(&self) -> Option<Model> {
        let state = self.state();
        state.find(&state.serving).map(|entry| entry.about.clone())
    }

    /// Puts the model into service that served before.
    ///
    /// # Errors
    /// [`ModelError::NothingBefore`], or it is gone.
    pub async fn roll_back(&self, reason: String, who: &str) -> Result<Model, ModelError> {
        let _one = self.changing.lock().await;
        let changes = self.store.model_changes(10_000).await?;
        let serving = self.state().serving.clone();
        let before = changes.iter().find(|change| serves(change) && change.model == serving).map(|change| change.before.clone());
        let before = before.filter(|before| !before.is_empty()).ok_or(ModelError::NothingBefore)?;
        let id = self.find(&before)?.id;
        self.serve(id, ModelChange { what: "roll back".to_owned(), reason, ..ModelChange::default() }, who).await
    }

    async fn serve(&self, id: String, change: ModelChange, who: &str) -> Result<Model, ModelError> {
        let before = self.state().serving.clone();
        let change = ModelChange { unix_ms: now_unix_ms(), who: who.to_owned(), model: id.clone(), before, ..change };
        self.store.model_changed(&change).await?;
        {
            let mut state = self.state();
            state.serving.clone_from(&id);
            // What it was compared with serves no more.
            state.shadow = None;
            self.choice.send_replace(state.choice());
        }
        self.find(&id)
    }

    /// Lets a model watch; an empty name: none.
    ///
    /// # Errors
    /// It serves already, or is not there.
    pub async fn shadow(&self, name: &str, who: &str) -> Result<Option<Model>, ModelError> {
        let _one = self.changing.lock().await;
        let id = match name.is_empty() {
            true => String::new(),
            false => {
                let model = self.find(name)?;
                if model.state() == ModelState::Serving {
                    let (doing, instead) = ("is in service", "only another one can watch beside it");
                    return Err(ModelError::InUse { id: model.id, doing, instead });
                }
                model.id
            }
        };
        let (what, unix_ms) = ("shadow".to_owned(), now_unix_ms());
        let change = ModelChange { unix_ms, who: who.to_owned(), what, model: id.clone(), ..ModelChange::default() };
        self.store.model_changed(&change).await?;
        {
            let mut state = self.state();
            state.shadow = (!id.is_empty()).then(|| (id.clone(), Arc::default()));
            self.choice.send_replace(state.choice());
        }
        if id.is_empty() { Ok(None) } else { self.find(&id).map(Some) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, id: &str) -> Option<&Entry> {
        self.models.iter().find(|entry| entry.about.id == id)
    }

    fn named(&self, name: &str) -> Result<&Entry, ModelError> {
        let missing = || ModelError::Missing(name.chars().take(64).collect());
        let by_state = match name {
            "serving" => Some(self.serving.as_str()),
            "shadow" => Some(self.shadow.as_ref().map_or("", |(id, _)| id)),
            _ => None,
        };
        if let Some(id) = by_state {
            return self.find(id).ok_or_else(missing);
        }
        if name == "shipped" {
            return self.models.iter().find(|entry| entry.about.shipped).ok_or_else(missing);
        }
        if name.len() < LEAST_PREFIX {
            return Err(missing());
        }
        let mut fits = self.models.iter().filter(|entry| entry.about.id.starts_with(name));
        match (fits.next(), fits.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(ModelError::Ambiguous(name.to_owned())),
            (None, _) => Err(missing()),
        }
    }

    /// What is told of a model: what it does now besides what it is.
    fn told(&self, about: &Model) -> Model {
        let mut model = about.clone();
        let watches = self.shadow.as_ref().filter(|(id, _)| *id == about.id);
        let state = match watches {
            _ if self.serving == about.id => ModelState::Serving,
            Some(_) => ModelState::Shadow,
            None => ModelState::Idle,
        };
        model.state = state.into();
        if let Some((_, tally)) = watches {
            model.asked = tally.asked.load(Ordering::Relaxed);
            model.only_this = tally.only_this.load(Ordering::Relaxed);
            model.only_serving = tally.only_serving.load(Ordering::Relaxed);
        }
        model
    }

    fn choice(&self) -> Choice {
        let classifier = |id: &str| self.find(id).map(|entry| Arc::clone(&entry.classifier));
        let shadow = self.shadow.as_ref().and_then(|(id, tally)| Some((classifier(id)?, Arc::clone(tally))));
        Choice { serving: classifier(&self.serving), shadow }
    }
}

/// Whether a change says what serves.
fn serves(change: &ModelChange) -> bool {
    change.what == "promote" || change.what == "roll back"
}

fn about(classifier: &Classifier) -> Model {
    let (model, description) = (classifier.model(), classifier.model().description());
    Model {
        id: classifier.name().to_owned(),
        trees: model.forest().trees().len() as u32,
        classes: description.classes.clone(),
        columns: description.columns.clone(),
        card: description.card.clone().into_iter().collect(),
        ..Model::default()
    }
}

fn entry(stored: &StoredModel) -> Result<Entry, ModelError> {
    let key: [u8; 32] = stored.public_key.as_slice().try_into().map_err(|_| ModelError::File("its key has not 32 bytes".to_owned()))?;
    let classifier = Classifier::from_bytes(&stored.file, &[key]).map_err(unfit)?;
    let about = Model {
        added_by: stored.added_by.clone(),
        added_unix_ms: stored.added_unix_ms,
        note: stored.note.clone(),
        bytes: stored.file.len() as u64,
        ..about(&classifier)
    };
    Ok(Entry { classifier: Arc::new(classifier), about })
}

fn unfit(error: LoadError) -> ModelError {
    match error {
        LoadError::File(error) => ModelError::File(format!("file: {error}")),
        LoadError::Classifier(error) => ModelError::Unfit(error.to_string()),
    }
}

#[cfg(test)]
mod tests;

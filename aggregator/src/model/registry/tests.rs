//! Models come, watch, serve and go, and what was done with them stays on record.

use vedette_detect::Classifier;

use super::*;

async fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.sqlite")).await.unwrap();
    (dir, store)
}

/// The shipped model again with another card, signed by a key of this test: its file and the key's public half.
fn another(note: &str) -> (Vec<u8>, Vec<u8>) {
    use ring::signature::{Ed25519KeyPair, KeyPair};
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let shipped = Classifier::shipped().unwrap();
    let mut description = shipped.model().description().clone();
    description.card.insert("note".to_owned(), note.to_owned());
    let model = vedette_forest::Model::new(description, shipped.model().forest().clone()).unwrap();
    (model.to_bytes(&key), key.public_key().as_ref().to_vec())
}

async fn with_another(store: &Store) -> (Registry, String) {
    let registry = Registry::open(store.clone(), Some(Classifier::shipped().unwrap()), Vec::new()).await.unwrap();
    let (file, key) = another("one");
    let (model, known) = registry.add(file, key, String::new(), "admin.token").await.unwrap();
    assert!(!known);
    (registry, model.id)
}

fn passed(against: &str) -> ModelComparison {
    ModelComparison { against: against.to_owned(), sessions: 3, resamplings: 1_000, passed: true, conditions: vec!["fine".to_owned()] }
}

#[tokio::test]
async fn a_model_serves_once_it_was_compared_and_still_after_a_restart() {
    let (_dir, store) = store().await;
    let (registry, id) = with_another(&store).await;
    let shipped = registry.find("shipped").unwrap().id;

    let without = registry.promote(&id, None, None, "a").await.unwrap_err().to_string();
    let stale = registry.promote(&id, Some(passed("0000000000000000")), None, "a").await.unwrap_err().to_string();
    let failed = ModelComparison { passed: false, ..passed(&shipped) };
    let failed = registry.promote(&id, Some(failed), None, "a").await.unwrap_err().to_string();
    let promoted = registry.promote(&id[..6], Some(passed(&shipped)), None, "a").await.unwrap();
    let again = Registry::open(store.clone(), Some(Classifier::shipped().unwrap()), Vec::new()).await.unwrap();

    assert!(
        without.contains("no comparison") && stale.contains("in service is") && failed.contains("did not pass"),
        "{without} {stale} {failed}"
    );
    assert_eq!((promoted.state(), &promoted.id), (ModelState::Serving, &id));
    assert_eq!(again.find("serving").unwrap().id, id);
    assert_eq!(again.choice().borrow().serving.as_ref().unwrap().name(), id);
}

#[tokio::test]
async fn force_is_on_record_and_rolling_back_brings_the_one_before() {
    let (_dir, store) = store().await;
    let (registry, id) = with_another(&store).await;
    let mut choice = registry.choice();

    registry.promote(&id, None, Some("it knows our batch jobs".to_owned()), "ada").await.unwrap();
    let told = choice.has_changed().unwrap();
    choice.mark_unchanged();
    let back = registry.roll_back("twice the tickets".to_owned(), "bob").await.unwrap();
    let changes = store.model_changes(10).await.unwrap();

    assert!(told && choice.has_changed().unwrap());
    assert!(back.shipped);
    let promoted = changes.iter().find(|change| change.what == "promote").unwrap();
    assert_eq!((promoted.forced, &*promoted.reason, &*promoted.who), (true, "it knows our batch jobs", "ada"));
    assert_eq!((&*changes[0].what, &*changes[0].who, &*changes[0].before), ("roll back", "bob", &*id));
}

#[tokio::test]
async fn a_model_watches_beside_the_one_in_service_and_neither_can_be_removed() {
    let (_dir, store) = store().await;
    let (registry, id) = with_another(&store).await;

    let watching = registry.shadow(&id, "a").await.unwrap().unwrap();
    let while_it_watches = registry.remove(&id, "a").await.unwrap_err();
    let shipped = registry.remove("shipped", "a").await.unwrap_err();
    registry.shadow("", "a").await.unwrap();
    registry.remove(&id, "a").await.unwrap();

    assert_eq!(watching.state(), ModelState::Shadow);
    assert!(matches!(while_it_watches, ModelError::InUse { .. }) && matches!(shipped, ModelError::InUse { .. }));
    assert!(matches!(registry.find(&id), Err(ModelError::Missing(_))));
    assert_eq!(registry.list().len(), 1);
}

#[tokio::test]
async fn what_is_no_model_or_signed_by_others_is_refused_and_the_same_twice_is_known() {
    let (_dir, store) = store().await;
    let (registry, id) = with_another(&store).await;
    let (file, key) = another("one");

    let again = registry.add(file.clone(), key.clone(), String::new(), "a").await.unwrap();
    let other_key = registry.add(file.clone(), vec![1; 32], String::new(), "a").await.unwrap_err();
    let damaged = registry.add(file[..file.len() - 1].to_vec(), key.clone(), String::new(), "a").await.unwrap_err();
    let strict = Registry::open(store.clone(), None, vec![[9; 32]]).await.unwrap();
    let untrusted = strict.add(another("two").0, key, String::new(), "a").await.unwrap_err();

    assert_eq!((again.0.id, again.1), (id, true));
    for (error, said) in [(other_key, "signature"), (damaged, "bytes"), (untrusted, "model_keys")] {
        assert!(error.to_string().contains(said), "{error}");
    }
}

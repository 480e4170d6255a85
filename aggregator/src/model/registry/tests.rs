//! Models come, watch, serve and go, and what was done with them stays on record.

use vedette_detect::{Classifier, promotion::MadeWith};
use vedette_proto::v1::KindComparison;

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
    let registry = Registry::open(store.clone(), Some(Signed::shipped().unwrap()), Vec::new()).await.unwrap();
    let (file, key) = another("one");
    let (model, known) = registry.add(file, key, String::new(), "admin.token").await.unwrap();
    assert!(!known);
    (registry, model.id)
}

/// A comparison on sessions that nobody was made with, where the model does what the one in service does.
fn passed(model: &str, against: &str) -> ModelComparison {
    let kinds = ["mining", "scan", "flood", "exfiltration", "recon", "fork_bomb", "memory_leak", "disk_fill"];
    let kind =
        |kind: &str| KindComparison { kind: kind.to_owned(), attacks: 9, told_by_model: 8, told_by_against: 8, ..Default::default() };
    ModelComparison {
        model: model.to_owned(),
        against: against.to_owned(),
        sessions: 5,
        session_names: (1..=5).map(|number| format!("elsewhere-{number}")).collect(),
        resamplings: 1_000,
        passed: true,
        kinds: kinds.map(kind).into(),
        ..ModelComparison::default()
    }
}

#[tokio::test]
async fn a_model_serves_once_it_was_compared_and_still_after_a_restart() {
    let (_dir, store) = store().await;
    let (registry, id) = with_another(&store).await;
    let shipped = registry.find("shipped").unwrap().id;

    let without = registry.promote(&id, None, None, "a").await.unwrap_err().to_string();
    let stale = registry.promote(&id, Some(passed(&id, "0000000000000000")), None, "a").await.unwrap_err().to_string();
    let promoted = registry.promote(&id[..6], Some(passed(&id, &shipped)), None, "a").await.unwrap();
    let again = Registry::open(store.clone(), Some(Signed::shipped().unwrap()), Vec::new()).await.unwrap();

    assert!(without.contains("no comparison") && stale.contains("in service is"), "{without} {stale}");
    assert_eq!((promoted.state(), &promoted.id), (ModelState::Serving, &id));
    assert_eq!(again.find("serving").unwrap().id, id);
    assert_eq!(again.choice().borrow().serving.as_ref().unwrap().name(), id);
    let changes = store.model_changes(1).await.unwrap();
    assert_eq!(changes[0].comparison.as_ref().unwrap().conditions.len(), 10, "what was checked is on record");
}

#[tokio::test]
async fn a_comparison_that_is_not_of_this_model_not_fair_or_not_good_enough_is_refused_with_the_reason() {
    let (_dir, store) = store().await;
    let (registry, id) = with_another(&store).await;
    let shipped = registry.find("shipped").unwrap();
    let known = MadeWith::of(&shipped.card).unwrap();
    let (name, fine) = ("shop-01".to_owned(), passed(&id, &shipped.id));
    assert!(known.knows(&name, ""));
    let mut lower = fine.clone();
    lower.kinds[1].lower = -0.2;
    let mut unfair = fine.clone();
    unfair.session_names[0] = name;
    let cases = [
        (passed("0123456789abcdef", &shipped.id), "the comparison is of 0123456789abcdef, not of"),
        (ModelComparison { model: String::new(), ..fine.clone() }, "the comparison is of no model"),
        (unfair, "was made with shop-01"),
        // It says that it passed.
        (lower, "did not pass: scan: 8 of 9"),
        (ModelComparison { pages_of_model: 1, ..fine.clone() }, "1 pages about no attack, 0 of"),
        (ModelComparison { kinds: Vec::new(), ..fine.clone() }, "no attack in these sessions was mining"),
        (ModelComparison { passed: false, ..fine }, "says that it did not pass"),
    ];

    for (comparison, reason) in cases {
        let error = registry.promote(&id, Some(comparison), None, "a").await.unwrap_err().to_string();

        assert!(error.contains(reason) && error.contains("--force"), "{error}");
    }
    assert_eq!(registry.find("serving").unwrap().id, shipped.id);
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

    assert_eq!((&again.0.id, again.1), (&id, true));
    assert_eq!(registry.file(&id).await.unwrap(), (file, another("one").1));
    let (shipped, key) = registry.file(&registry.find("shipped").unwrap().id).await.unwrap();
    assert_eq!(Classifier::from_bytes(&shipped, &[key.try_into().unwrap()]).unwrap().name(), registry.find("shipped").unwrap().id);
    for (error, said) in [(other_key, "signature"), (damaged, "bytes"), (untrusted, "model_keys")] {
        assert!(error.to_string().contains(said), "{error}");
    }
}

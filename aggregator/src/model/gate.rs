//! The gate before service: what a comparison must be for a model to take another's place.

use vedette_detect::promotion::{self, Condition, MadeWith};
use vedette_proto::v1::{Model, ModelComparison};

use super::ModelError;

/// Whether a comparison speaks for a model: it is of this one with the one in service, on sessions that neither was made with, and what
/// `promotion` asks for holds by its figures, whatever it says itself. Gives the conditions.
///
/// # Errors
/// [`ModelError::NotGranted`] says why not.
pub(super) fn granted(model: &Model, serving: &Model, comparison: Option<&ModelComparison>) -> Result<Vec<Condition>, ModelError> {
    let no = |problem: String| Err(ModelError::NotGranted(problem));
    let said = |id: &str| if id.is_empty() { "no model".to_owned() } else { id.escape_default().to_string() };
    let Some(given) = comparison else { return no("no comparison with the model in service was given".to_owned()) };
    if given.model != model.id {
        return no(format!("the comparison is of {}, not of {}", said(&given.model), model.id));
    }
    if given.against != serving.id {
        return no(format!("the comparison is with {}, in service is {}", said(&given.against), serving.id));
    }
    for about in [model, serving] {
        let Some(made) = MadeWith::of(&about.card) else {
            return no(format!("the card of {} does not say which sessions it was made with: no comparison is fair", about.id));
        };
        let known: Vec<_> = given.session_names.iter().filter(|name| made.knows(name, "")).map(String::as_str).collect();
        if !known.is_empty() {
            return no(format!("the model {} was made with {} of the comparison", about.id, known.join(", ").escape_default()));
        }
    }
    let conditions = promotion::conditions(given, &serving.classes);
    let failed: Vec<&str> = conditions.iter().filter(|condition| !condition.holds).map(|condition| condition.words.as_str()).collect();
    match (failed.is_empty(), given.passed) {
        (true, true) => Ok(conditions),
        (true, false) => no("the comparison says that it did not pass".to_owned()),
        (false, _) => no(format!("the comparison did not pass: {}", failed.join("; "))),
    }
}

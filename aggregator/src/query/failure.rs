//! What DataFusion says, in words and codes that a person can use.

use datafusion::error::DataFusionError;
use tonic::{Code, Status};

/// The one place where what DataFusion says becomes a code.
#[must_use]
pub fn status_of(error: &DataFusionError) -> Status {
    let root = error.find_root();
    let code = match root {
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Configuration(_)
        | DataFusionError::ArrowError(..)
        | DataFusionError::Execution(_) => Code::InvalidArgument,
        DataFusionError::ResourcesExhausted(_) => {
            return Status::resource_exhausted(
                "the question needs more memory than the 256 MiB a question may use: narrow the time range, select fewer columns, or group by less",
            );
        }
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => Code::Unavailable,
        _ => Code::Internal,
    };
    Status::new(code, sentence(&root.strip_backtrace()))
}

/// Without the library's own classes in front, on one line, cut to what a terminal shows.
fn sentence(message: &str) -> String {
    const CLASSES: [&str; 7] = [
        "Error during planning: ",
        "Schema error: ",
        "SQL error: ",
        "Execution error: ",
        "This feature is not implemented: ",
        "Arrow error: ",
        "External error: ",
    ];
    const LONGEST: usize = 1000;
    let mut rest = message;
    while let Some(stripped) = CLASSES.iter().find_map(|class| rest.strip_prefix(class)) {
        rest = stripped;
    }
    let line = rest.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LONGEST { line } else { line.chars().take(LONGEST).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_stripped_and_lines_joined() {
        assert_eq!(sentence("Error during planning: Schema error: no field\n  named x"), "no field named x");
    }

    #[test]
    fn a_question_too_large_for_memory_says_what_to_do() {
        let status = status_of(&DataFusionError::ResourcesExhausted("GroupedHashAggregateStream[0]".into()));

        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("narrow the time range"));
    }
}

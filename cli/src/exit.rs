//! The exit codes that scripts may rely on, and the errors that carry one.

use std::io;
use std::process::ExitCode;

use tonic::{Code, Status};

use crate::escape::escaped;

/// How a command ended. The numbers are a promise; see [`CODES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Anything that has no code of its own.
    Failure = 1,
    /// The command line or the configuration file makes no sense.
    Usage = 2,
    /// The question was answered, with nothing.
    NothingFound = 3,
    /// The aggregator cannot be reached, or its certificate is not trusted.
    Unreachable = 4,
    /// The aggregator was reached and refused the token.
    Refused = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What help says of the exit codes.
pub const CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line or the configuration file makes no sense
  3  nothing found: no such incident or label, or no rows
  4  the aggregator cannot be reached, or its certificate is not trusted
  5  the aggregator refused the token";

/// An error with its exit code; the text is one line and says what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Stop {
    /// The code to exit with.
    pub exit: Exit,
    /// One line, safe for a terminal.
    pub message: String,
}

impl Stop {
    /// An error that ends the command with `exit`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// An error of the command line or the configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

/// Turns what the aggregator answered into an error with the right code.
///
/// The text of a status may quote what an attacker wrote, so it is escaped here.
impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        let said = escaped(status.message());
        match status.code() {
            Code::Unauthenticated => {
                Self::new(Exit::Refused, format!("the aggregator refused the token ({said}); check --token-file or --context"))
            }
            Code::PermissionDenied => {
                Self::new(Exit::Refused, format!("this token may not do that ({said}); in a cluster --role asks for another"))
            }
            Code::NotFound => Self::new(Exit::NothingFound, said),
            Code::Unavailable => Self::new(Exit::Unreachable, format!("lost the aggregator ({said}); run the command again")),
            Code::Unimplemented => {
                Self::new(Exit::Failure, format!("this aggregator cannot do that ({said}); it is older than this vedette"))
            }
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::ResourceExhausted | Code::AlreadyExists => {
                Self::new(Exit::Failure, said)
            }
            code => Self::new(Exit::Failure, format!("the aggregator failed: {said} ({code:?})")),
        }
    }
}

/// The exit of a list of so many rows; where it has none, a person is told why.
pub fn found(rows: u64, otherwise: &str) -> Exit {
    if rows > 0 {
        return Exit::Ok;
    }
    eprintln!("vedette: {otherwise}");
    Exit::NothingFound
}

/// Where an error ends: its exit code, and its line unless nobody is left to read it.
pub fn of_error(error: &anyhow::Error) -> (Exit, Option<String>) {
    // `vedette query ... | head` closes the pipe when it has seen enough; that is no failure.
    let closed = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(closed) {
        return (Exit::Ok, None);
    }
    let exit = error.chain().find_map(|cause| cause.downcast_ref::<Stop>()).map_or(Exit::Failure, |stop| stop.exit);
    (exit, Some(escaped(&format!("{error:#}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("writing rows");

        assert_eq!(of_error(&error), (Exit::Ok, None));
    }

    #[test]
    fn statuses_have_the_promised_codes() {
        let exit = |status: Status| Stop::from(status).exit;

        assert_eq!(exit(Status::unauthenticated("no")), Exit::Refused);
        assert_eq!(exit(Status::permission_denied("no")), Exit::Refused);
        assert_eq!(exit(Status::not_found("no")), Exit::NothingFound);
        assert_eq!(exit(Status::unavailable("no")), Exit::Unreachable);
        assert_eq!(exit(Status::internal("no")), Exit::Failure);
    }

    #[test]
    fn an_error_is_one_line_whatever_the_aggregator_said() {
        let error = anyhow::Error::from(Stop::from(Status::invalid_argument("bad\nsql \u{1b}[31m")));

        assert_eq!(of_error(&error), (Exit::Failure, Some("bad\\nsql \\u{1b}[31m".to_owned())));
    }
}

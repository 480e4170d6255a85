//! `vedette`: reads the command line, calls one function, turns the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().expect("no crypto provider was installed before");
    vedette_cli::main()
}

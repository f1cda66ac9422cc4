//! The program: arguments in, an exit code out. Everything else is in [`cli`].
#![warn(missing_docs)]
// A closed pipe or a bad input must never panic; `cli::output` writes, errors are returned.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::expect_used)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}

//! The program: arguments in, an exit code out. Everything else is in [`cli`].
#![warn(missing_docs)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}

//! The program: arguments in, an exit code out. Everything else is in [`cli`]; in a browser, in `page`.
#![warn(missing_docs)]
// A closed pipe or a bad input must never panic; `cli::output` writes, errors are returned.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::expect_used)]

#[cfg(not(target_arch = "wasm32"))]
mod cli;
#[cfg(target_arch = "wasm32")]
mod page;

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    cli::main()
}

#[cfg(target_arch = "wasm32")]
fn main() {
    page::main();
}

//! The command line: arguments and wiring, one file a subcommand.
//!
//! Invariants: stdout carries results only, everything else goes to stderr; whatever a user can get wrong is found
//! before anything long starts, and is said in one line behind `error:`; the exit code is 2 for the user's fault, 1 for
//! ours.

mod answer;
mod bench;
mod calibrate;
mod chat;
mod convert;
mod devices;
mod eval;
mod generate;
mod info;
mod input;
mod interrupt;
mod knowledge;
mod load;
mod masks;
mod options;
mod output;
mod progress;
mod pull;
#[cfg(feature = "burn")]
mod tune;
mod window;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use secateur::Error;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// A LLaMA that prunes itself while it talks: Probe Pruning on any GPU through WebGPU.
///
/// Without a command: the window.
#[derive(Debug, Parser)]
#[command(name = "secateur", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    window: window::WindowArgs,
    /// What is logged to stderr: error, warn, info, debug, trace, or a filter such as `secateur=debug`
    #[arg(long, global = true, value_name = "LEVEL", env = "SECATEUR_LOG", default_value = "warn,winit=error")]
    log: String,
    /// Log as JSON lines
    #[arg(long, global = true)]
    log_json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Download a model of the catalogue
    Pull(pull::PullArgs),
    /// Talk with a model in the terminal
    ///
    /// Prunes at 0.1 while it answers, unless --ratio or --method say otherwise. Lines come from stdin where that is no
    /// terminal; stdout then holds the answers alone.
    Chat(chat::ChatArgs),
    /// Answer one prompt
    ///
    /// Runs dense unless --ratio or --method is given.
    Generate(generate::GenerateArgs),
    /// Measure what a text says about every channel of a model
    ///
    /// The text runs dense; means, mean squares and fluctuations of every channel go to a safetensors file. Probe Pruning starts its
    /// history from it, the static methods decide by it. An interrupted measurement goes on where it was.
    Calibrate(calibrate::CalibrateArgs),
    /// Write the units that a static method keeps
    ///
    /// The file runs with --masks-in wherever a model runs.
    Masks(masks::MasksArgs),
    /// Prune by gradients
    #[cfg(feature = "burn")]
    #[command(subcommand)]
    Tune(tune::TuneCommand),
    /// Measure quality on data
    #[command(subcommand)]
    Eval(eval::EvalCommand),
    /// Measure speed, dense and pruned
    ///
    /// Prompt and answer are made-up tokens: speed does not depend on them. Pruned runs prune prompt and answer, so
    /// that both are measured.
    Bench(bench::BenchArgs),
    /// Write a model as one GGUF file in another format
    ///
    /// Reads what runs: a Hugging Face folder or a GGUF file. The file is whole under its name, or not there; an unfinished one is
    /// called FILE.gguf.part.
    Convert(convert::ConvertArgs),
    /// Describe a model, and what pruning would remove from it
    Info(info::InfoArgs),
    /// List the GPUs
    Devices(devices::DevicesArgs),
}

/// Parses the arguments, runs the command, reports its error.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    refuse_misplaced(&matches);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Ends the program where options of the window stand before a command, which has its own: they would do nothing there.
fn refuse_misplaced(matches: &ArgMatches) {
    let Some(command) = matches.subcommand_name() else { return };
    let given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    if let Some(option) = window::OPTIONS.into_iter().find(given) {
        let what = format!("--{option} before `{command}` is an option of the window: put it behind `{command}`");
        Cli::command().error(ErrorKind::ArgumentConflict, what).exit();
    }
}

fn run(cli: Cli) -> Result<()> {
    start_logging(&cli.log, cli.log_json)?;
    match cli.command {
        None => window::run(cli.window),
        Some(Command::Pull(args)) => pull::run(&args),
        Some(Command::Chat(args)) => chat::run(args),
        Some(Command::Generate(args)) => generate::run(&args),
        Some(Command::Calibrate(args)) => calibrate::run(&args),
        Some(Command::Masks(args)) => masks::run(&args),
        #[cfg(feature = "burn")]
        Some(Command::Tune(command)) => tune::run(&command),
        Some(Command::Eval(command)) => eval::run(&command),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::Convert(args)) => convert::run(&args),
        Some(Command::Info(args)) => info::run(&args),
        Some(Command::Devices(args)) => devices::run(&args),
    }
}

fn start_logging(filter: &str, json: bool) -> Result<()> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Error::Setting(format!("--log is `{filter}`, which is no level and no filter: {error}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        builder.json().init()
    } else {
        builder.init()
    }
    Ok(())
}

/// Says what went wrong; the exit code follows from whose fault it is.
fn fail(error: &anyhow::Error) -> ExitCode {
    // Whoever read our output has seen enough (`secateur generate | head`).
    let closed = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(closed) {
        return ExitCode::SUCCESS;
    }
    output::say(&format!("error: {}", message(error)));
    ExitCode::from(exit_code(error))
}

/// 2 for what the user can mend, 1 for everything else.
fn exit_code(error: &anyhow::Error) -> u8 {
    let user = error.chain().find_map(|cause| cause.downcast_ref::<Error>()).is_some_and(Error::is_user_fault);
    if user { 2 } else { 1 }
}

/// The causes in one line, leaving out those that the one before has told already.
fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_exit_code_says_whose_fault_it_is() {
        let code = |error: Error| exit_code(&anyhow::Error::from(error).context("while loading"));
        assert_eq!(code(Error::Setting("--ratio is 2".into())), 2);
        assert_eq!(code(Error::Device("lost".into())), 1);
        assert_eq!(exit_code(&anyhow::anyhow!("something else")), 1);
    }

    #[test]
    fn a_cause_is_told_once() {
        let io = std::io::Error::other("no space");
        let error = anyhow::Error::from(Error::io("write", "x.json")(io)).context("saving the chat");
        assert_eq!(message(&error), "saving the chat: cannot write x.json: no space");
    }
}

//! `secateur chat`: a conversation in the terminal, or driven by a pipe, line by line.
//!
//! Stdout carries the answers, everything else goes to stderr. On a terminal an error of one turn is told and the chat
//! goes on; in a pipe nobody would notice, so there it ends the run.

mod command;
mod conversation;

use super::answer::{prefill_warning, summary};
use super::input::{MAX_INPUT, check_input};
use super::interrupt::{self, Work};
use super::knowledge::KnowledgeOptions;
use super::load::{Loaded, Opened};
use super::options::{ModelOptions, PruneOptions, SamplingOptions};
use super::output::{JsonOption, JsonSink, check_writable, note, print, say};
use super::pull;
use anyhow::Result;
use clap::Args;
use command::{Command, HELP};
use conversation::{Conversation, Settings};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use secateur::Error;
use secateur::config::{Method, SamplingConfig};
use secateur::engine::needs::Purpose;
use secateur::model::catalogue::Catalogue;
use secateur::model::pull::{models_dir, resolve};
use secateur::protocol::Stop;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tokens of the context where `--context` is not given, as far as the model allows.
const CONTEXT: usize = 4096;

/// Arguments of `secateur chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Longest answer, in tokens
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1024)]
    max_tokens: usize,
    /// Slots for the whole conversation, in tokens [default: 4096, or what the model was trained on]
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Seed of the draw [default: another one every time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    prune: PruneOptions,
    #[command(flatten)]
    knowledge: KnowledgeOptions,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    json: JsonOption,
}

/// What the loop does next.
enum Flow {
    Go,
    /// Ctrl-C stopped an answer.
    Interrupted,
    Quit,
}

/// Opens the model and talks until the user leaves.
pub fn run(args: ChatArgs) -> Result<()> {
    let settings = Settings {
        prune: args.prune.config(Method::Pp)?,
        sampling: args.sampling.config(SamplingConfig {
            temperature: 0.2,
            repetition_penalty: 1.1,
            seed: args.seed.unwrap_or_else(any_seed),
            ..SamplingConfig::default()
        })?,
        max_tokens: args.max_tokens,
    };
    let json = args.json.open()?;
    let interactive = std::io::stdin().is_terminal();
    if interactive {
        offer_to_pull(&args.model.model)?;
    }
    let opened = Opened::open(&args.model)?;
    let context = opened.context(args.context, CONTEXT)?;
    let template = opened.template()?;
    let prepared = args.knowledge.prepare_talk(&opened, &args.prune, &settings.prune)?;
    let purpose = Purpose { context, prune: &settings.prune, live: false };
    let loaded = opened.load_for(&args.model, Some(purpose))?;
    let known = prepared.finish(&opened, &loaded.engine)?.knowledge;
    interrupt::install()?;
    let mut conversation = Conversation::new(&opened, &loaded.engine, (template, known), settings, context)?;
    conversation.set_system(args.system.clone());
    greet(&opened, &loaded, &conversation, interactive);
    converse(&mut conversation, &json, interactive)?;
    json.write(&conversation.transcript())
}

fn converse(conversation: &mut Conversation<'_>, json: &JsonSink, interactive: bool) -> Result<()> {
    let mut input = Input::open(interactive)?;
    let mut interrupted = false;
    while let Some(line) = input.next(interrupted)? {
        interrupted = false;
        match step(conversation, line.trim(), json) {
            Ok(Flow::Go) => {}
            Ok(Flow::Interrupted) => interrupted = true,
            Ok(Flow::Quit) => break,
            // A turn that is the user's fault (a context that is full, a file that cannot be written) leaves the chat
            // sound.
            Err(error) if interactive && error.downcast_ref::<Error>().is_some_and(Error::is_user_fault) => {
                say(&format!("error: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn step(conversation: &mut Conversation<'_>, line: &str, json: &JsonSink) -> Result<Flow> {
    match Command::parse(line)? {
        Command::Nothing => {}
        Command::Say(text) => return turn(conversation, Some(text), json),
        Command::Retry => return turn(conversation, None, json),
        Command::Help => say(HELP),
        Command::Clear => {
            conversation.clear()?;
            say("The conversation is empty.");
        }
        Command::Ratio(ratio) => {
            let method = if ratio > 0.0 { conversation.pruning_method() } else { Method::Dense };
            conversation.set_pruning(method, ratio)?;
            say(&conversation.pruning());
        }
        Command::Method(method) => {
            conversation.set_pruning(method, conversation.ratio_for(method))?;
            say(&conversation.pruning());
        }
        Command::System(text) => {
            let gone = text.is_empty();
            conversation.set_system((!gone).then_some(text));
            say(if gone { "The system message is gone." } else { "The system message is set." });
        }
        Command::Stats => say(&conversation.stats()),
        Command::Save(path) => {
            check_writable(&path)?;
            conversation.save(&path)?;
            say(&format!("Saved as {}.", path.display()));
        }
        Command::Quit => return Ok(Flow::Quit),
    }
    Ok(Flow::Go)
}

/// One answer: to `text`, or another one to the last question.
fn turn(conversation: &mut Conversation<'_>, text: Option<String>, json: &JsonSink) -> Result<Flow> {
    let to_stderr = json.takes_stdout();
    let mut emit = |piece: &str| match to_stderr {
        false => print(piece),
        true => {
            let mut stderr = std::io::stderr().lock();
            stderr.write_all(piece.as_bytes()).and_then(|()| stderr.flush()).map_err(Error::io("write", "stderr"))
        }
    };
    let work = Work::start();
    let made = match text {
        Some(text) => conversation.say(text, &mut emit, &|| work.asked_to_stop())?,
        None => conversation.retry(&mut emit, &|| work.asked_to_stop())?,
    };
    drop(work);
    emit("\n")?;
    if let Some(warning) = prefill_warning(&made) {
        note(&warning);
    }
    if let Some(remark) = made.stop.and_then(|stop| conversation.remark(stop)) {
        note(&remark);
    }
    say(&format!("[{}]", summary(&made)));
    Ok(if made.stop == Some(Stop::Stopped) { Flow::Interrupted } else { Flow::Go })
}

fn greet(opened: &Opened, loaded: &Loaded, conversation: &Conversation<'_>, interactive: bool) {
    let info = loaded.engine.gpu().info();
    say(&format!("{} on {} ({}), loaded in {:.1} s", opened.title(), info.name, info.backend, loaded.seconds));
    say(&conversation.pruning());
    if interactive {
        say("Type /help for commands; Ctrl-C stops an answer.");
    }
}

/// Where lines come from.
enum Input {
    Terminal { editor: Box<DefaultEditor>, asked_to_leave: bool },
    Pipe,
}

impl Input {
    fn open(interactive: bool) -> Result<Input> {
        match interactive {
            true => Ok(Input::Terminal { editor: Box::new(DefaultEditor::new()?), asked_to_leave: false }),
            false => Ok(Input::Pipe),
        }
    }

    /// The next line; `None` at the end, and at the second Ctrl-C in a row (`interrupted`: the first stopped an
    /// answer).
    fn next(&mut self, interrupted: bool) -> Result<Option<String>> {
        let Input::Terminal { editor, asked_to_leave } = self else {
            let mut line = String::new();
            let stdin = std::io::stdin().lock();
            let read = stdin.take(MAX_INPUT + 1).read_line(&mut line).map_err(Error::io("read", "stdin"))?;
            check_input(read)?;
            return Ok((read > 0).then_some(line));
        };
        *asked_to_leave = interrupted;
        loop {
            match editor.readline("> ") {
                Ok(line) => {
                    // Only fails where a history has a limit of none.
                    let _ = editor.add_history_entry(&line);
                    return Ok(Some(line));
                }
                Err(ReadlineError::Interrupted) if !*asked_to_leave => {
                    *asked_to_leave = true;
                    say("Ctrl-C once more, or /quit, leaves.");
                }
                Err(ReadlineError::Interrupted | ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Asks whether to pull a model of the catalogue that is not here yet.
fn offer_to_pull(model: &str) -> Result<()> {
    if resolve(model, &models_dir()?).is_ok() {
        return Ok(());
    }
    let catalogue = Catalogue::builtin()?;
    let Some(entry) = catalogue.find(model) else { return Ok(()) };
    let mut stderr = std::io::stderr();
    write!(stderr, "{} is not here yet. Pull it now ({} MB)? [Y/n] ", entry.title, entry.bytes / 1_000_000)?;
    stderr.flush()?;
    let mut reply = String::new();
    std::io::stdin().lock().read_line(&mut reply).map_err(Error::io("read", "stdin"))?;
    if matches!(reply.trim().to_lowercase().as_str(), "" | "y" | "yes") {
        pull::fetch(entry)?;
    }
    Ok(())
}

/// A seed that differs from run to run; it is shown, so that a run can be repeated.
fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| (since.as_nanos() & 0xffff_ffff) as u64)
}

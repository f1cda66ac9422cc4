//! `secateur eval`: quality on data.

mod continuation;
mod perplexity;
mod pull;
mod table;
mod tasks;

use super::knowledge::KnowledgeOptions;
use super::output::note;
use anyhow::Result;
use clap::Subcommand;
use secateur::config::{HistoryKind, Method, PruneConfig};

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Perplexity of a text, dense or pruned
    ///
    /// The text is joined, tokenised once with no special token added, and cut into consecutive chunks; every token of
    /// a chunk but its first is scored. Runs dense unless --ratio or --method is given.
    Perplexity(perplexity::PerplexityArgs),
    /// Perplexity of true continuations, decoded as a chat decodes
    ///
    /// The text is cut into passages; each begins with a prompt, and the tokens that follow it are decoded one by one, with
    /// whatever units the method keeps for them. Runs dense unless --ratio or --method is given.
    Continuation(continuation::ContinuationArgs),
    /// Accuracy on questions with given answers, dense or pruned
    ///
    /// BoolQ, PIQA, HellaSwag, WinoGrande, ARC and OpenBookQA, with the prompts, cuts and metrics of EleutherAI's
    /// lm-evaluation-harness. The answer that the model finds likeliest is its answer: `acc` takes the log likelihood of
    /// the whole answer, `acc_norm` that by character. Runs dense unless --ratio or --method is given.
    Tasks(tasks::TasksArgs),
    /// Download data sets: those of the tasks, WikiText-2 and C4
    ///
    /// Each is one file of the Hugging Face hub (HF_ENDPOINT names another) at a fixed commit, kept in the folder `data`
    /// beside that of the models (SECATEUR_DATA names another). What comes is held against the size and the SHA-256 that
    /// the hub names for that commit; of files for which it names no SHA-256, against the size alone. --data takes the
    /// names of what has been pulled.
    Pull(pull::PullArgs),
    /// Methods by ratios by data sets in one run: quality, runtime, FLOPs, and what quality each saving costs
    ///
    /// For every batch all methods run in turn, so that their times compare. Every batch is logged at once: a run that was
    /// interrupted goes on with --resume. The file of --spec is TOML or JSON; its names are those of the options here with
    /// `_` for `-`, `tasks = [{ name, data }]`, `options = { .. }` for all methods, and `methods` may hold
    /// `{ method, name, ratios, .. }` with options of their own beside plain names. Its options of pruning win over those
    /// given here.
    Table(Box<table::TableArgs>),
}

/// Runs an evaluation.
pub fn run(command: &EvalCommand) -> Result<()> {
    match command {
        EvalCommand::Perplexity(args) => perplexity::run(args),
        EvalCommand::Continuation(args) => continuation::run(args),
        EvalCommand::Tasks(args) => tasks::run(args),
        EvalCommand::Pull(args) => pull::run(args),
        EvalCommand::Table(args) => table::run(args),
    }
}

/// Says what Probe Pruning remembers, where that is not what a reader would expect.
fn remark(knowledge: &KnowledgeOptions, prune: &PruneConfig) {
    if prune.method != Method::Pp || knowledge.calibration.is_some() {
        return;
    }
    note(match prune.history {
        HistoryKind::Off => "Probe Pruning runs without history",
        _ => "no --calibration: Probe Pruning starts without history, which then follows the batches",
    });
}

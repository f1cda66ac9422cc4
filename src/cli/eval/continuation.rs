//! `secateur eval continuation`: what pruning costs an answer.

use crate::cli::answer::removed;
use crate::cli::knowledge::KnowledgeOptions;
use crate::cli::load::{Opened, data_file};
use crate::cli::options::{ModelOptions, PruneOptions, positive};
use crate::cli::output::{JsonOption, note, print};
use crate::cli::progress::{Unit, bar};
use anyhow::Result;
use clap::Args;
use secateur::config::Method;
use secateur::eval::continuation::{self, ContinuationOptions};
use secateur::eval::data::TextData;
use secateur::eval::report::{ContinuationCircumstances, ContinuationReport};
use std::path::PathBuf;

/// Arguments of `secateur eval continuation`.
#[derive(Debug, Args)]
pub struct ContinuationArgs {
    /// The text: any UTF-8 file, or .jsonl with a field `text` (rows are joined by a blank line)
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Tokens of a prompt
    #[arg(long, value_name = "T", default_value_t = 128, value_parser = positive)]
    prompt_tokens: usize,
    /// Tokens of the continuation behind it
    #[arg(long, value_name = "T", default_value_t = 64, value_parser = positive)]
    answer_tokens: usize,
    /// Passages: consecutive pieces of the text
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    passages: usize,
    /// Leave out the first N passages
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    prune: PruneOptions,
    #[command(flatten)]
    knowledge: KnowledgeOptions,
    #[command(flatten)]
    json: JsonOption,
}

/// Scores.
pub fn run(args: &ContinuationArgs) -> Result<()> {
    let prune = args.prune.config(Method::Dense)?;
    let json = args.json.open()?;
    let opened = Opened::open(&args.model)?;
    let data = TextData::read(&data_file(&args.data)?, None)?;
    let length = args.prompt_tokens.saturating_add(args.answer_tokens);
    let wanted = args.skip.saturating_add(args.passages);
    let mut chunks = data.chunks(&opened.tokenizer, length, wanted)?;
    let passages = chunks.ids.split_off(args.skip.min(chunks.ids.len()));
    if passages.len() < args.passages {
        note(&format!(
            "the text is enough for {} of the {} passages of {length} tokens",
            passages.len(),
            args.passages
        ));
    }
    let model = opened.record()?;
    let sha256 = model.model_sha256.clone();
    let prepared = args.knowledge.prepare(&opened, &sha256, (&args.prune, &[&prune]), (8, length))?;
    let loaded = opened.load(&args.model)?;
    let known = prepared.finish(&opened, &loaded.engine)?;
    let options = ContinuationOptions { prompt_tokens: args.prompt_tokens, answer_tokens: args.answer_tokens, prune };
    let bar = bar("scoring", passages.len() as u64, Unit::Steps);
    let continued = continuation::run(&loaded.engine, &options, &passages, &known.knowledge, &mut |done| {
        bar.set_position(done as u64);
        Ok(())
    });
    bar.finish_and_clear();
    let continued = continued?;
    let circumstances = ContinuationCircumstances {
        model,
        device: loaded.record(),
        calibration: known.record,
        seconds_load: loaded.seconds,
        skipped: args.skip,
    };
    let report = ContinuationReport::new(&options, &continued, &data, circumstances);
    if !json.takes_stdout() {
        print(&format!(
            "perplexity {:.3} (nll {:.5} over {} tokens: {} passages of {} behind {})\nmethod     {}, ratio {}, FLOPs of the answers: {}\nspeed      prompts {:.1} tokens/s, answers {:.1} tokens/s\n",
            report.perplexity,
            report.nll,
            report.tokens,
            report.passages,
            report.answer_tokens,
            report.prompt_tokens,
            report.method.name(),
            report.ratio,
            removed(continued.flops_answer),
            report.prompt_tokens_per_second,
            report.answer_tokens_per_second,
        ))?;
    }
    json.write(&report)
}

//! `secateur eval perplexity`: how well a text is predicted.

use super::remark;
use crate::cli::answer::removed;
use crate::cli::knowledge::KnowledgeOptions;
use crate::cli::load::{Loaded, Opened, data_file};
use crate::cli::options::{ModelOptions, PruneOptions, positive};
use crate::cli::output::{JsonOption, check_writable, note, print};
use crate::cli::progress::{Unit, bar};
use anyhow::Result;
use clap::Args;
use indicatif::ProgressBar;
use secateur::config::{Method, ModelConfig};
use secateur::eval::data::TextData;
use secateur::eval::perplexity::{self, Observer, Outcome, PerplexityOptions};
use secateur::eval::report::{Circumstances, PerplexityReport};
use secateur::prune::masks_file::{FORMAT, MasksHeader, MasksWriter};
use secateur::prune::{Plan, ProbeTrace};
use std::path::PathBuf;

/// Arguments of `secateur eval perplexity`.
#[derive(Debug, Args)]
pub struct PerplexityArgs {
    /// The text: any UTF-8 file, or rows with a field `text`, which are joined by a blank line (.jsonl, .json or .parquet);
    /// each may be packed (.gz)
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Use only the first N characters of the text
    #[arg(long, value_name = "N")]
    max_chars: Option<usize>,
    /// Tokens of a chunk
    #[arg(long, value_name = "T", default_value_t = 256)]
    seq_len: usize,
    /// Chunks of a batch
    #[arg(long, value_name = "B", default_value_t = 10, value_parser = positive)]
    batch: usize,
    /// Batches to run
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = positive)]
    batches: usize,
    /// Write every batch's kept units to FILE, as JSON lines
    #[arg(long, value_name = "FILE")]
    masks: Option<PathBuf>,
    /// Recorded in the result; nothing here is drawn at random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    prune: PruneOptions,
    #[command(flatten)]
    knowledge: KnowledgeOptions,
    #[command(flatten)]
    json: JsonOption,
}

/// Scores a text.
pub fn run(args: &PerplexityArgs) -> Result<()> {
    let options =
        PerplexityOptions { seq_len: args.seq_len, batch: args.batch, prune: args.prune.batch_config(Method::Dense)? };
    let json = args.json.open()?;
    if let Some(path) = &args.masks {
        check_writable(path)?;
    }
    let opened = Opened::open(&args.model)?;
    let data = TextData::read(&data_file(&args.data)?, args.max_chars)?;
    let wanted = args.batch.saturating_mul(args.batches);
    let chunks = data.chunks(&opened.tokenizer, args.seq_len, wanted)?;
    if chunks.ids.len() < wanted {
        note(&format!(
            "the text has {} tokens, enough for {} of the {wanted} chunks of {}: those are run",
            chunks.tokens,
            chunks.ids.len(),
            args.seq_len
        ));
    }
    let model = opened.record()?;
    let shape = (args.batch, args.seq_len);
    let sha256 = model.model_sha256.clone();
    let prepared = args.knowledge.prepare(&opened, &sha256, (&args.prune, &[&options.prune]), shape)?;
    remark(&args.knowledge, &options.prune);
    let mut watch = Watch { bar: None, masks: None };
    if let Some(path) = &args.masks {
        let mut masks = MasksWriter::create(path)?;
        masks.header(&header(&opened.files.config, &options, (&model.model_sha256, &data.sha256)))?;
        watch.masks = Some(masks);
    }
    let loaded = opened.load(&args.model)?;
    let known = prepared.finish(&opened, &loaded.engine)?;
    let outcome = perplexity::run(&loaded.engine, &options, &chunks.ids, &known.knowledge, &mut watch);
    watch.finish();
    let outcome = outcome?;
    let circumstances = Circumstances {
        model,
        device: loaded.record(),
        calibration: known.record,
        batches_asked: args.batches,
        seconds_load: loaded.seconds,
        seconds_calibration: known.seconds,
        seed: args.seed,
    };
    let report = PerplexityReport::new(&options, &outcome, (&data, &chunks), circumstances);
    if !json.takes_stdout() {
        print(&describe(&report, &outcome, &loaded))?;
    }
    json.write(&report)
}

fn header(model: &ModelConfig, options: &PerplexityOptions, (model_sha256, data_sha256): (&str, &str)) -> MasksHeader {
    if options.prune.method == Method::Dense || !Plan::new(model, &options.prune).prunes() {
        note("nothing is pruned: the file of --masks will hold its header alone");
    } else if options.prune.method.is_static() {
        note(
            "no probe chooses by batch: the file of --masks will hold its header alone; `secateur masks` writes these units",
        );
    }
    MasksHeader {
        format: FORMAT,
        model_sha256: model_sha256.to_string(),
        data_sha256: data_sha256.to_string(),
        layers: model.num_hidden_layers,
        heads: model.num_attention_heads,
        channels: model.intermediate_size,
        batch: options.batch,
        seq_len: options.seq_len,
        prune: options.prune.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
    }
}

fn describe(report: &PerplexityReport, outcome: &Outcome, loaded: &Loaded) -> String {
    let mut text = format!(
        "perplexity {:.3} (nll {:.5} over {} tokens: {} chunks of {} in {} batches)\n",
        report.perplexity, report.nll, report.tokens, report.chunks, report.seq_len, report.batches
    );
    text.push_str(&format!("method     {}", report.method.name()));
    if report.method != Method::Dense {
        text.push_str(&format!(", ratio {}, FLOPs of the layers: {}", report.ratio, removed(outcome.flops)));
    }
    text.push_str(&format!(
        "\nspeed      {:.1} tokens/s, {:.1} s (load {:.1} s, calibration {:.1} s) on {}\n",
        report.tokens_per_second,
        report.seconds,
        report.seconds_load,
        report.seconds_calibration,
        loaded.engine.gpu().info().name
    ));
    text
}

/// Draws progress and writes masks.
struct Watch {
    bar: Option<ProgressBar>,
    masks: Option<MasksWriter>,
}

impl Watch {
    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Watch {
    fn progress(&mut self, done: usize, total: usize) {
        self.bar.get_or_insert_with(|| bar("scoring", total as u64, Unit::Steps)).set_position(done as u64);
        tracing::info!(done, total, "progress");
    }

    fn wants_kept(&self) -> bool {
        self.masks.is_some()
    }

    fn kept(&mut self, batch: usize, layers: &[[Option<ProbeTrace>; 2]]) -> secateur::Result<()> {
        self.masks.as_mut().map_or(Ok(()), |masks| masks.batch(batch, layers))
    }
}

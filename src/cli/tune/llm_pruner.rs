//! `secateur tune llm-pruner`: units chosen by gradients, in a file.

use super::super::interrupt::{self, Work};
use super::super::knowledge::samples_of;
use super::super::load::{Opened, data_file};
use super::super::options::{ModelOptions, positive};
use super::super::output::{bytes, check_writable, note, print, write_whole};
use super::super::progress::{Unit, bar};
use super::{BackendOption, UnitOptions, kept_line};
use anyhow::Result;
use clap::{Args, ValueEnum};
use secateur::Error;
use secateur::config::{HistoryKind, PruneConfig};
use secateur::eval::calibrate::CalibrateOptions;
use secateur::eval::data::TextData;
use secateur::prune::{Origin, statics};
use secateur::tune::{self, Options, Reduction, Taylor};
use std::path::PathBuf;
use std::time::Instant;

/// What made the file.
const NAME: &str = "llm-pruner";

/// Names of expansions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum TaylorName {
    /// First order, of a row or column as one vector: |sum w g|
    Vectorize,
    /// First order, element by element: sum |w g|
    ParamFirst,
    /// Second order alone: sum |w F w|
    ParamSecond,
    /// Both: sum |w g - w F w / 2|
    ParamMix,
}

/// Names of reductions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReductionName {
    /// Their sum
    Sum,
    /// The largest
    Max,
    /// Their product
    Prod,
}

/// Arguments of `secateur tune llm-pruner`.
#[derive(Debug, Args)]
pub struct LlmPrunerArgs {
    /// The text: any UTF-8 file, .jsonl with a field `text`, or the name of a pulled data set
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Samples: chunks of the text
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive)]
    samples: usize,
    /// Tokens of a sample
    #[arg(long, value_name = "T", default_value_t = 64)]
    seq_len: usize,
    /// Draw the samples from the whole text by this seed [default: take the first]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    units: UnitOptions,
    /// How important a weight w is, by its gradient g and the mean square F of the samples' gradients
    #[arg(long, value_enum, default_value_t = TaylorName::ParamFirst)]
    taylor: TaylorName,
    /// How the matrices of a unit become one number
    #[arg(long, value_enum, default_value_t = ReductionName::Sum)]
    reduction: ReductionName,
    /// The first layers that are never pruned
    #[arg(long, value_name = "LAYERS", default_value_t = 4)]
    dense_layers: usize,
    /// The last layers that are never pruned
    #[arg(long, value_name = "LAYERS", default_value_t = 1)]
    dense_last_layers: usize,
    /// Where to
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write the importance of every head and channel to FILE as well, as JSON
    #[arg(long, value_name = "FILE")]
    importance: Option<PathBuf>,
    #[command(flatten)]
    backend: BackendOption,
    #[command(flatten)]
    model: ModelOptions,
}

impl LlmPrunerArgs {
    /// How units are judged.
    fn options(&self, prune: &PruneConfig, layers: usize) -> Options {
        Options {
            taylor: match self.taylor {
                TaylorName::Vectorize => Taylor::Vectorize,
                TaylorName::ParamFirst => Taylor::ParamFirst,
                TaylorName::ParamSecond => Taylor::ParamSecond,
                TaylorName::ParamMix => Taylor::ParamMix,
            },
            reduction: match self.reduction {
                ReductionName::Sum => Reduction::Sum,
                ReductionName::Max => Reduction::Max,
                ReductionName::Prod => Reduction::Prod,
            },
            whole_groups: self.units.whole_groups,
            layers: prune.pruned_layers(layers),
        }
    }
}

/// Judges, chooses and writes.
pub fn run(args: &LlmPrunerArgs) -> Result<()> {
    let prune = args.units.prune((args.dense_layers, args.dense_last_layers));
    prune.validate()?;
    let opened = Opened::open(&args.model)?;
    let config = &opened.files.config;
    let options = args.options(&prune, config.num_hidden_layers);
    tune::check_model(config)?;
    super::check(&prune, config)?;
    for path in [Some(&args.out), args.importance.as_ref()].into_iter().flatten() {
        check_writable(path)?;
    }
    let data = TextData::read(&data_file(&args.data)?, None)?;
    let chunks = CalibrateOptions {
        samples: args.samples,
        seq_len: args.seq_len,
        batch: 1,
        seed: args.seed,
        positions: HistoryKind::Off,
    };
    let samples = samples_of(&data, &opened, &chunks)?;
    tune::check_samples(config, &samples)?;
    let processor = args.backend.open(&args.model)?;
    let needed = tune::needed_bytes(config, (samples.len(), args.seq_len), options.layers.start, options.taylor);
    let free = processor.memory_available().map_or_else(String::new, |free| format!(" of {} free", bytes(free)));
    note(&format!("this needs about {}{free}, on {}", bytes(needed), processor.name()));
    tune::check_memory(
        &processor,
        needed,
        "free memory in bytes; use fewer --samples, a smaller --seq-len or a smaller model",
    )?;
    let sha256 = opened.files.sha256()?;

    interrupt::install()?;
    let (work, bar, started) = (Work::start(), bar(NAME, 1, Unit::Steps), Instant::now());
    let importance = tune::importance(&opened.files, &processor, &samples, &options, &mut |step| {
        bar.set_length(step.total as u64);
        bar.set_position(step.done as u64);
        if let Some(loss) = step.loss {
            bar.set_message(format!("{NAME}, loss {loss:.3}"));
        }
        if work.asked_to_stop() { Err(Error::Cancelled) } else { Ok(()) }
    });
    bar.finish_and_clear();
    let importance = importance?;
    let mut origin = Origin::of_method(&sha256, &prune, Some((data.path.display().to_string(), data.sha256.clone())));
    origin.made_by = NAME.into();
    origin.settings = Some(serde_json::json!({
        "taylor": options.taylor,
        "reduction": options.reduction,
        "samples": samples.len(),
        "seq_len": args.seq_len,
        "seed": args.seed,
        "loss": importance.loss,
        "backend": processor.backend(),
    }));
    let units = statics::by_scores(config, &prune, &importance.layers, origin)?;
    if let Some(path) = &args.importance {
        write_whole(path, &serde_json::to_string(&importance)?)?;
    }
    units.save(&args.out)?;
    print(&kept_line(&args.out, NAME, prune.ratio, &units.plan(config)))?;
    note(&format!(
        "loss {:.4} over {} samples of {} tokens, {:.1} s on {} ({})",
        importance.loss,
        samples.len(),
        args.seq_len,
        started.elapsed().as_secs_f64(),
        processor.name(),
        processor.backend().name()
    ));
    Ok(())
}

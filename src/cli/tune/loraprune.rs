//! `secateur tune loraprune`: units dropped step by step while factors learn.

use super::super::load::Opened;
use super::super::options::ModelOptions;
use super::super::output::{check_writable, print};
use super::train::{self, Defaults, TrainArgs};
use super::{BackendOption, UnitOptions, kept_line};
use anyhow::Result;
use clap::Args;
use secateur::Error;
use secateur::prune::Origin;
use secateur::tune::{self, Gradual, Training, Units};
use std::path::PathBuf;

/// What made the file.
const NAME: &str = "loraprune";
/// As the method's code has them.
const DEFAULTS: Defaults = Defaults { batch: 128, learning_rate: 3e-4, targets: 4 };

/// Arguments of `secateur tune loraprune`.
#[derive(Debug, Args)]
pub struct LoraPruneArgs {
    #[command(flatten)]
    units: UnitOptions,
    /// The first layers that are never pruned [default: a tenth of all]
    #[arg(long, value_name = "LAYERS")]
    dense_layers: Option<usize>,
    /// The last layers that are never pruned
    #[arg(long, value_name = "LAYERS", default_value_t = 1)]
    dense_last_layers: usize,
    /// Choose units every N steps
    #[arg(long, value_name = "N", default_value_t = 10)]
    prune_every: usize,
    /// Share of the steps before the first units go
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, allow_negative_numbers = true)]
    prune_warmup: f64,
    /// Share of the steps after the last have gone
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, allow_negative_numbers = true)]
    prune_cooldown: f64,
    /// Where the units go to; they run with --masks-in, without the adapter as well
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Folder for the adapter, in PEFT's form; a run that is cut short lies there too
    #[arg(long, value_name = "FOLDER")]
    adapter: PathBuf,
    #[command(flatten)]
    train: TrainArgs,
    #[command(flatten)]
    backend: BackendOption,
    #[command(flatten)]
    model: ModelOptions,
}

/// Trains, drops and writes.
pub fn run(args: &LoraPruneArgs) -> Result<()> {
    args.units.prune((0, 0)).validate()?;
    super::refuse_adapter(&args.model)?;
    let opened = Opened::open(&args.model)?;
    let config = &opened.files.config;
    tune::check_model(config)?;
    let first = args.dense_layers.unwrap_or(config.num_hidden_layers / 10);
    let prune = args.units.prune((first, args.dense_last_layers));
    super::check(&prune, config)?;
    let gradual = Gradual {
        prune: prune.clone(),
        every: args.prune_every,
        warmup: args.prune_warmup,
        cooldown: args.prune_cooldown,
    };
    gradual.validate()?;
    let sha256 = opened.files.sha256()?;
    let lessons = args.train.lessons(&opened)?;
    tune::check_training_samples(config, &lessons.samples)?;
    let options = args.train.options(lessons.samples.len(), &DEFAULTS)?;
    check_writable(&args.out)?;
    args.train.prepare_folder(&args.adapter)?;
    let processor = args.backend.open(&args.model)?;
    args.train.check_memory(&opened, &processor, (&options, &lessons), true)?;

    train::install()?;
    lessons.announce(&options);
    let settings = serde_json::json!({ "training": options, "gradual": gradual });
    let mut training = Training::new(&opened.files, &processor, lessons.samples, options, Units::Fewer(gradual))?;
    args.train.run(NAME, &args.adapter, &mut training)?;
    let mut units = training.kept().cloned().ok_or_else(|| Error::Internal("a whole run dropped nothing".into()))?;
    let data = Some((lessons.data.display().to_string(), lessons.sha256));
    units.origin = Origin::of_method(&sha256, &prune, data);
    units.origin.made_by = NAME.into();
    units.origin.settings = Some(settings);
    let adapter = training.adapter()?;
    units.save(&args.out)?;
    adapter.save(&args.adapter, &opened.name, &sha256)?;
    args.train.finish(&args.adapter);
    print(&kept_line(&args.out, NAME, prune.ratio, &units.plan(config)))?;
    print(&train::adapter_line(&args.adapter, &adapter, &training))?;
    Ok(())
}

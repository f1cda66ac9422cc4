//! `secateur tune lora`: factors that make up for dropped units.

use super::super::load::Opened;
use super::super::options::ModelOptions;
use super::super::output::print;
use super::BackendOption;
use super::train::{self, Defaults, TrainArgs};
use anyhow::Result;
use clap::Args;
use secateur::prune::UnitSets;
use secateur::tune::{self, Training, Units};
use std::path::PathBuf;

/// As LLM-Pruner's recovery has them.
const DEFAULTS: Defaults = Defaults { batch: 64, learning_rate: 1e-4, targets: 7 };

/// Arguments of `secateur tune lora`.
#[derive(Debug, Args)]
pub struct LoraArgs {
    /// Units that run while the factors learn, as `tune llm-pruner` or `masks` wrote them [default: all]
    #[arg(long, value_name = "FILE")]
    masks_in: Option<PathBuf>,
    /// Folder for the adapter, in PEFT's form; a run that is cut short lies there too
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    #[command(flatten)]
    train: TrainArgs,
    #[command(flatten)]
    backend: BackendOption,
    #[command(flatten)]
    model: ModelOptions,
}

/// Trains and writes.
pub fn run(args: &LoraArgs) -> Result<()> {
    super::refuse_adapter(&args.model)?;
    let opened = Opened::open(&args.model)?;
    let config = &opened.files.config;
    tune::check_model(config)?;
    let sha256 = opened.files.sha256()?;
    let units = match &args.masks_in {
        Some(path) => Units::Fixed(UnitSets::open(path, config, &sha256)?),
        None => Units::All,
    };
    let lessons = args.train.lessons(&opened)?;
    tune::check_training_samples(config, &lessons.samples)?;
    let options = args.train.options(lessons.samples.len(), &DEFAULTS)?;
    args.train.prepare_folder(&args.out)?;
    let processor = args.backend.open(&args.model)?;
    args.train.check_memory(&opened, &processor, (&options, &lessons), false)?;

    train::install()?;
    lessons.announce(&options);
    let mut training = Training::new(&opened.files, &processor, lessons.samples, options, units)?;
    args.train.run("lora", &args.out, &mut training)?;
    let adapter = training.adapter()?;
    adapter.save(&args.out, &opened.name, &sha256)?;
    args.train.finish(&args.out);
    print(&train::adapter_line(&args.out, &adapter, &training))?;
    Ok(())
}

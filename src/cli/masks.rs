//! `secateur masks`: the units that a static method keeps, in a file.

use super::knowledge::KnowledgeOptions;
use super::load::Opened;
use super::options::{ModelOptions, PruneOptions, positive};
use super::output::{check_writable, print};
use anyhow::Result;
use clap::Args;
use secateur::Error;
use secateur::config::Method;
use std::path::PathBuf;

/// Arguments of `secateur masks`.
#[derive(Debug, Args)]
pub struct MasksArgs {
    /// Where to
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Tokens of a sample, where --calibration is a text
    #[arg(long, value_name = "T", default_value_t = 256)]
    seq_len: usize,
    /// Samples of a pass
    #[arg(long, value_name = "B", default_value_t = 8, value_parser = positive)]
    batch: usize,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    prune: PruneOptions,
    #[command(flatten)]
    knowledge: KnowledgeOptions,
}

/// Chooses and writes.
pub fn run(args: &MasksArgs) -> Result<()> {
    let prune = args.prune.batch_config(Method::Flap)?;
    if !matches!(prune.method, Method::WandaSp | Method::Flap) {
        let method = prune.method.name();
        let what = format!("`{method}` has no units that hold for all inputs: use --method wanda-sp or flap");
        return Err(Error::Setting(what).into());
    }
    check_writable(&args.out)?;
    let opened = Opened::open(&args.model)?;
    let sha256 = opened.files.sha256()?;
    let shape = (args.batch, args.seq_len);
    let prepared = args.knowledge.prepare(&opened, &sha256, (&args.prune, &[&prune]), shape)?;
    let loaded = opened.load(&args.model)?;
    let known = prepared.finish(&opened, &loaded.engine)?;
    let units = loaded.engine.static_units(&prune, known.knowledge.calibration(&prune)?)?;
    units.save(&args.out)?;
    let plan = units.plan(&opened.files.config);
    let (heads, channels) =
        plan.layers.iter().fold((0, 0), |(heads, channels), layer| (heads + layer.heads, channels + layer.channels));
    let layers = plan.layers.len();
    let (all_heads, all_channels) = (plan.full().heads * layers, plan.full().channels * layers);
    Ok(print(&format!(
        "{}: {} at ratio {} keeps {heads} of {all_heads} heads and {channels} of {all_channels} channels\n",
        args.out.display(),
        prune.method.name(),
        prune.ratio
    ))?)
}

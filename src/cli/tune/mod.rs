//! `secateur tune`: what needs gradients.

mod llm_pruner;
mod lora;
mod loraprune;
mod merge;
mod train;

use super::options::{BlockName, ModelOptions};
use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use secateur::Error;
use secateur::config::{Method, ModelConfig, PruneBlocks, PruneConfig};
use secateur::gpu::Gpu;
use secateur::prune::{LayerPlan, Plan};
use secateur::tune::{Backend, Processor};
use std::path::Path;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum TuneCommand {
    /// Choose heads and channels as LLM-Pruner does, by gradients over a text
    ///
    /// A backward pass in burn says how much the loss depends on the weights of every unit, to the first or second order. The file
    /// runs with --masks-in wherever a model runs. Nothing is trained.
    LlmPruner(llm_pruner::LlmPrunerArgs),
    /// Train a LoRA adapter, to make up for units that were dropped
    ///
    /// The model's own weights stay as they are. The adapter runs with --lora wherever a model runs, beside --masks-in.
    Lora(lora::LoraArgs),
    /// Drop heads and channels step by step while a LoRA adapter is trained, as LoRAPrune does
    ///
    /// Units are judged by the adapter's factors and their gradients alone.
    Loraprune(loraprune::LoraPruneArgs),
    /// Add a LoRA adapter to a model's weights, as a Hugging Face folder
    Merge(merge::MergeArgs),
}

/// Runs one of them.
pub fn run(command: &TuneCommand) -> Result<()> {
    match command {
        TuneCommand::LlmPruner(args) => llm_pruner::run(args),
        TuneCommand::Lora(args) => lora::run(args),
        TuneCommand::Loraprune(args) => loraprune::run(args),
        TuneCommand::Merge(args) => merge::run(args),
    }
}

/// Refuses to train on top of an adapter: what is learnt would fit neither the model nor the model with the other one.
fn refuse_adapter(model: &ModelOptions) -> Result<(), Error> {
    match &model.lora {
        None => Ok(()),
        Some(lora) => {
            let lora = lora.display();
            let what = format!(
                "--lora {lora} cannot be trained on: `secateur tune merge --lora {lora}` makes a model of it first"
            );
            Err(Error::Setting(what))
        }
    }
}

/// How many units stay, and of which kind.
#[derive(Debug, Clone, Args)]
struct UnitOptions {
    /// Wished mean pruning ratio, in (0, 1)
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    ratio: f64,
    /// Keep or drop all query heads of a key/value head together, with its keys and values
    #[arg(long)]
    whole_groups: bool,
    /// What to prune [default: both]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "BLOCKS")]
    blocks: Option<Vec<BlockName>>,
    /// Kept channels are a multiple of this [default: 64]
    #[arg(long, value_name = "CHANNELS")]
    tile: Option<usize>,
}

impl UnitOptions {
    /// The settings, where so many of the first and the last layers stay dense.
    fn prune(&self, (dense_layers, dense_last_layers): (usize, usize)) -> PruneConfig {
        let base = PruneConfig::default();
        PruneConfig {
            method: Method::Masks,
            ratio: self.ratio,
            whole_groups: self.whole_groups,
            blocks: self.blocks.as_ref().map_or(base.blocks, |blocks| PruneBlocks {
                attention: blocks.contains(&BlockName::Attention),
                mlp: blocks.contains(&BlockName::Mlp),
            }),
            tile: self.tile.unwrap_or(base.tile),
            dense_layers,
            dense_last_layers,
            ..base
        }
    }
}

/// Refuses settings that leave nothing to do.
fn check(prune: &PruneConfig, config: &ModelConfig) -> Result<(), Error> {
    if Plan::new(config, prune).prunes() {
        return Ok(());
    }
    let what = format!(
        "--ratio {} prunes nothing of this model: {} layers, of which {} may be pruned, {} heads, {} channels in tiles of {}",
        prune.ratio,
        config.num_hidden_layers,
        prune.pruned_layers(config.num_hidden_layers).len(),
        config.num_attention_heads,
        config.intermediate_size,
        prune.tile
    );
    Err(Error::Setting(what))
}

/// What a file of units keeps, for people.
fn kept_line(path: &Path, name: &str, ratio: f64, plan: &Plan) -> String {
    let kept = |of: fn(&LayerPlan) -> usize| plan.layers.iter().map(of).sum::<usize>();
    let layers = plan.layers.len();
    format!(
        "{}: {name} at ratio {ratio} keeps {} of {} heads and {} of {} channels\n",
        path.display(),
        kept(|layer| layer.heads),
        plan.full().heads * layers,
        kept(|layer| layer.channels),
        plan.full().channels * layers
    )
}

/// Names of backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BackendName {
    /// burn's plain CPU code
    Cpu,
    /// burn's shaders, on the adapter of --device
    Wgpu,
}

/// Where gradients are computed.
#[derive(Debug, Clone, Args)]
struct BackendOption {
    /// Which of burn's backends computes gradients [default: wgpu on a GPU, cpu where the adapter is software]
    #[arg(long, value_enum)]
    backend: Option<BackendName>,
}

impl BackendOption {
    /// Opens what was asked for, or what suits the adapter. Where `--device` is left out and there is no adapter, the CPU.
    fn open(&self, model: &ModelOptions) -> Result<Processor> {
        if self.backend == Some(BackendName::Cpu) {
            return Ok(Processor::cpu());
        }
        let gpu = match Gpu::open(&model.gpu()) {
            Err(_) if self.backend.is_none() && model.device.is_none() => return Ok(Processor::cpu()),
            opened => opened?,
        };
        let backend = match self.backend {
            Some(_) => Backend::Wgpu,
            None => Backend::suited_to(Some(gpu.info())),
        };
        Ok(match backend {
            Backend::Cpu => Processor::cpu(),
            Backend::Wgpu => Processor::of_adapter(&gpu)?,
        })
    }
}

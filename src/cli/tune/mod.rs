//! `secateur tune`: what needs gradients.

mod llm_pruner;
mod merge;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use secateur::gpu::Gpu;
use secateur::tune::{Backend, Processor};

use super::options::ModelOptions;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum TuneCommand {
    /// Choose heads and channels as LLM-Pruner does, by gradients over a text
    ///
    /// A backward pass in burn says how much the loss depends on the weights of every unit, to the first or second order. The file
    /// runs with --masks-in wherever a model runs. Nothing is trained.
    LlmPruner(llm_pruner::LlmPrunerArgs),
    /// Add a LoRA adapter to a model's weights, as a Hugging Face folder
    Merge(merge::MergeArgs),
}

/// Runs one of them.
pub fn run(command: &TuneCommand) -> Result<()> {
    match command {
        TuneCommand::LlmPruner(args) => llm_pruner::run(args),
        TuneCommand::Merge(args) => merge::run(args),
    }
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

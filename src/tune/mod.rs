//! Pruning that needs gradients: a LLaMA run forwards and backwards in burn, and what follows for its units.
//!
//! Owns LLM-Pruner's backward pass ([`Passes`]) and importance ([`importance`]), the training of LoRA's factors ([`Training`]) with
//! LoRAPrune's importance and schedule ([`Gradual`]), its checkpoints, and the backends that all of it runs on ([`Processor`]).
//! Invariants: weights are those of the model's files, decoded to f32, and never change; how many units stay is `prune`'s plan;
//! memory is known before anything runs ([`needed_bytes`], [`training_bytes`]).

mod backward;
mod checkpoint;
mod export;
mod factors;
mod gradients;
mod importance;
mod memory;
mod network;
mod options;
mod processor;
mod score;
mod sensitivity;
mod taylor;
mod training;

pub use backward::{Passes, Step, check_samples};
pub use gradients::{LayerGradients, Wanted};
pub use importance::{Importance, Options, importance};
pub use memory::{check_memory, needed_bytes, training_bytes};
pub use network::Sample;
pub use options::{TARGETS, TrainOptions};
pub use processor::{Backend, Processor};
pub use sensitivity::Gradual;
pub use taylor::{Reduction, Taylor};
pub use training::{Trained, Training, Units, check_training_samples};

use crate::config::ModelConfig;
use crate::error::Result;
use crate::llama;

/// Refuses models whose blocks are not LLaMA's.
///
/// # Errors
/// [`crate::Error::Unsupported`] with the family's name.
pub fn check_model(config: &ModelConfig) -> Result<()> {
    llama::check_blocks(config)
}

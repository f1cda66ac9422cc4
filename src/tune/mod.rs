//! Pruning that needs gradients: a LLaMA run forwards and backwards in burn, and what follows for its units.
//!
//! Owns the backward pass ([`Passes`]), the backends that it runs on ([`Processor`]) and LLM-Pruner's importance of heads and
//! channels ([`importance`]). Invariants: weights are those of the model's files, decoded to f32; nothing here chooses units,
//! which is `prune`'s; memory is known before anything runs ([`needed_bytes`]).

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

//! The engine: token ids in, logits or likelihoods out. It knows no text.
//!
//! - [`Engine`] is a model on a device;
//! - [`Sequences`] generates: a key/value cache, prefill and decode, dense or pruned;
//! - [`Scorer`] evaluates batches: negative log likelihoods of given tokens, under any [`crate::prune::Selector`];
//! - [`Sampler`] draws the next token, on the device where that is faster.
//!
//! Invariant: one read-back a pass, of logits, likelihoods or the token drawn, after everything else is recorded.

mod forward;
mod head;
#[cfg(not(target_arch = "wasm32"))]
pub mod needs;
mod options;
mod sampler;
mod scorer;
mod sequences;
mod traffic;
mod workspace;

pub use options::{SequenceOptions, Watched};
pub use sampler::Sampler;
pub use scorer::{Scorer, Target};
pub use sequences::{CHUNK, Sequences};
pub use traffic::Traffic;

use crate::config::{ModelConfig, PruneConfig};
use crate::error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use crate::format::{Weight, WeightFormat};
use crate::gpu::{Buffer, Contents, Gpu};
use crate::kernels::Cache;
#[cfg(not(target_arch = "wasm32"))]
use crate::kernels::matrix;
#[cfg(not(target_arch = "wasm32"))]
use crate::kernels::shapes::{self, Sample, Shaped};
#[cfg(not(target_arch = "wasm32"))]
use crate::model::{LayerWeights, Mlp};
use crate::model::{ModelFiles, ModelWeights};
use crate::prune::{Calibration, Chooser, Knowledge, UnitSets, statics};
use std::sync::Arc;

/// A model on a device.
pub struct Engine {
    gpu: Arc<Gpu>,
    model: ModelWeights,
}

impl Engine {
    /// Uploads a model; `progress` hears the share done, 0 to 1, and ends the upload by an error.
    ///
    /// # Errors
    /// [`Error::ModelTooLarge`] for weights larger than the memory that is left, and those of [`ModelWeights::upload`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(gpu: Arc<Gpu>, files: &ModelFiles, progress: &mut dyn FnMut(f32) -> Result<()>) -> Result<Arc<Engine>> {
        needs::check(&gpu, files, None)?;
        let model = ModelWeights::upload(&gpu, files, progress)?;
        choose_shapes(&gpu, &model)?;
        Ok(Arc::new(Engine { gpu, model }))
    }

    /// Uploads a model where nothing can be waited for; `progress` as in `load`.
    ///
    /// # Errors
    /// As `load`.
    #[cfg(target_arch = "wasm32")]
    pub async fn load(
        gpu: Arc<Gpu>,
        files: &ModelFiles,
        progress: &mut dyn FnMut(f32) -> Result<()>,
    ) -> Result<Arc<Engine>> {
        let model = ModelWeights::fetch(&gpu, files, progress).await?;
        Ok(Arc::new(Engine { gpu, model }))
    }

    /// Makes a model of random weights of a shape, without a file; `progress` as in [`Engine::load`].
    ///
    /// # Errors
    /// [`Error::DeviceLimit`] for a model larger than the memory that is left, before anything is made, and those of
    /// [`ModelWeights::random`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn random(
        gpu: Arc<Gpu>,
        shape: &ModelConfig,
        format: WeightFormat,
        progress: &mut dyn FnMut(f32) -> Result<()>,
    ) -> Result<Arc<Engine>> {
        check_memory(ModelWeights::random_bytes(shape, format), gpu.memory_available(), &gpu.info().name)?;
        let model = ModelWeights::random(&gpu, shape, format, progress)?;
        choose_shapes(&gpu, &model)?;
        Ok(Arc::new(Engine { gpu, model }))
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// The model's weights.
    pub fn weights(&self) -> &ModelWeights {
        &self.model
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.model.config
    }

    /// A method prepared for batches of samples of up to `length` tokens.
    ///
    /// # Errors
    /// Those of [`Chooser::new`].
    pub fn chooser(&self, prune: &PruneConfig, known: &Knowledge, length: usize) -> Result<Chooser> {
        Chooser::new(&self.gpu, &self.model, prune, known, length)
    }

    /// The units that a static method keeps.
    ///
    /// # Errors
    /// Those of [`statics::choose`].
    pub fn static_units(&self, prune: &PruneConfig, calibration: &Calibration) -> Result<UnitSets> {
        statics::choose(&self.gpu, &self.model, prune, calibration)
    }

    fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocab = self.model.config.vocab_size;
        match ids.iter().find(|&&id| id as usize >= vocab) {
            Some(id) => Err(Error::Setting(format!("token id {id} is outside the model's vocabulary of {vocab}"))),
            None => Ok(()),
        }
    }
}

/// Keys and values of one layer, or of one layer at a time.
struct CacheBuffer {
    buffer: Buffer,
    capacity: usize,
}

impl CacheBuffer {
    /// For tokens that later passes look at as well.
    fn lasting(gpu: &Gpu, config: &ModelConfig, samples: usize, capacity: usize) -> Result<CacheBuffer> {
        let bytes = 4 * (samples * capacity * slot(config)) as u64;
        Ok(CacheBuffer { buffer: gpu.mirrored("key and value cache", Contents::Zeroed(bytes))?, capacity })
    }

    /// For those of a pass alone.
    fn passing(gpu: &Gpu, config: &ModelConfig, samples: usize, capacity: usize) -> Result<CacheBuffer> {
        let buffer = gpu.zeros("keys and values", samples * capacity * slot(config))?;
        Ok(CacheBuffer { buffer, capacity })
    }

    /// What a pass sees of it that writes slots from `fresh` on, with `filled` slots of a sample when it is through.
    fn view(&self, config: &ModelConfig, fresh: usize, filled: usize) -> Cache<'_> {
        Cache {
            buffer: &self.buffer,
            kv_heads: config.num_key_value_heads,
            capacity: self.capacity,
            fresh,
            filled,
            head_dim: config.head_dim,
        }
    }
}

/// Caches by layer as a pass sees them that appends `tokens` to sequences of so many.
fn views<'a>(caches: &'a [CacheBuffer], config: &ModelConfig, lengths: &[usize], tokens: usize) -> Vec<Cache<'a>> {
    let fresh = lengths.iter().min().copied().unwrap_or(0);
    let filled = lengths.iter().max().copied().unwrap_or(0) + tokens;
    caches.iter().map(|cache| cache.view(config, fresh, filled)).collect()
}

/// Words of a token in the cache of a layer.
fn slot(config: &ModelConfig) -> usize {
    Cache::slot(config.num_key_value_heads, config.head_dim)
}

#[cfg(not(target_arch = "wasm32"))]
/// Takes the kernel shapes that are fastest for this model on this device: measured once, where the device keeps such facts.
fn choose_shapes(gpu: &Gpu, model: &ModelWeights) -> Result<()> {
    let config = &model.config;
    let formats: Vec<&str> = model.layers.iter().take(1).flat_map(|layer| layer.formats()).collect();
    // A choice is an index: among other candidates it would be another shape.
    let candidates = Shaped::ALL.map(|shaped| shaped.candidates(gpu.tier()));
    let name = format!(
        "shapes|{}|{}|{}|{}|{formats:?}|{candidates:?}",
        env!("CARGO_PKG_VERSION"),
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads * config.head_dim,
    );
    let Some(known) = gpu.remembered(&name) else { return Ok(()) };
    let known: Option<[usize; 3]> = known.and_then(|text| serde_json::from_str(&text).ok());
    let layers = model.layers.iter();
    let layers: Vec<Sample<'_>> = layers
        .map(|LayerWeights { qkv, mlp, down, .. }| Sample {
            qkv,
            gate_up: match mlp {
                Mlp::SwiGlu { gate, up } => Some((gate, up)),
                Mlp::Relu { .. } => None,
            },
            down,
        })
        .collect();
    match known {
        Some(known) => Shaped::ALL.iter().zip(known).for_each(|(shaped, candidate)| shaped.choose(gpu, candidate)),
        None => {
            let chosen = shapes::measure(gpu, &layers)?;
            tracing::info!(?chosen, "kernel shapes measured");
            gpu.remember(&name, &format!("{chosen:?}"));
        }
    }
    choose_matrix_units(gpu, &layers, model.head(), &name)
}

/// Runs prompts on matrix units where they agree with the plain kernels and are faster, which is found out once for a model.
#[cfg(not(target_arch = "wasm32"))]
fn choose_matrix_units(gpu: &Gpu, layers: &[Sample<'_>], head: &Weight, model: &str) -> Result<()> {
    let Some(units) = gpu.matrix_units() else { return Ok(()) };
    let heads: Vec<&str> = head.shards.iter().take(1).map(|shard| shard.format.name()).collect();
    let name = format!("matrix|{model}|{heads:?}|{units}");
    let Some(known) = gpu.remembered(&name) else { return Ok(()) };
    let known: Option<matrix::Choice> = known.and_then(|text| serde_json::from_str(&text).ok());
    match known {
        Some(known) => matrix::apply(gpu, &known),
        None => {
            matrix::measure(gpu, layers, head)?;
            let chosen = matrix::choice(gpu);
            tracing::info!(?chosen, "matrix units measured");
            gpu.remember(&name, &serde_json::to_string(&chosen).unwrap_or_default());
        }
    }
    Ok(())
}

#[cfg(not(target_arch = "wasm32"))]
/// Refuses a model that the memory cannot hold, before the system starts to take it from other programs.
fn check_memory(needed: u64, available: Option<u64>, adapter: &str) -> Result<()> {
    match available {
        Some(available) if needed > available => Err(Error::DeviceLimit {
            what: "the model's weights".into(),
            needed,
            available,
            limit: "free memory in bytes; close other programs, or use a smaller model or weight format",
            adapter: adapter.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Refuses a batch that no pass can run: its rows are a grid dimension, and WebGPU allows 65,535.
///
/// # Errors
/// [`Error::Setting`] with the numbers.
pub fn check_rows(samples: usize, length: usize) -> Result<()> {
    match samples.checked_mul(length) {
        Some(0) => Err(Error::Setting("there is nothing to run: the batch has no token".into())),
        Some(rows) if rows <= 65_535 => Ok(()),
        _ => Err(Error::Setting(format!(
            "a batch of {samples} x {length} tokens exceeds the 65535 rows of a pass: use a smaller --batch or --seq-len"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_larger_than_the_free_memory_is_refused_with_both_sizes() {
        assert!(check_memory(100, Some(100), "gpu").is_ok());
        assert!(check_memory(100, None, "gpu").is_ok(), "where nobody knows, the device decides");
        let error = check_memory(101, Some(100), "gpu").unwrap_err().to_string();
        for part in ["weights", "101", "`gpu` allows 100", "smaller model"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

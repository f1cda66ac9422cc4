//! A dense LLaMA in [burn](https://burn.dev), a general tensor library, on its wgpu backend: what the same weights give
//! with the kernels that such a library brings along.
//!
//! It is written as its users would write it: its own modules and tensor operations, its fusion of elementwise operations
//! and its autotune, no kernel of ours. Every weight is decoded to f32 and everything is computed in f32, so it needs four
//! bytes a weight.
//!
//! Autotune runs while the first passes do: for every new kind of shape (sizes count by powers of two) it compiles and
//! times candidates, minutes in all on a software adapter. What it chose stays in memory until the process ends and is
//! kept nowhere else. So a measurement needs a round before it that does not count, over prompts and answers of the same
//! lengths. Whoever has a `burn.toml` or `cubecl.toml` in the working folder changes burn's settings by it.

mod device;
mod layers;

use self::layers::{Layer, Turns, embedding, linear, norm};
use crate::config::{Blocks, ModelConfig};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::model::{ModelFiles, TensorRole};
use burn::nn::{Embedding, Linear, RmsNorm};
use burn::tensor::module::linear as product;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One sequence of a dense model in burn.
pub struct BurnLlama {
    config: ModelConfig,
    device: Device,
    embedding: Embedding, // [vocab, H]
    layers: Vec<Layer>,
    output_norm: RmsNorm,
    output: Option<Linear>, // None = the embedding
    frequencies: Vec<f32>,  // [head_dim / 2], radians per position
    caches: Vec<Option<KeyValues>>,
    length: usize,
}

/// Keys and values of one layer so far, `[K, tokens, head_dim]` each.
type KeyValues = [Tensor<3>; 2];

impl BurnLlama {
    /// Decodes every tensor to f32 and uploads it to a device of burn's own, on the adapter that `gpu` runs on.
    ///
    /// burn panics where this program returns errors. Here and in the other functions what fails comes back as an error,
    /// but burn's own threads may have told standard error first. A process that gets no more memory from the system
    /// ends, which cannot be caught; checking the free memory beforehand makes that unlikely.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for blocks that are not LLaMA's, an adapter that burn cannot name or a tensor type that cannot
    /// be decoded, [`Error::DeviceLimit`] for a tensor larger than a binding or a model larger than the free memory,
    /// [`Error::TensorNotFinite`] for damaged values, [`Error::Device`] when burn or the driver fails.
    pub fn load(files: &ModelFiles, gpu: &Gpu) -> Result<BurnLlama> {
        if files.config.blocks != Blocks::default() {
            let (name, supported) = (files.config.family_name().to_owned(), "models with LLaMA's blocks".into());
            return Err(Error::Unsupported { what: "family in burn", name, supported });
        }
        check_sizes(files, gpu)?;
        let device = device::open(gpu.info())?;
        guarded("load the model", || {
            let config = files.config.clone();
            let embedding = embedding(files, &device)?;
            let layers = (0..config.num_hidden_layers)
                .map(|index| Layer::load(files, index, &device))
                .collect::<Result<Vec<Layer>>>()?;
            let output_norm = norm(files, TensorRole::OutputNorm, &device)?;
            let output = match config.tie_word_embeddings {
                true => None,
                false => Some(linear(files, TensorRole::Output, &device)?),
            };
            device.sync().map_err(failure)?;
            let caches = vec![None; config.num_hidden_layers];
            let frequencies = config.rope_frequencies();
            Ok(BurnLlama {
                config,
                device: device.clone(),
                embedding,
                layers,
                output_norm,
                output,
                frequencies,
                caches,
                length: 0,
            })
        })
    }

    /// Appends a prompt and returns the logits after its last token, `[vocab]`.
    ///
    /// # Errors
    /// [`Error::Setting`] for an empty prompt or an id outside the vocabulary, [`Error::PromptTooLong`] beyond the
    /// context that the model was trained for, [`Error::Device`] when burn or the driver fails: then load it anew.
    pub fn prefill(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let vocab = self.config.vocab_size;
        if ids.is_empty() {
            return Err(Error::Setting("there is nothing to run: the prompt has no token".into()));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::Setting(format!("token id {id} is outside the model's vocabulary of {vocab}")));
        }
        let (prompt_tokens, trained) = (self.length + ids.len(), self.config.max_position_embeddings);
        if prompt_tokens > trained {
            return Err(Error::PromptTooLong { prompt_tokens, context: trained, trained });
        }
        guarded("run the model", || {
            let logits = self.pass(ids).try_into_vec_as::<f32>().map_err(failure)?;
            self.length = prompt_tokens;
            Ok(logits)
        })
    }

    /// Appends one token and returns the logits after it, `[vocab]`.
    ///
    /// # Errors
    /// As [`BurnLlama::prefill`].
    pub fn step(&mut self, id: u32) -> Result<Vec<f32>> {
        self.prefill(&[id])
    }

    /// Forgets every token; what autotune chose stays.
    pub fn clear(&mut self) {
        self.caches.fill(None);
        self.length = 0;
    }

    /// Logits after the last of `ids`, `[1, vocab]`.
    fn pass(&mut self, ids: &[u32]) -> Tensor<2> {
        let tokens = ids.len();
        let turns = Turns::new(&self.config, &self.frequencies, (self.length, tokens), &self.device);
        // A single token sees everything; of several, each sees those before it.
        let hidden = (tokens > 1)
            .then(|| Tensor::<2, Bool>::tril_mask([tokens, self.length + tokens], self.length as i64, &self.device));
        let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, tokens]), &self.device);
        let mut x = self.embedding.forward(ids).squeeze_dim::<2>(0);
        for (layer, cache) in self.layers.iter().zip(&mut self.caches) {
            x = layer.forward(x, &self.config, &turns, hidden.clone(), cache);
        }
        let last = self.output_norm.forward(x.narrow(0, tokens - 1, 1));
        match &self.output {
            Some(output) => output.forward(last),
            None => product(last, self.embedding.weight.val().transpose(), None),
        }
    }
}

/// Refuses a model that burn could only fail to load, with the numbers.
fn check_sizes(files: &ModelFiles, gpu: &Gpu) -> Result<()> {
    let bytes = |rows: usize, cols: usize| (rows * cols * size_of::<f32>()) as u64;
    let refuse = |what: String, needed, available, limit| {
        Err(Error::DeviceLimit { what, needed, available, limit, adapter: gpu.info().name.clone() })
    };
    for view in files.tensors() {
        let (needed, available) = (bytes(view.rows, view.cols), gpu.info().max_binding_bytes);
        if needed > available {
            let what = format!("tensor `{}`, which burn holds as f32 in one piece,", view.name);
            return refuse(what, needed, available, "max_storage_buffer_binding_size");
        }
    }
    let needed = files.tensors().map(|view| bytes(view.rows, view.cols)).sum();
    match gpu.memory_available() {
        Some(available) if needed > available => {
            let limit = "free memory in bytes; close other programs, or use a smaller model";
            refuse("the model in burn, whose weights are f32 there,".into(), needed, available, limit)
        }
        _ => Ok(()),
    }
}

/// Turns a panic of burn's into an error.
fn guarded<T>(what: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        Err(Error::Device(format!("burn could not {what}: {}; see what it printed above", first_line(panic.as_ref()))))
    })
}

/// The first line of what a panic said; the rest is a backtrace.
fn first_line(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.and_then(|text| text.lines().next()).unwrap_or("it panicked without a word")
}

/// burn's own error on one line: it comes as a chain of causes, some twice, and a backtrace.
fn failure(error: impl Display) -> Error {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Backtrace"));
    let mut causes: Vec<&str> = lines.filter(|line| !line.is_empty() && *line != "Caused by:").collect();
    causes.dedup();
    Error::Device(format!("burn: {}", causes.join(": ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_one_error_with_its_first_line() {
        for (panics, says) in [
            ((|| panic!("out of {}\nbacktrace", "memory")) as fn() -> Result<()>, "out of memory;"),
            (|| panic!("lost"), "lost;"),
            (|| std::panic::panic_any(7), "without a word;"),
        ] {
            let error = guarded("run", panics).unwrap_err();
            assert!(
                matches!(&error, Error::Device(text) if text.contains("burn could not run: ") && text.contains(says)),
                "{error}"
            );
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_chain_of_causes_is_one_line() {
        let text = "The device is poisoned\nCaused by:\n  The device is poisoned\nCaused by:\n  Out of memory\nBacktrace:\nnone";
        assert_eq!(failure(text).to_string(), "the GPU device failed: burn: The device is poisoned: Out of memory");
        assert_eq!(failure("lost").to_string(), "the GPU device failed: burn: lost");
    }

    #[test]
    fn an_error_and_a_value_pass_through() {
        assert_eq!(guarded("run", || Ok(3)).unwrap(), 3);
        assert!(matches!(guarded::<()>("run", || Err(Error::Cancelled)), Err(Error::Cancelled)));
    }
}

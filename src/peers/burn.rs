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

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::llama::{
    Extras, Head, KeyValues, Layer, Scene, Turns, check_bindings, check_blocks, device, embed, embedding, failure,
    guarded, hidden,
};
use crate::model::ModelFiles;
use burn::nn::Embedding;
use burn::tensor::{Device, Tensor};

/// One sequence of a dense model in burn.
pub struct BurnLlama {
    config: ModelConfig,
    device: Device,
    embedding: Embedding, // [vocab, H]
    layers: Vec<Layer>,
    head: Head,
    frequencies: Vec<f32>, // [head_dim / 2], radians per position
    caches: Vec<Option<KeyValues>>,
    length: usize,
}

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
        check_blocks(&files.config)?;
        check_sizes(files, gpu)?;
        let device = device::open(gpu.info())?;
        guarded("load the model", || {
            let config = files.config.clone();
            let embedding = embedding(files, &device)?;
            let layers = (0..config.num_hidden_layers)
                .map(|index| Layer::load(files, index, &device))
                .collect::<Result<Vec<Layer>>>()?;
            let head = Head::load(files, &embedding, &device)?;
            device.sync().map_err(failure)?;
            let caches = vec![None; config.num_hidden_layers];
            let frequencies = config.rope_frequencies();
            Ok(BurnLlama { config, device: device.clone(), embedding, layers, head, frequencies, caches, length: 0 })
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
        let hidden = hidden((self.length, tokens), &self.device);
        let scene = Scene { config: &self.config, turns: &turns, hidden };
        let mut x = embed(&self.embedding, ids);
        for (layer, cache) in self.layers.iter().zip(&mut self.caches) {
            x = layer.forward(x, &scene, cache, &Extras::default());
        }
        self.head.forward(x.narrow(0, tokens - 1, 1))
    }
}

/// Refuses a model that burn could only fail to load, with the numbers.
fn check_sizes(files: &ModelFiles, gpu: &Gpu) -> Result<()> {
    check_bindings(files, gpu.info().max_binding_bytes, &gpu.info().name)?;
    let needed = files.tensors().map(|view| (view.rows * view.cols * size_of::<f32>()) as u64).sum();
    match gpu.memory_available() {
        Some(available) if needed > available => Err(Error::DeviceLimit {
            what: "the model in burn, whose weights are f32 there,".into(),
            needed,
            available,
            limit: "free memory in bytes; close other programs, or use a smaller model",
            adapter: gpu.info().name.clone(),
        }),
        _ => Ok(()),
    }
}

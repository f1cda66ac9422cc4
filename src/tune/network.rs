//! A LLaMA that stays in memory, and the gradients of what LoRA adds to it.
//!
//! Invariant: gradients are those of LoRA's factors and of residual streams alone. Forwards, only the residual streams before
//! every layer are kept; backwards, each layer is run again from what was kept (gradient checkpointing by layer).

use super::backward::no_gradient;
use super::factors::{Factors, PairGradients};
use super::processor::Processor;
use super::score::score;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::llama::{
    Extras, Head, Layer, LowRank, Scene, Turns, check_bindings, check_blocks, embed, embedding, failure, guarded,
    hidden,
};
use crate::model::{LayerTensor, ModelFiles};
use burn::nn::Embedding;
use burn::tensor::{Device, Tensor};

/// Text to learn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The tokens.
    pub ids: Vec<u32>,
    /// The first that is learnt; those before it, a prompt, are only read. At least 1: nothing predicts the first token.
    pub first: usize,
}

impl Sample {
    /// A text that is learnt as a whole.
    pub fn whole(ids: Vec<u32>) -> Sample {
        Sample { ids, first: 1 }
    }

    /// Tokens that are learnt.
    pub fn scored(&self) -> usize {
        self.ids.len().saturating_sub(self.first)
    }
}

/// Which channels of what o and down read are kept in one layer, and what is added for the others.
#[derive(Clone, Default)]
pub(super) struct Kept {
    pub(super) channels: [Option<Tensor<2>>; 2], // [1, A*d] and [1, C]: 1 or 0
    pub(super) biases: [Option<Tensor<2>>; 2],   // [1, H]
}

impl Kept {
    /// What a layer computes with them and with factors.
    fn extras(&self, low_rank: Vec<(LayerTensor, LowRank)>) -> Extras {
        Extras { low_rank, kept: self.channels.clone(), biases: self.biases.clone() }
    }
}

/// The weights of a model, which do not change.
pub(super) struct Network<'f> {
    files: &'f ModelFiles,
    pub(super) device: Device,
    embedding: Embedding,
    layers: Vec<Layer>,
    head: Head,
    frequencies: Vec<f32>,
}

impl<'f> Network<'f> {
    /// Decodes every tensor to f32 and uploads it.
    pub(super) fn load(files: &'f ModelFiles, processor: &Processor) -> Result<Network<'f>> {
        let config = &files.config;
        check_blocks(config)?;
        if let Some(bytes) = processor.max_binding {
            check_bindings(files, bytes, processor.name())?;
        }
        let device = processor.device.clone();
        guarded("load the model", || {
            let embedding = embedding(files, &device)?;
            let layers = (0..config.num_hidden_layers).map(|layer| Layer::load(files, layer, &device));
            let layers = layers.collect::<Result<Vec<_>>>()?;
            let head = Head::load(files, &embedding, &device)?;
            let frequencies = config.rope_frequencies();
            Ok(Network { files, device: device.clone(), embedding, layers, head, frequencies })
        })
    }

    pub(super) fn config(&self) -> &ModelConfig {
        &self.files.config
    }

    /// A projection, `[in, out]`.
    pub(super) fn weight(&self, layer: usize, tensor: LayerTensor) -> Option<Tensor<2>> {
        self.layers.get(layer)?.projection(tensor)
    }

    /// `-sum log p / divisor` of a sample's tokens, in nats, and the gradients of all factors.
    ///
    /// # Errors
    /// [`Error::Device`] when burn or the driver fails.
    pub(super) fn gradients(
        &self,
        sample: &Sample,
        divisor: f32,
        factors: &Factors,
        kept: &[Kept],
    ) -> Result<(f64, Vec<PairGradients>)> {
        guarded("run the model", || {
            let positions = (0, sample.ids.len());
            let turns = Turns::new(self.config(), &self.frequencies, positions, &self.device);
            let scene = Scene { config: self.config(), turns: &turns, hidden: hidden(positions, &self.device) };
            let mut x = embed(&self.embedding, &sample.ids);
            let mut states = Vec::with_capacity(self.layers.len());
            for (index, layer) in self.layers.iter().enumerate() {
                let extras = kept[index].extras(factors.constants(index));
                states.push(x.clone());
                x = layer.forward(x, &scene, &mut None, &extras);
            }
            let (loss, mut upstream) = score(&self.head, x, (&sample.ids, sample.first), divisor)?;
            if !loss.is_finite() {
                return Ok((loss, Vec::new()));
            }
            let mut gradients = Vec::with_capacity(factors.pairs.len());
            for (index, layer) in self.layers.iter().enumerate().rev() {
                let state = states.pop().ok_or_else(|| Error::Internal("a residual stream is missing".into()))?;
                let x = Tensor::from_inner(state).require_grad();
                let extras = kept[index].extras(factors.variables(index));
                let out = layer.forward(x.clone(), &scene, &mut None, &extras);
                let found = (out * Tensor::from_inner(upstream)).sum().backward();
                for (_, low_rank) in extras.low_rank.iter().rev() {
                    let [a, b] = [&low_rank.a, &low_rank.b].map(|factor| factor.grad(&found));
                    gradients.push([a.ok_or_else(no_gradient)?, b.ok_or_else(no_gradient)?]);
                }
                upstream = x.grad(&found).ok_or_else(no_gradient)?;
                self.device.sync().map_err(failure)?;
            }
            gradients.reverse();
            Ok((loss, gradients))
        })
    }
}

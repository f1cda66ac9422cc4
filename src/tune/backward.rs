//! A LLaMA forwards and backwards over samples of text.
//!
//! Invariant: one layer is in memory at a time. Forwards, the residual streams before every layer are kept; backwards, each
//! layer is loaded once more, run again from what was kept, and differentiated alone (gradient checkpointing by layer). So
//! beside embedding, head and the kept streams there are only one layer's weights, their gradients, and the activations of
//! one sample in it.

use super::gradients::{LayerGradients, Wanted};
use super::processor::Processor;
use super::score::score;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::llama::{
    Extras, Head, Layer, Scene, Turns, check_bindings, check_blocks, embed, embedding, failure, guarded, hidden,
};
use crate::model::ModelFiles;
use burn::tensor::{Bool, Device, Tensor};

/// How far a run is, in pieces of work of one sample and one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Pieces done.
    pub done: usize,
    /// All pieces.
    pub total: usize,
    /// Mean loss of the samples that have come through the head, in nats a token.
    pub loss: Option<f64>,
}

/// Told of every step; an error from it ends the run.
pub type Heard<'h> = &'h mut dyn FnMut(Step) -> Result<()>;

/// Samples that have been run forwards.
pub struct Passes<'f> {
    files: &'f ModelFiles,
    device: Device,
    head: Head,
    turns: Turns,
    hidden: Option<Tensor<2, Bool>>,
    samples: Vec<Vec<u32>>,
    first: usize,
    states: Vec<Vec<Tensor<2>>>, // [T, H] by layer from `first` on and one behind the last, and sample
    step: Step,
}

/// Refuses samples that cannot be run or scored.
///
/// # Errors
/// [`Error::Setting`] with the numbers.
pub fn check_samples(config: &ModelConfig, samples: &[Vec<u32>]) -> Result<()> {
    let bad = |what: String| Err(Error::Setting(what));
    let (vocab, trained) = (config.vocab_size, config.max_position_embeddings);
    let Some(length) = samples.first().map(Vec::len) else {
        return bad("there is no sample to run".into());
    };
    if !(2..=trained).contains(&length) {
        return bad(format!(
            "samples of {length} tokens: they need 2 to be scored, and the model was trained on {trained} at most"
        ));
    }
    for (number, sample) in samples.iter().enumerate() {
        if sample.len() != length {
            return bad(format!("sample {number} has {} tokens, the first has {length}", sample.len()));
        }
        if let Some(id) = sample.iter().find(|&&id| id as usize >= vocab) {
            return bad(format!("token id {id} of sample {number} is outside the model's vocabulary of {vocab}"));
        }
    }
    Ok(())
}

impl<'f> Passes<'f> {
    /// Runs samples of one length forwards, to go backwards down to layer `first`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for blocks that are not LLaMA's, those of [`check_samples`], of the weights, and of `heard`;
    /// [`Error::DeviceLimit`] for a tensor larger than a binding, [`Error::Device`] when burn or the driver fails.
    pub fn forward(
        files: &'f ModelFiles,
        processor: &Processor,
        samples: &[Vec<u32>],
        first: usize,
        heard: Heard<'_>,
    ) -> Result<Passes<'f>> {
        let config = &files.config;
        check_blocks(config)?;
        check_samples(config, samples)?;
        if let Some(bytes) = processor.max_binding {
            check_bindings(files, bytes, processor.name())?;
        }
        let (device, layers) = (processor.device.clone(), config.num_hidden_layers);
        let total = samples.len() * (layers + 1 + layers.saturating_sub(first));
        let mut step = Step { done: 0, total, loss: None };
        guarded("run the model forwards", || {
            let positions = (0, samples[0].len());
            let turns = Turns::new(config, &config.rope_frequencies(), positions, &device);
            let hidden = hidden(positions, &device);
            let scene = Scene { config, turns: &turns, hidden: hidden.clone() };
            let embedding = embedding(files, &device)?;
            let mut streams: Vec<Tensor<2>> = samples.iter().map(|sample| embed(&embedding, sample)).collect();
            let head = Head::load(files, &embedding, &device)?;
            let mut states = Vec::new();
            for index in 0..layers {
                if index >= first {
                    states.push(streams.clone());
                }
                let layer = Layer::load(files, index, &device)?;
                for x in &mut streams {
                    *x = layer.forward(x.clone(), &scene, &mut None, &Extras::default());
                    device.sync().map_err(failure)?;
                    step.done += 1;
                    heard(step)?;
                }
            }
            states.push(streams);
            let samples = samples.to_vec();
            Ok(Passes { files, device: device.clone(), head, turns, hidden, samples, first, states, step })
        })
    }

    /// Logits after the last token of a sample, `[vocab]`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a sample that is not there, [`Error::Device`] when burn or the driver fails.
    pub fn logits(&self, sample: usize) -> Result<Vec<f32>> {
        let state = self.states.last().and_then(|states| states.get(sample));
        let state = state.ok_or_else(|| Error::Setting(format!("there is no sample {sample}")))?.clone();
        guarded("run the output head", || {
            let last = state.dims()[0] - 1;
            self.head.forward(state.narrow(0, last, 1)).try_into_vec_as::<f32>().map_err(failure)
        })
    }

    /// Goes backwards from the mean loss of every sample, and shows `visit` the gradients of each layer, the last first.
    /// Returns the loss of every sample, in nats a token.
    ///
    /// # Errors
    /// [`Error::BadFile`] where a loss is no number; those of the weights, of `visit` and of `heard`; [`Error::Device`] when
    /// burn or the driver fails.
    pub fn backward(
        mut self,
        wanted: Wanted,
        heard: Heard<'_>,
        visit: &mut dyn FnMut(usize, &LayerGradients) -> Result<()>,
    ) -> Result<Vec<f64>> {
        guarded("run the model backwards", || {
            let (mut losses, mut upstream) = (Vec::new(), Vec::new());
            for (number, state) in self.states.pop().unwrap_or_default().into_iter().enumerate() {
                let ids = &self.samples[number];
                let (loss, gradient) = score(&self.head, state, (ids, 1), (ids.len() - 1) as f32)?;
                if !loss.is_finite() {
                    let what = format!(
                        "the loss of sample {number} is {loss}: the model's values leave the range of 32-bit floats, or are damaged"
                    );
                    return Err(Error::bad_file(&self.files.path, what));
                }
                losses.push(loss);
                upstream.push(gradient);
                self.step.loss = Some(losses.iter().sum::<f64>() / losses.len() as f64);
                self.tell(heard)?;
            }
            let tracking = self.device.clone().autodiff();
            while let Some(streams) = self.states.pop() {
                let index = self.first + self.states.len();
                let mut layer = LayerGradients::new(Layer::load(self.files, index, &tracking)?, wanted);
                for (x, upstream) in streams.into_iter().zip(&mut upstream) {
                    let x = Tensor::from_inner(x).require_grad();
                    let (config, hidden) = (&self.files.config, self.hidden.clone());
                    let scene = Scene { config, turns: &self.turns, hidden };
                    let out = layer.layer().forward(x.clone(), &scene, &mut None, &Extras::default());
                    // The gradient of this sum is that of the loss: what comes from above is a constant here.
                    let gradients = (out * Tensor::from_inner(upstream.clone())).sum().backward();
                    layer.add(&gradients, losses.len())?;
                    *upstream = x.grad(&gradients).ok_or_else(no_gradient)?;
                    self.device.sync().map_err(failure)?;
                    self.tell(heard)?;
                }
                visit(index, &layer)?;
            }
            Ok(losses)
        })
    }

    fn tell(&mut self, heard: &mut dyn FnMut(Step) -> Result<()>) -> Result<()> {
        self.step.done += 1;
        heard(self.step)
    }
}

/// No gradient came back where one has to be.
pub(super) fn no_gradient() -> Error {
    Error::Internal("burn gave no gradient of a residual stream".into())
}

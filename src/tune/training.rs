//! LoRA's factors learn: after units were dropped, to make up for them, or while they are dropped step by step.

use super::factors::{Factors, PairGradients, norm};
use super::network::{Kept, Network, Sample};
use super::options::TrainOptions;
use super::processor::Processor;
use super::sensitivity::{Gradual, Importances, Means, check_targets, follow, importances, scores};
use crate::config::{ModelConfig, PruneConfig};
use crate::error::{Error, Result};
use crate::llama::guarded;
use crate::model::ModelFiles;
use crate::prune::{Half, LayerUnits, Origin, Plan, UnitSets, statics};
use burn::optim::{AdamW, AdamWConfig};
use burn::tensor::{Device, Tensor, TensorData};

/// Which units run while the factors learn.
#[derive(Debug, Clone, PartialEq)]
pub enum Units {
    /// All.
    All,
    /// These.
    Fixed(UnitSets),
    /// Fewer and fewer: LoRAPrune.
    Fewer(Gradual),
}

/// One step of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trained {
    /// Its number, from 1.
    pub step: usize,
    /// All steps.
    pub steps: usize,
    /// Mean loss of its samples' learnt tokens, in nats a token.
    pub loss: f64,
    /// The learning rate it was taken with.
    pub learning_rate: f64,
    /// The ratio that units are pruned by from here on; `None` where they are fixed.
    pub ratio: Option<f64>,
}

/// A training run between two steps.
pub struct Training<'f> {
    pub(super) files: &'f ModelFiles,
    network: Network<'f>,
    pub(super) samples: Vec<Sample>,
    pub(super) options: TrainOptions,
    pub(super) units: Units,
    pub(super) factors: Factors,
    optimizer: AdamW,
    pub(super) means: Means,
    pub(super) kept: Option<UnitSets>,
    masks: Vec<Kept>,
    pub(super) losses: Vec<f64>,
}

/// Refuses samples that cannot be learnt.
///
/// # Errors
/// [`Error::Setting`] with the numbers.
pub fn check_training_samples(config: &ModelConfig, samples: &[Sample]) -> Result<()> {
    let bad = |what: String| Err(Error::Setting(what));
    if samples.is_empty() {
        return bad("there is no sample to learn from".into());
    }
    for (number, sample) in samples.iter().enumerate() {
        let (length, trained) = (sample.ids.len(), config.max_position_embeddings);
        if sample.first == 0 || sample.scored() == 0 {
            return bad(format!(
                "sample {number} has no token to learn: {length} tokens, of which the first {} are read",
                sample.first
            ));
        }
        if length > trained {
            return bad(format!("sample {number} has {length} tokens, the model was trained on {trained} at most"));
        }
        if let Some(id) = sample.ids.iter().find(|&&id| id as usize >= config.vocab_size) {
            let vocab = config.vocab_size;
            return bad(format!("token id {id} of sample {number} is outside the model's vocabulary of {vocab}"));
        }
    }
    Ok(())
}

impl<'f> Training<'f> {
    /// Loads a model and begins.
    ///
    /// # Errors
    /// [`Error::Setting`] for settings out of range, for samples that cannot be learnt, and for units that the model lacks;
    /// [`Error::Unsupported`] for blocks that are not LLaMA's; those of the weights; [`Error::DeviceLimit`] for a tensor
    /// larger than a binding, [`Error::Device`] when burn or the driver fails.
    pub fn new(
        files: &'f ModelFiles,
        processor: &Processor,
        samples: Vec<Sample>,
        options: TrainOptions,
        units: Units,
    ) -> Result<Training<'f>> {
        let config = &files.config;
        options.validate()?;
        check_training_samples(config, &samples)?;
        let kept = match &units {
            Units::All => None,
            Units::Fixed(units) => {
                units.check_shape(config)?;
                Some(units.clone())
            }
            Units::Fewer(gradual) => {
                gradual.validate()?;
                check_targets(config, &gradual.prune, &options.tensors()?)?;
                None
            }
        };
        let network = Network::load(files, processor)?;
        let device = network.device.clone();
        let factors = guarded("make the factors", || Factors::new(config, &options, &device))?;
        let optimizer = AdamWConfig::new().with_weight_decay(options.weight_decay).with_epsilon(1e-8).build();
        let masks = masks(config, kept.as_ref(), &device);
        let (means, losses) = (Means::new(), Vec::new());
        Ok(Training { files, network, samples, options, units, factors, optimizer, means, kept, masks, losses })
    }

    /// All steps, those that are taken too.
    pub fn steps(&self) -> usize {
        self.options.steps
    }

    /// Mean loss of every step so far, in nats a token.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// The units that run now; `None` = all.
    pub fn kept(&self) -> Option<&UnitSets> {
        self.kept.as_ref()
    }

    /// Takes one step; `None` when all are taken. `heard` is told of every sample, and ends the step by an error: then nothing has
    /// changed.
    ///
    /// # Errors
    /// [`Error::Setting`] where loss or gradients are no numbers, those of `heard`, [`Error::Device`] when burn or the driver fails.
    pub fn step(&mut self, heard: &mut dyn FnMut(usize, usize) -> Result<()>) -> Result<Option<Trained>> {
        let (step, steps) = (self.losses.len(), self.options.steps);
        if step >= steps {
            return Ok(None);
        }
        let chosen = self.options.batch_of(step, self.samples.len());
        let learnt: usize = chosen.iter().map(|&index| self.samples[index].scored()).sum();
        let (mut loss, mut gradients) = (0.0, Vec::new());
        for (done, &index) in chosen.iter().enumerate() {
            let (more, found) =
                self.network.gradients(&self.samples[index], learnt as f32, &self.factors, &self.masks)?;
            loss += more;
            if !loss.is_finite() {
                return Err(diverged(step, &format!("the loss is {loss}"), &self.options));
            }
            add(&mut gradients, found);
            heard(done + 1, chosen.len())?;
        }
        let learning_rate = self.options.learning_rate(step);
        let ratio = guarded("take a step", || {
            let norm = norm(&gradients)?;
            if !norm.is_finite() {
                return Err(diverged(step, &format!("the norm of the gradients is {norm}"), &self.options));
            }
            if norm > self.options.max_grad_norm {
                let factor = (self.options.max_grad_norm / norm) as f32;
                gradients = gradients.drain(..).map(|pair| pair.map(|gradient| gradient * factor)).collect();
            }
            let ratio = match self.units.clone() {
                Units::Fewer(gradual) => Some(self.drop_units(&gradual, &gradients, step)?),
                _ => None,
            };
            self.factors.step(&self.optimizer, learning_rate, std::mem::take(&mut gradients), step);
            Ok(ratio)
        })?;
        self.losses.push(loss);
        Ok(Some(Trained { step: step + 1, steps, loss, learning_rate, ratio }))
    }

    /// Follows the importances and drops units where it is time to. Returns the ratio from here on.
    fn drop_units(&mut self, gradual: &Gradual, gradients: &[PairGradients], step: usize) -> Result<f64> {
        let config = &self.files.config;
        follow(&mut self.means, importances(&self.network, &self.factors, gradients, &gradual.prune)?);
        let steps = self.options.steps;
        let Some(ratio) = gradual.prunes(step, steps) else {
            let done = (0..step).rev().find_map(|step| gradual.prunes(step, steps));
            return Ok(done.unwrap_or(0.0));
        };
        let prune = PruneConfig { ratio, ..gradual.prune.clone() };
        if Plan::new(config, &prune).prunes() {
            let origin = Origin::of_method("", &gradual.prune, None);
            let scores = without_dropped(scores(&self.means), self.kept.as_ref());
            let kept = statics::by_scores(config, &prune, &scores, origin)?;
            self.masks = masks(config, Some(&kept), &self.network.device);
            self.kept = Some(kept);
        }
        Ok(ratio)
    }

    /// Puts the units back that ran when a run was cut short.
    pub(super) fn restore_units(&mut self, kept: Option<UnitSets>) {
        self.masks = masks(&self.files.config, kept.as_ref(), &self.network.device);
        self.kept = kept;
    }

    pub(super) fn device(&self) -> &Device {
        &self.network.device
    }
}

/// Scores by which what is dropped stays dropped.
fn without_dropped(mut scores: Importances, kept: Option<&UnitSets>) -> Importances {
    for (scores, units) in scores.iter_mut().zip(kept.iter().flat_map(|kept| &kept.layers)) {
        for half in Half::BOTH {
            let Some(units) = units.half(half) else { continue };
            for (unit, score) in scores[half.index()].iter_mut().enumerate() {
                if units.kept.binary_search(&(unit as u32)).is_err() {
                    *score = f64::NEG_INFINITY;
                }
            }
        }
    }
    scores
}

/// Kept channels as factors of activations.
fn masks(config: &ModelConfig, kept: Option<&UnitSets>, device: &Device) -> Vec<Kept> {
    let row = |values: Vec<f32>| {
        let shape = [1, values.len()];
        Tensor::<2>::from_data(TensorData::new(values, shape), device)
    };
    let channels = |layer: &LayerUnits, half: Half| {
        let (units, width) = half.units(config);
        layer.half(half).filter(|found| found.kept.len() < units).map(|found| {
            let mut channels = vec![0.0f32; units * width];
            for &unit in &found.kept {
                channels[unit as usize * width..][..width].fill(1.0);
            }
            row(channels)
        })
    };
    let bias = |layer: &LayerUnits, half: Half| layer.half(half).and_then(|found| found.bias.clone()).map(row);
    let of = |layer: &LayerUnits| Kept {
        channels: Half::BOTH.map(|half| channels(layer, half)),
        biases: Half::BOTH.map(|half| bias(layer, half)),
    };
    match kept {
        Some(kept) => kept.layers.iter().map(of).collect(),
        None => vec![Kept::default(); config.num_hidden_layers],
    }
}

fn add(sum: &mut Vec<PairGradients>, more: Vec<PairGradients>) {
    if sum.is_empty() {
        *sum = more;
        return;
    }
    *sum = std::mem::take(sum).into_iter().zip(more).map(|([a, b], [c, d])| [a + c, b + d]).collect();
}

fn diverged(step: usize, what: &str, options: &TrainOptions) -> Error {
    let rate = options.learning_rate;
    Error::Setting(format!(
        "training stopped at step {}: {what}; nothing of this step is kept. Try a smaller --learning-rate than {rate}",
        step + 1
    ))
}

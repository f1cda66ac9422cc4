//! What a training run does, in numbers.

use crate::error::{Error, Result};
use crate::model::LayerTensor;
use crate::random::SplitMix;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// The projections that LoRA can be added to, with PEFT's names.
pub const TARGETS: [(&str, LayerTensor); 7] = [
    ("q_proj", LayerTensor::Q),
    ("k_proj", LayerTensor::K),
    ("v_proj", LayerTensor::V),
    ("o_proj", LayerTensor::O),
    ("gate_proj", LayerTensor::Gate),
    ("up_proj", LayerTensor::Up),
    ("down_proj", LayerTensor::Down),
];

/// Settings of a training run. Of two runs with the same ones, samples and model, every step is the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainOptions {
    /// Rank of the factors.
    pub rank: usize,
    /// Their product is scaled by `alpha / rank`.
    pub alpha: f32,
    /// PEFT's names of the projections.
    pub targets: Vec<String>,
    /// Steps of the optimizer.
    pub steps: usize,
    /// Samples of a step; they run one by one, and their gradients add up.
    pub batch: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps until it is reached; from there it follows half a cosine down to 0.
    pub warmup_steps: usize,
    /// Weight decay of AdamW.
    pub weight_decay: f32,
    /// Gradients are scaled down to this norm where theirs, over all factors, is larger.
    pub max_grad_norm: f64,
    /// Of the factors' first values and of the samples' order.
    pub seed: u64,
}

impl TrainOptions {
    /// Refuses values outside their ranges.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the option and the value.
    pub fn validate(&self) -> Result<()> {
        let bad = |what: String| Err(Error::Setting(what));
        for (name, value) in [("--rank", self.rank), ("--steps", self.steps), ("--batch", self.batch)] {
            if value == 0 {
                return bad(format!("{name} is 0; it must be at least 1"));
            }
        }
        let numbers = [
            ("--alpha", f64::from(self.alpha)),
            ("--learning-rate", self.learning_rate),
            ("--max-grad-norm", self.max_grad_norm),
        ];
        for (name, value) in numbers {
            if !(value > 0.0 && value.is_finite()) {
                return bad(format!("{name} is {value}; it must be a number above 0"));
            }
        }
        if !(0.0..1.0).contains(&self.weight_decay) {
            return bad(format!("--weight-decay is {}; it must lie in [0, 1)", self.weight_decay));
        }
        self.tensors().map(|_| ())
    }

    /// The projections, in the order of [`TARGETS`].
    ///
    /// # Errors
    /// [`Error::Setting`] for a name that is none, or for no name at all.
    pub fn tensors(&self) -> Result<Vec<LayerTensor>> {
        if let Some(name) = self.targets.iter().find(|name| !TARGETS.iter().any(|(known, _)| known == name)) {
            let known = TARGETS.map(|(name, _)| name).join(", ");
            return Err(Error::Setting(format!("--targets has `{name}`; LoRA can be added to {known}")));
        }
        let chosen = TARGETS.iter().filter(|(name, _)| self.targets.iter().any(|target| target == name));
        let tensors: Vec<LayerTensor> = chosen.map(|&(_, tensor)| tensor).collect();
        if tensors.is_empty() {
            return Err(Error::Setting("--targets names no projection".into()));
        }
        Ok(tensors)
    }

    /// The learning rate of a step, counted from 0.
    pub fn learning_rate(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let falling = self.steps.saturating_sub(self.warmup_steps).max(1);
        let share = (step - self.warmup_steps) as f64 / falling as f64;
        self.learning_rate * 0.5 * (1.0 + (PI * share.min(1.0)).cos())
    }

    /// Which of `samples` samples a step runs: every epoch is an order of its own.
    pub fn batch_of(&self, step: usize, samples: usize) -> Vec<usize> {
        let first = step * self.batch;
        let mut order = (usize::MAX, Vec::new());
        (first..first + self.batch)
            .map(|at| {
                let epoch = at / samples;
                if order.0 != epoch {
                    order = (epoch, self.order(epoch, samples));
                }
                order.1[at % samples]
            })
            .collect()
    }

    /// An order of the samples: Fisher and Yates, by the seed and the epoch.
    fn order(&self, epoch: usize, samples: usize) -> Vec<usize> {
        let mut random = SplitMix(self.seed ^ (epoch as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95));
        let mut order: Vec<usize> = (0..samples).collect();
        for last in (1..samples).rev() {
            order.swap(last, (random.next() % (last as u64 + 1)) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> TrainOptions {
        TrainOptions {
            rank: 8,
            alpha: 16.0,
            targets: vec!["down_proj".into(), "q_proj".into()],
            steps: 10,
            batch: 3,
            learning_rate: 1.0,
            warmup_steps: 2,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            seed: 7,
        }
    }

    #[test]
    fn the_rate_rises_and_falls_along_a_cosine() {
        let rates: Vec<f64> = (0..10).map(|step| options().learning_rate(step)).collect();
        assert_eq!(rates[..3], [0.5, 1.0, 1.0]);
        assert!((rates[6] - 0.5).abs() < 1e-12 && rates[2..].is_sorted_by(|a, b| a > b) && rates[9] > 0.0);
        assert_eq!(TrainOptions { warmup_steps: 0, ..options() }.learning_rate(0), 1.0);
        assert!(options().learning_rate(10).abs() < 1e-12);
    }

    #[test]
    fn every_epoch_runs_every_sample_once_in_an_order_of_its_own() {
        let options = options();
        let run: Vec<usize> = (0..7).flat_map(|step| options.batch_of(step, 7)).collect();
        for epoch in run.chunks(7) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6]);
        }
        assert_ne!(run[..7], run[7..14]);
        let other = TrainOptions { seed: 8, ..options.clone() };
        assert_ne!(options.batch_of(0, 100), other.batch_of(0, 100));
        assert_eq!(options.batch_of(4, 100), options.batch_of(4, 100));
    }

    #[test]
    fn targets_are_found_by_name() {
        assert_eq!(options().tensors().unwrap(), [LayerTensor::Q, LayerTensor::Down]);
        for (targets, part) in [(vec!["q"], "`q`"), (vec![], "no projection")] {
            let targets = targets.into_iter().map(String::from).collect();
            let error = TrainOptions { targets, ..options() }.validate().unwrap_err();
            assert!(error.is_user_fault() && error.to_string().contains(part), "{error}");
        }
        for (bad, part) in [
            (TrainOptions { rank: 0, ..options() }, "--rank is 0"),
            (TrainOptions { steps: 0, ..options() }, "--steps is 0"),
            (TrainOptions { alpha: f32::NAN, ..options() }, "--alpha is NaN"),
            (TrainOptions { learning_rate: -1.0, ..options() }, "--learning-rate is -1"),
            (TrainOptions { weight_decay: 1.0, ..options() }, "--weight-decay is 1"),
            (TrainOptions { max_grad_norm: 0.0, ..options() }, "--max-grad-norm is 0"),
        ] {
            let error = bad.validate().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}

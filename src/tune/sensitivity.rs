//! LoRAPrune's importance of heads and channels (Zhang et al.: arXiv 2305.18403), from LoRA's factors and their gradients alone.
//!
//! With `W` a frozen weight, `B A` its factors and `G` their gradients, the gradient of `W` stands as `G_B A + B G_A - G_B G_A`: what
//! one step along the gradients changes `B A` by, but for its size. A weight's importance is that times the weight with its factors'
//! product, absolute; a unit's is the sum over its weights. Each projection's importances are divided by their norm before the
//! projections of a unit add up, as the method's code does it.

use super::factors::{Factors, Pair, PairGradients};
use super::importance::in_order;
use super::network::Network;
use crate::config::{ModelConfig, PruneConfig};
use crate::error::{Error, Result};
use crate::llama::failure;
use crate::model::LayerTensor;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Weight of what is new in the running mean of importances.
const NEW: f32 = 0.1;
/// Norms are not divided by less.
const LEAST_NORM: f64 = 1e-8;

/// By layer, of query heads and of MLP channels; empty where a layer's half is not pruned.
pub(super) type Importances = Vec<[Vec<f64>; 2]>;

/// Running means of them; in f32, so that a run that is cut short goes on from the very same ones.
pub(super) type Means = Vec<[Vec<f32>; 2]>;

/// When the ratio grows while training: LoRAPrune's schedule, the cubic one of Zhu and Gupta (arXiv 1710.01878).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gradual {
    /// Which units may go, and how many in the end.
    pub prune: PruneConfig,
    /// Units are chosen every so many steps.
    pub every: usize,
    /// Share of the steps before the first are dropped, in [0, 1).
    pub warmup: f64,
    /// Share of the steps after the last are dropped, in [0, 1).
    pub cooldown: f64,
}

impl Gradual {
    /// Refuses values outside their ranges.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the option and the value.
    pub fn validate(&self) -> Result<()> {
        self.prune.validate()?;
        if self.every == 0 {
            return Err(Error::Setting("--prune-every is 0; it must be at least 1".into()));
        }
        for (name, value) in [("--prune-warmup", self.warmup), ("--prune-cooldown", self.cooldown)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::Setting(format!("{name} is {value}; it must lie in [0, 1)")));
            }
        }
        if self.warmup + self.cooldown >= 1.0 {
            let sum = self.warmup + self.cooldown;
            let what =
                format!("--prune-warmup and --prune-cooldown are {sum} together; less than 1 leaves steps to prune in");
            return Err(Error::Setting(what));
        }
        Ok(())
    }

    /// The ratio of a step, counted from 0, of so many.
    pub fn ratio(&self, step: usize, steps: usize) -> f64 {
        let (step, steps, last) = (step as f64, steps as f64, self.prune.ratio);
        let (start, end) = (self.warmup * steps, steps - self.cooldown * steps);
        if step <= start {
            return 0.0;
        }
        if step > end {
            return last;
        }
        let left = 1.0 - (step - start) / (end - start);
        last * (1.0 - left.powi(3))
    }

    /// The ratio to prune to behind a step: every so many steps, and when the last ratio is reached; `None` = nothing changes.
    ///
    /// The method's code chooses only at multiples of `every` below the last ratio and so stays short of it.
    pub fn prunes(&self, step: usize, steps: usize) -> Option<f64> {
        let (now, last) = (self.ratio(step, steps), self.prune.ratio);
        if step > 0 && self.ratio(step - 1, steps) >= last {
            return None;
        }
        if now >= last || step + 1 == steps {
            return Some(last);
        }
        (step.is_multiple_of(self.every) && now > 0.0).then_some(now)
    }
}

/// Importance of every unit that may go.
///
/// # Errors
/// [`Error::Device`] when burn fails.
pub(super) fn importances(
    network: &Network<'_>,
    factors: &Factors,
    gradients: &[PairGradients],
    prune: &PruneConfig,
) -> Result<Importances> {
    let config = network.config();
    let layers = config.num_hidden_layers;
    (0..layers)
        .map(|layer| {
            if !prune.pruned_layers(layers).contains(&layer) {
                return Ok([Vec::new(), Vec::new()]);
            }
            let (first, pairs) = factors.of_layer(layer);
            let mut halves = [Vec::new(), Vec::new()];
            for (pair, gradients) in pairs.iter().zip(&gradients[first..]) {
                let Some(weight) = network.weight(layer, pair.tensor) else { continue };
                let of_channels = of_channels(pair, gradients, weight, factors.scale)?;
                if let Some((half, units)) = units(config, prune, pair.tensor, of_channels) {
                    add_normalised(&mut halves[half], &units);
                }
            }
            if !prune.blocks.attention {
                halves[0].clear();
            }
            if !prune.blocks.mlp {
                halves[1].clear();
            }
            Ok(halves)
        })
        .collect()
}

/// Of the channels of a projection that belong to units: its outputs, or the inputs of o and down.
fn of_channels(pair: &Pair, [ga, gb]: &PairGradients, weight: Tensor<2>, scale: f32) -> Result<Vec<f64>> {
    let (a, b) = (pair.a.value.clone(), pair.b.value.clone());
    // In burn's layout everything is transposed: a is A's transpose, and so on.
    let gradient = a.clone().matmul(gb.clone()) + (ga.clone()).matmul(b.clone() - gb.clone());
    let adapted = weight + a.matmul(b) * scale;
    let axis = if matches!(pair.tensor, LayerTensor::O | LayerTensor::Down) { 1 } else { 0 };
    let sums = (gradient * adapted).abs().sum_dim(axis);
    Ok(sums.try_into_vec_as::<f32>().map_err(failure)?.into_iter().map(f64::from).collect())
}

/// The half and the units that these channels are of; `None` for keys and values that stay where single heads go.
fn units(
    config: &ModelConfig,
    prune: &PruneConfig,
    tensor: LayerTensor,
    channels: Vec<f64>,
) -> Option<(usize, Vec<f64>)> {
    let (d, group) = (config.head_dim, config.group_size());
    let heads = |channels: Vec<f64>| -> Vec<f64> { channels.chunks_exact(d).map(|head| head.iter().sum()).collect() };
    let shared = |heads: Vec<f64>| -> Vec<f64> {
        let of_group = |heads: &[f64]| vec![heads.iter().sum::<f64>(); group];
        heads.chunks_exact(group).flat_map(of_group).collect()
    };
    let together = |heads: Vec<f64>| if prune.whole_groups { shared(heads) } else { heads };
    match tensor {
        LayerTensor::Q => Some((0, together(heads(in_order(config, channels))))),
        LayerTensor::O => Some((0, together(heads(channels)))),
        LayerTensor::K | LayerTensor::V if prune.whole_groups || group == 1 => {
            let heads = heads(channels);
            Some((0, heads.into_iter().flat_map(|head| vec![head; group]).collect()))
        }
        LayerTensor::Gate | LayerTensor::Up | LayerTensor::Down => Some((1, channels)),
        _ => None,
    }
}

/// Adds importances, divided by their norm.
fn add_normalised(sum: &mut Vec<f64>, more: &[f64]) {
    let norm = more.iter().map(|value| value * value).sum::<f64>().sqrt() + LEAST_NORM;
    sum.resize(more.len(), 0.0);
    sum.iter_mut().zip(more).for_each(|(sum, value)| *sum += value / norm);
}

/// Moves a running mean, which begins at zero. What is no number changes nothing.
pub(super) fn follow(mean: &mut Means, new: Importances) {
    if new.iter().flatten().flatten().any(|value| !value.is_finite()) {
        return;
    }
    if mean.is_empty() {
        *mean = new.iter().map(|halves| [0, 1].map(|half: usize| vec![0.0; halves[half].len()])).collect();
    }
    for (mean, new) in mean.iter_mut().flatten().zip(new.iter().flatten()) {
        mean.iter_mut().zip(new).for_each(|(mean, &new)| *mean += NEW * (new as f32 - *mean));
    }
}

/// Means as scores.
pub(super) fn scores(means: &Means) -> Importances {
    let of = |half: &Vec<f32>| half.iter().map(|&value| f64::from(value)).collect();
    means.iter().map(|halves| [of(&halves[0]), of(&halves[1])]).collect()
}

/// Refuses targets that say nothing of a half that is to be pruned.
///
/// # Errors
/// [`Error::Setting`].
pub(super) fn check_targets(config: &ModelConfig, prune: &PruneConfig, tensors: &[LayerTensor]) -> Result<()> {
    let says = |half: usize| {
        let channels = |tensor| match (tensor, super::factors::shape(config, tensor)) {
            (LayerTensor::O | LayerTensor::Down, [inputs, _]) => inputs,
            (_, [_, outputs]) => outputs,
        };
        tensors
            .iter()
            .any(|&tensor| units(config, prune, tensor, vec![0.0; channels(tensor)]).is_some_and(|(of, _)| of == half))
    };
    for (half, wanted, name, projections) in [
        (0, prune.blocks.attention, "heads", "q_proj or o_proj"),
        (1, prune.blocks.mlp, "channels", "gate_proj, up_proj or down_proj"),
    ] {
        if wanted && !says(half) {
            return Err(Error::Setting(format!(
                "--targets says nothing of {name}: LoRAPrune needs {projections} among them"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradual(ratio: f64) -> Gradual {
        Gradual { prune: PruneConfig { ratio, ..PruneConfig::default() }, every: 10, warmup: 0.1, cooldown: 0.1 }
    }

    #[test]
    fn the_ratio_grows_along_a_cube() {
        let gradual = gradual(0.4);
        assert_eq!([0, 10, 91, 99].map(|step| gradual.ratio(step, 100)), [0.0, 0.0, 0.4, 0.4]);
        // Half of the way, an eighth is left.
        assert!((gradual.ratio(50, 100) - 0.4 * 0.875).abs() < 1e-12);
        assert!((0..100).map(|step| gradual.ratio(step, 100)).is_sorted());
    }

    #[test]
    fn units_go_every_few_steps_and_when_the_ratio_is_reached() {
        let when = |gradual: &Gradual, steps| -> Vec<usize> {
            (0..steps).filter(|&step| gradual.prunes(step, steps).is_some()).collect()
        };
        assert_eq!(when(&gradual(0.4), 100), [20, 30, 40, 50, 60, 70, 80, 90]);
        assert_eq!(gradual(0.4).prunes(90, 100), Some(0.4));
        // However short a run is, its end is at the ratio.
        for steps in 1..40 {
            let gradual = gradual(0.2);
            let last = (0..steps).filter_map(|step| gradual.prunes(step, steps)).next_back();
            assert_eq!(last, Some(0.2), "{steps} steps");
        }
        assert!(gradual(0.2).validate().is_ok());
        for (bad, part) in [
            (Gradual { every: 0, ..gradual(0.2) }, "--prune-every is 0"),
            (Gradual { warmup: 1.0, ..gradual(0.2) }, "--prune-warmup is 1"),
            (Gradual { warmup: 0.5, cooldown: 0.5, ..gradual(0.2) }, "1 together"),
        ] {
            assert!(bad.validate().unwrap_err().to_string().contains(part), "{part}");
        }
    }

    #[test]
    fn a_mean_follows_and_leaves_out_what_is_no_number() {
        let mut mean = Means::new();
        follow(&mut mean, vec![[vec![1.0, 2.0], vec![]]]);
        follow(&mut mean, vec![[vec![f64::NAN, 2.0], vec![]]]);
        follow(&mut mean, vec![[vec![1.0, 0.0], vec![]]]);
        let [[heads, channels]] = &mean[..] else { panic!("one layer") };
        assert!((heads[0] - 0.19).abs() < 1e-6 && (heads[1] - 0.18).abs() < 1e-6 && channels.is_empty());
    }
}

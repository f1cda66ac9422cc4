//! The methods that choose once, from a calibration alone: Wanda for structures, and FLAP (docs of both: the probe-pruning paper,
//! section 5.1; An et al., arXiv 2312.11983).

use super::powers::Powers;
use super::thresholds::{self, Scores};
use super::units::{LayerUnits, Origin, UnitSets, Units};
use super::{Calibration, Compensation, Half, Knowledge, LayerMasks, LayerPlan, Means, Plan};
use crate::config::{LayerRatios, Method, ModelConfig, PruneConfig, ScoreKind, Statistic};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::HistoryRows;
use crate::model::ModelWeights;
use std::sync::Arc;

/// Chooses the units of every layer for every input.
///
/// # Errors
/// [`Error::Internal`] for a method that is not static; those of reading the calibration and of the device.
pub fn choose(gpu: &Gpu, model: &ModelWeights, prune: &PruneConfig, calibration: &Calibration) -> Result<UnitSets> {
    let config = &model.config;
    let scores = match prune.method {
        Method::WandaSp => unit_scores(gpu, model, prune, (calibration, ScoreKind::Wanda), sums)?,
        Method::Flap => unit_scores(gpu, model, prune, (calibration, ScoreKind::Flap), thresholds::standardised)?,
        method => return Err(Error::Internal(format!("`{}` does not choose once", method.name()))),
    };
    let uniform = Plan::new(config, prune);
    let counts = match prune.method {
        Method::Flap => flap_counts(config, prune, &uniform, (&scores, calibration.recipe().seq_len)),
        _ => uniform.layers.clone(),
    };
    let recipe = calibration.recipe();
    let data = Some((recipe.data.clone(), recipe.data_sha256.clone()));
    let origin = Origin::of_method(&recipe.model_sha256, prune, data);
    let mut units = UnitSets { origin, layers: kept(&scores, &counts) };
    if prune.compensates() {
        add_biases(gpu, model, calibration, &mut units)?;
    }
    Ok(units)
}

/// The units that scores from elsewhere keep, as many in every layer as the settings say: those of query heads and of MLP
/// channels by layer, of which a layer's half that is not pruned may lack all. Heads that go together have one score.
///
/// # Errors
/// [`Error::Setting`] for scores that do not fit the model or are no numbers.
pub fn by_scores(
    config: &ModelConfig,
    prune: &PruneConfig,
    scores: &[[Vec<f64>; 2]],
    origin: Origin,
) -> Result<UnitSets> {
    let plan = Plan::new(config, prune);
    if scores.len() != plan.layers.len() {
        return Err(Error::Setting(format!("scores of {} layers for a model of {}", scores.len(), plan.layers.len())));
    }
    for (layer, scores) in scores.iter().enumerate() {
        for half in Half::BOTH {
            let (found, (units, _)) = (&scores[half.index()], half.units(config));
            let wanted = if found.is_empty() && !plan.prunes_half(layer, half) { 0 } else { units };
            if found.len() != wanted || found.iter().any(|score| score.is_nan()) {
                let found = found.len();
                return Err(Error::Setting(format!("layer {layer} has {found} scores; it needs {units} numbers")));
            }
        }
    }
    Ok(UnitSets { origin, layers: kept(scores, &plan.layers) })
}

/// The best units of every layer.
fn kept(scores: &[[Vec<f64>; 2]], counts: &[LayerPlan]) -> Vec<LayerUnits> {
    let best = |([heads, channels], counts): (&[Vec<f64>; 2], &LayerPlan)| {
        LayerUnits::new(best(heads, counts.heads), best(channels, counts.channels))
    };
    scores.iter().zip(counts).map(best).collect()
}

/// Counts by layer for a method that chooses by input: all layers alike, or as one threshold over its calibrated scores has them.
///
/// # Errors
/// [`Error::Setting`] where the threshold has no calibration, and those of reading it and of the device.
pub fn planned(gpu: &Gpu, model: &ModelWeights, prune: &PruneConfig, known: &Knowledge) -> Result<Plan> {
    let uniform = Plan::new(&model.config, prune);
    match prune.layer_ratios {
        LayerRatios::Uniform => Ok(uniform),
        LayerRatios::Threshold => {
            let calibration = known.calibration(prune)?;
            let scores = unit_scores(gpu, model, prune, (calibration, prune.score), thresholds::standardised)?;
            Ok(thresholds::plan(&model.config, prune, &uniform, (&scores, calibration.recipe().seq_len)))
        }
    }
}

/// FLAP's: what lies above the threshold, at least one unit of each kind; channels fill up their tile, heads their group.
/// The scores are of samples of `length` tokens.
fn flap_counts(
    config: &ModelConfig,
    prune: &PruneConfig,
    uniform: &Plan,
    (scores, length): (&Scores, usize),
) -> Vec<LayerPlan> {
    let group = thresholds::group(config, prune);
    let head_weight = thresholds::head_weight(config, group, length);
    let threshold = thresholds::threshold(scores, head_weight, 1.0 - uniform.layer_ratio);
    let full = uniform.full();
    let count = |scores: &[f64], all: usize, tile: usize| match scores.is_empty() {
        true => all,
        false => scores.iter().filter(|&&score| score > threshold).count().max(1).next_multiple_of(tile).min(all),
    };
    let layer = |[heads, channels]: &[Vec<f64>; 2]| LayerPlan {
        heads: count(heads, full.heads, group),
        channels: count(channels, full.channels, prune.tile),
    };
    scores.iter().map(layer).collect()
}

/// The `count` best units, ascending; ties go to the lower index. `None` where all stay.
fn best(scores: &[f64], count: usize) -> Option<Units> {
    if count >= scores.len() {
        return None;
    }
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
    order.truncate(count);
    order.sort_unstable();
    Some(Units { kept: order, bias: None })
}

/// Whether a layer's half may drop units at all.
fn prunable(prune: &PruneConfig, (layer, layers): (usize, usize), half: Half) -> bool {
    let wanted = match half {
        Half::Attention => prune.blocks.attention,
        Half::Mlp => prune.blocks.mlp,
    };
    wanted && prune.ratio > 0.0 && prune.pruned_layers(layers).contains(&layer)
}

/// Scores of every channel from calibrated statistics.
fn channel_scores(
    gpu: &Gpu,
    model: &ModelWeights,
    prune: &PruneConfig,
    calibration: &Calibration,
    score: ScoreKind,
) -> Result<Scores> {
    let powers = Powers::new(gpu, model, score)?;
    let mut scores = Scores::new();
    for (layer, weights) in model.layers.iter().enumerate() {
        let of = |half: Half| -> Result<Vec<f64>> {
            if !prunable(prune, (layer, model.layers.len()), half) {
                return Ok(Vec::new());
            }
            let statistic = match (prune.method, score) {
                (Method::Flap, _) | (_, ScoreKind::Flap) => calibration.fluctuation(layer, half)?,
                (Method::WandaSp, _) => calibration.history(layer, half, HistoryRows::One, Statistic::Energy)?,
                _ => calibration.history(layer, half, HistoryRows::One, prune.statistic)?,
            };
            let power: Vec<f32> = gpu.read(powers.of(layer, half, weights), statistic.len())?;
            let part = |(f, p): (&f32, &f32)| match score {
                ScoreKind::Wanda => f64::from(*f).sqrt() * f64::from(*p),
                ScoreKind::Ppsp | ScoreKind::Flap => f64::from(*f) * f64::from(*p),
            };
            Ok(statistic.iter().zip(&power).map(part).collect())
        };
        scores.push([of(Half::Attention)?, of(Half::Mlp)?]);
    }
    Ok(scores)
}

/// Scores of every unit; `of_channels` makes them from a half's channels, so many to a unit.
fn unit_scores(
    gpu: &Gpu,
    model: &ModelWeights,
    prune: &PruneConfig,
    (calibration, score): (&Calibration, ScoreKind),
    of_channels: fn(&[f64], usize) -> Vec<f64>,
) -> Result<Scores> {
    let units = |half: Half, channels: Vec<f64>| -> Vec<f64> {
        match channels.is_empty() {
            true => channels,
            false => share(half, model, prune, of_channels(&channels, half.units(&model.config).1)),
        }
    };
    let scores = channel_scores(gpu, model, prune, calibration, score)?;
    Ok(scores
        .into_iter()
        .map(|[heads, channels]| [units(Half::Attention, heads), units(Half::Mlp, channels)])
        .collect())
}

/// Scores that compare within a layer: the sums over a unit's channels.
fn sums(channels: &[f64], unit: usize) -> Vec<f64> {
    channels.chunks_exact(unit).map(|unit| unit.iter().sum()).collect()
}

/// Gives all heads of a key/value head their mean, where they go together.
fn share(half: Half, model: &ModelWeights, prune: &PruneConfig, scores: Vec<f64>) -> Vec<f64> {
    let group = model.config.group_size();
    if half == Half::Mlp || !prune.whole_groups {
        return scores;
    }
    let mean = |group: &[f64]| group.iter().sum::<f64>() / group.len() as f64;
    scores.chunks_exact(group).flat_map(|heads| vec![mean(heads); group]).collect()
}

/// Computes what the dropped units would have added on average.
fn add_biases(gpu: &Gpu, model: &ModelWeights, calibration: &Calibration, units: &mut UnitSets) -> Result<()> {
    let config = &model.config;
    let compensation = Compensation::new(gpu, config, Arc::new(Means::new(gpu, config, calibration)?))?;
    let masks = LayerMasks::for_plan(gpu, config, &units.plan(config))?;
    for (layer, (masks, weights)) in masks.iter().zip(&model.layers).enumerate() {
        for half in Half::BOTH {
            let (Some(mask), Some(units)) = (half.mask(masks), units.layers[layer].half_mut(half)) else { continue };
            mask.set(gpu, &units.kept, config.group_size())?;
            let mut rec = gpu.record();
            compensation.refresh(&mut rec, (layer, half), weights, mask)?;
            rec.submit()?;
            units.bias = Some(gpu.read(compensation.bias(layer, half), config.hidden_size)?);
        }
    }
    Ok(())
}

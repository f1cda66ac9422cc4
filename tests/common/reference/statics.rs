//! The methods that choose once, from calibrated statistics: Wanda for structures, and FLAP with one threshold for all layers.

use super::calibration::Calibration;
use super::probing::{best, kept_count, scores};
use super::{Half, Masks, Reference, Site};
use secateur::config::{MlpKind, PruneConfig, ScoreKind};
use std::collections::BTreeMap;

/// A choice, and how clear it is: the smallest gap, relative to the weakest kept, between kept and dropped.
pub struct Choice {
    pub masks: Masks,
    pub margin: f64,
}

/// Wanda's: `sqrt(mean square) sum |W|`, the same count in every layer.
pub fn wanda(model: &Reference, prune: &PruneConfig, calibration: &Calibration) -> Choice {
    let prune = PruneConfig { score: ScoreKind::Wanda, ..prune.clone() };
    let mut choice = Choice { masks: Masks::new(), margin: f64::INFINITY };
    for (&site, statistics) in &calibration.sites {
        let Some(count) = kept_count(&model.config, &prune, site) else { continue };
        let squares = &statistics.mean_squares;
        let mean = |c: usize| squares.iter().map(|row| row[c]).sum::<f64>() / squares.len() as f64;
        let f: Vec<f64> = (0..squares[0].len()).map(mean).collect();
        let (kept, margin) = best(&scores(model, &prune, site, &f), count, None);
        choice.masks.insert(site, kept);
        choice.margin = choice.margin.min(margin);
    }
    choice
}

/// FLAP's: `fluctuation sum W^2`, standardised within each layer's half, heads by the mean of their channels; what scores above one
/// threshold stays, and fills up its tile.
pub fn flap(model: &Reference, prune: &PruneConfig, calibration: &Calibration) -> Choice {
    let config = &model.config;
    let group = if prune.whole_groups { config.num_attention_heads / config.num_key_value_heads } else { 1 };
    let mut all: BTreeMap<Site, Vec<f64>> = BTreeMap::new();
    for (&site, statistics) in calibration.sites.iter().filter(|(site, _)| site.layer >= prune.dense_layers) {
        let (width, unit) = model.widths(site.half);
        let square = |k: usize| -> f64 { model.reader(site).chunks_exact(width).map(|row| row[k] * row[k]).sum() };
        let raw: Vec<f64> = (0..width).map(|k| statistics.fluctuation[k] * square(k)).collect();
        let mean = raw.iter().sum::<f64>() / width as f64;
        let deviation = (raw.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (width - 1) as f64).sqrt();
        let together = if site.half == Half::Attention { unit * group } else { unit };
        let of = |channels: &[f64]| {
            let score = channels.iter().map(|x| (x - mean) / deviation).sum::<f64>() / channels.len() as f64;
            vec![score; channels.len() / unit]
        };
        all.insert(site, raw.chunks_exact(together).flat_map(of).collect());
    }
    // Multiply-adds of a unit for a token, by the hidden size: a channel has a row in each matrix of the MLP, a head `d` rows in two, its share of
    // those of k and v where they go with it, and `d` products with every token's key and value.
    let d = config.head_dim as f64;
    let attention = 2.0 * d * calibration.length as f64 / config.hidden_size as f64;
    let matrices = if group == config.num_attention_heads / config.num_key_value_heads {
        2.0 * d + 2.0 * d / group as f64
    } else {
        2.0 * d
    };
    let of_head = matrices + attention;
    let of_channel = if config.blocks.mlp == MlpKind::Relu { 2.0 } else { 3.0 };
    let cost = |site: &Site| if site.half == Half::Attention { of_head } else { of_channel };
    let mut ranked: Vec<(f64, f64)> =
        all.iter().flat_map(|(site, scores)| scores.iter().map(move |&score| (score, cost(site)))).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let layers = config.num_hidden_layers as f64;
    let ratio = format!("{:.2}", layers / (layers - prune.dense_layers as f64) * prune.ratio);
    let ratio: f64 = ratio.parse().expect("a number");
    let wanted = (1.0 - ratio) * ranked.iter().map(|(_, cost)| cost).sum::<f64>();
    let mut sums = ranked.iter().scan(0.0, |sum, (_, cost)| {
        *sum += cost;
        Some(*sum)
    });
    let mut nearest = (f64::INFINITY, 0);
    for (index, sum) in sums.by_ref().enumerate() {
        if (sum - wanted).abs() < nearest.0 {
            nearest = ((sum - wanted).abs(), index);
        }
    }
    let threshold = ranked[nearest.1].0;
    let mut choice = Choice { masks: Masks::new(), margin: f64::INFINITY };
    for (site, scores) in all {
        let step = if site.half == Half::Attention { group } else { prune.tile };
        let above = scores.iter().filter(|&&score| score > threshold).count();
        let count = above.max(1).div_ceil(step) * step;
        if count >= scores.len() {
            continue;
        }
        // Scores lie around zero: gaps are absolute, in deviations.
        let (kept, _) = best(&scores, count, None);
        let weakest = kept.iter().map(|&unit| scores[unit as usize]).fold(f64::INFINITY, f64::min);
        let dropped = |unit: &usize| !kept.contains(&(*unit as u32));
        let strongest = (0..scores.len()).filter(dropped).map(|unit| scores[unit]).fold(f64::MIN, f64::max);
        choice.margin = choice.margin.min(weakest - strongest);
        choice.masks.insert(site, kept);
    }
    choice
}

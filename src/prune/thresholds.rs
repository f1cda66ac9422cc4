//! One threshold over the scores of all layers (FLAP, arXiv 2312.11983, section 3.2): layers whose units stand out keep more.

use super::{LayerPlan, Plan};
use crate::config::{ModelConfig, PruneConfig};

/// Scores of every unit, by layer and half; empty where nothing may be dropped.
pub(super) type Scores = Vec<[Vec<f64>; 2]>;

/// Scores of every channel to scores of every unit: standardised within each layer's half, then averaged over the `unit` channels
/// (FLAP's order).
pub(super) fn standardised(channels: &[f64], unit: usize) -> Vec<f64> {
    let n = channels.len() as f64;
    let mean = channels.iter().sum::<f64>() / n;
    let variance = channels.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let deviation = variance.sqrt();
    // Channels that are all alike stand out nowhere.
    let standard = |x: &f64| if deviation > 0.0 { (x - mean) / deviation } else { 0.0 };
    let standard: Vec<f64> = channels.iter().map(standard).collect();
    standard.chunks_exact(unit).map(|unit| unit.iter().sum::<f64>() / unit.len() as f64).collect()
}

/// FLOPs that a dropped query head saves, in those of an MLP channel, per token: its rows of q and o, its share of k and v where
/// those go with it, and its attention to `length` tokens. `group` heads are dropped together.
pub(super) fn head_weight(model: &ModelConfig, group: usize, length: usize) -> f64 {
    let keys_and_values = if group == model.group_size() { 2.0 / group as f64 } else { 0.0 };
    let attention = 2.0 * length as f64 / model.hidden_size as f64;
    (2.0 + keys_and_values + attention) * model.head_dim as f64 / (1 + model.blocks.mlp.matrices()) as f64
}

/// The scores from which on units are kept so that the kept ones have `share` of the FLOPs of all. FLAP's rule: of all scores
/// the one at which the running sum of FLOPs, best first, is nearest to that share; it is dropped itself.
pub(super) fn threshold(scores: &Scores, head_weight: f64, share: f64) -> f64 {
    let mut all: Vec<(f64, f64)> = Vec::new();
    for [heads, channels] in scores {
        all.extend(heads.iter().map(|&score| (score, head_weight)));
        all.extend(channels.iter().map(|&score| (score, 1.0)));
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let wanted = share * all.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut sum = 0.0;
    let mut nearest = (f64::INFINITY, f64::NEG_INFINITY);
    for (score, weight) in all {
        sum += weight;
        let distance = (sum - wanted).abs();
        if distance < nearest.0 {
            nearest = (distance, score);
        }
    }
    nearest.1
}

/// Query heads that go together.
pub(super) fn group(model: &ModelConfig, prune: &PruneConfig) -> usize {
    if prune.whole_groups { model.group_size() } else { 1 }
}

/// Counts by layer that a threshold gives at the FLOPs of `uniform`, of which every layer keeps at least a unit of each kind;
/// channels come in tiles. The scores are of samples of `length` tokens.
pub(super) fn plan(
    model: &ModelConfig,
    prune: &PruneConfig,
    uniform: &Plan,
    (scores, length): (&Scores, usize),
) -> Plan {
    let group = group(model, prune);
    let weight = head_weight(model, group, length);
    let cost = |counts: &LayerPlan, scored: &[Vec<f64>; 2]| {
        let heads = if scored[0].is_empty() { 0.0 } else { counts.heads as f64 * weight };
        heads + if scored[1].is_empty() { 0.0 } else { counts.channels as f64 }
    };
    let full = uniform.full();
    let wanted: f64 = uniform.layers.iter().zip(scores).map(|(counts, scored)| cost(counts, scored)).sum();
    let counts_at = |share: f64| -> Vec<LayerPlan> {
        let threshold = threshold(scores, weight, share);
        let above = |half: &[f64]| half.iter().filter(|&&score| score > threshold).count();
        let counts = |scored: &[Vec<f64>; 2]| LayerPlan {
            heads: match scored[0].is_empty() {
                true => full.heads,
                false => nearest_multiple(above(&scored[0]), group).min(full.heads),
            },
            channels: match scored[1].is_empty() {
                true => full.channels,
                false => nearest_multiple(above(&scored[1]), prune.tile).min(full.channels),
            },
        };
        scores.iter().map(counts).collect()
    };
    // Rounding and the units that always stay move the cost: look for the share at which it is met.
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        let found: f64 = counts_at(middle).iter().zip(scores).map(|(counts, scored)| cost(counts, scored)).sum();
        if found < wanted { low = middle } else { high = middle }
    }
    Plan::of_counts(model, counts_at(high)).by_groups(group)
}

/// The multiple of `of` that is nearest to `count`, at least `of`.
fn nearest_multiple(count: usize, of: usize) -> usize {
    ((count + of / 2) / of).max(1) * of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_standardised_by_channel_and_averaged_by_unit() {
        // Mean 3, unbiased deviation 2.
        assert_eq!(standardised(&[1.0, 3.0, 5.0], 1), [-1.0, 0.0, 1.0]);
        assert_eq!(standardised(&[2.0; 4], 2), [0.0, 0.0]);
        let found = standardised(&[0.0, 0.0, 0.0, 4.0], 2);
        assert_eq!(found, [-0.5, 0.5]);
    }

    #[test]
    fn the_threshold_weighs_units_by_their_flops() {
        // Best first: a head (weight 4), then channels 3, 2, 1: sums 4, 5, 6, 7.
        let scores: Scores = vec![[vec![9.0], vec![1.0, 3.0]], [vec![], vec![2.0]]];
        assert_eq!(threshold(&scores, 4.0, 4.9 / 7.0), 3.0, "5 is nearest to 4.9");
        assert_eq!(threshold(&scores, 4.0, 1.0), 1.0);
        assert_eq!(threshold(&scores, 4.0, 0.0), 9.0);
    }

    #[test]
    fn multiples_are_the_nearest_and_never_none() {
        assert_eq!([0, 31, 32, 95, 97].map(|count| nearest_multiple(count, 64)), [64, 64, 64, 64, 128]);
        assert_eq!([0, 1, 5].map(|count| nearest_multiple(count, 1)), [1, 1, 5]);
    }
}

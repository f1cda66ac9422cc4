//! Probe Pruning of a batch, written down from the paper (arXiv 2502.15618, sections 4.1 to 4.4) with the defaults of the
//! authors' implementation: which states run ahead, what they say about each unit, what is kept, how history follows.

use super::calibration::{Calibration, History};
use super::{Before, Half, Masks, Method, Past, Reference, Site};
use secateur::config::{Fusion, Method as Name, ModelConfig, PruneConfig, ScoreKind, Statistic};
use std::collections::BTreeMap;

/// Units that a half of `layer` keeps; `None` where nothing is pruned.
pub fn kept_count(model: &ModelConfig, prune: &PruneConfig, site: Site) -> Option<usize> {
    let layers = model.num_hidden_layers;
    if site.layer < prune.dense_layers || prune.method == Name::Dense {
        return None;
    }
    // Python's round(x, 2), so that the mean over all layers is the wished ratio.
    let ratio = layers as f64 / (layers - prune.dense_layers) as f64 * prune.ratio;
    let ratio = format!("{ratio:.2}").parse::<f64>().expect("a number").min(1.0);
    // Heads that go together are one.
    let together = if site.half == Half::Attention && prune.whole_groups {
        model.num_attention_heads / model.num_key_value_heads
    } else {
        1
    };
    let all = match site.half {
        Half::Attention => model.num_attention_heads / together,
        Half::Mlp => model.intermediate_size,
    };
    // Something always stays.
    let mut kept = (all - (ratio * all as f64) as usize).max(1);
    while site.half == Half::Mlp && !kept.is_multiple_of(prune.tile) && kept < all {
        kept += 1;
    }
    (kept < all).then_some(kept * together)
}

/// What one probe saw and decided. A margin is the relative gap between the weakest kept and the strongest dropped.
#[derive(Debug, Clone)]
pub struct Trace {
    pub tokens: Vec<u32>,
    pub samples: Vec<u32>,
    /// Fused statistic by channel.
    pub statistic: Vec<f64>,
    /// The statistic alone, summed over the probe's tokens.
    pub plain: Vec<f64>,
    pub scores: Vec<f64>,
    pub kept: Vec<u32>,
    pub token_margin: f64,
    pub sample_margin: f64,
    pub score_margin: f64,
}

/// Probe Pruning, or full-batch probing where the settings say so.
pub struct ProbePruning {
    pub prune: PruneConfig,
    /// What statistics are fused with.
    pub history: Option<History>,
    /// Whether the history follows the batches.
    pub follows: bool,
    /// Where means are taken from, if settings need any.
    pub calibration: Option<Calibration>,
    pub traces: BTreeMap<Site, Trace>,
}

impl ProbePruning {
    pub fn new(
        prune: &PruneConfig,
        history: Option<History>,
        follows: bool,
        calibration: Option<&Calibration>,
    ) -> ProbePruning {
        let history = history.filter(|_| prune.method == Name::Pp);
        let calibration = calibration.cloned();
        ProbePruning { prune: prune.clone(), history, follows, calibration, traces: BTreeMap::new() }
    }

    /// Kept units of the last batch.
    pub fn masks(&self) -> Masks {
        self.traces.iter().map(|(&site, trace)| (site, trace.kept.clone())).collect()
    }

    /// Section 4.1: `(tokens, samples)`, each with its margin.
    fn probe(&self, half: Half, x: &[Vec<f64>], hidden: usize) -> ((Vec<u32>, f64), (Vec<u32>, f64)) {
        let norms: Vec<Vec<f64>> =
            x.iter().map(|x| x.chunks_exact(hidden).map(|row| super::dot(row, row).sqrt()).collect()).collect();
        let length = norms.iter().map(Vec::len).max().expect("a batch");
        let share = |share: f64, of: usize| (share * of as f64).ceil() as usize;
        let (mut of_tokens, mut of_samples) = (self.prune.probe_tokens, self.prune.probe_samples);
        if let (Half::Attention, Some(own)) = (half, self.prune.probe_heads) {
            (of_tokens, of_samples) = (own.tokens, own.samples);
        }
        let (token_count, sample_count) = match self.prune.method {
            Name::FullBatch => (length, x.len()),
            _ => (share(of_tokens, length).max(2), share(of_samples, x.len())),
        };
        let (token_count, sample_count) = (token_count.min(length), sample_count.clamp(1, x.len()));
        // A token that a sample does not have adds nothing.
        let square = |b: usize, t: usize| norms[b].get(t).map_or(0.0, |norm| norm * norm);
        let by_token: Vec<f64> = (0..length).map(|t| (0..x.len()).map(|b| square(b, t)).sum::<f64>().sqrt()).collect();
        let tokens = best(&by_token, token_count, (token_count <= 10).then_some(0));
        let by_sample: Vec<f64> =
            (0..x.len()).map(|b| tokens.0.iter().map(|&t| square(b, t as usize)).sum::<f64>().sqrt()).collect();
        let samples = best(&by_sample, sample_count, None);
        (tokens, samples)
    }

    /// The statistic `a[t][c]` of the probe: the mean over its samples that have token `t` of what is measured of ranked inputs.
    fn statistic(
        &self,
        model: &Reference,
        site: Site,
        before: &Before<'_>,
        tokens: &[u32],
        samples: &[u32],
    ) -> Vec<Vec<f64>> {
        let (hidden, width) = (model.config.hidden_size, model.widths(site.half).0);
        let mut sums = vec![(vec![0.0; width], 0usize); tokens.len()];
        for &sample in samples {
            let (normed, first) = (&before.normed[sample as usize], before.first[sample as usize]);
            let real: Vec<usize> = tokens.iter().map(|&t| t as usize).filter(|t| t * hidden < normed.len()).collect();
            let rows: Vec<f64> = real.iter().flat_map(|t| normed[t * hidden..][..hidden].to_vec()).collect();
            let positions: Vec<usize> = real.iter().map(|t| first + t).collect();
            // The compressed sequence attends to itself alone, causally, each token at its own position.
            let ranked = model.ranked_input(site, &rows, &positions, &mut Past::default());
            let values = measured(&self.prune, self.calibration.as_ref(), site, &ranked);
            for ((sum, count), row) in sums.iter_mut().zip(values.chunks_exact(width)) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                *count += 1;
            }
        }
        sums.into_iter().map(|(sum, count)| sum.iter().map(|sum| sum / count.max(1) as f64).collect()).collect()
    }
}

impl Method for ProbePruning {
    fn choose(&mut self, model: &Reference, site: Site, before: &Before<'_>) -> Option<Vec<u32>> {
        let count = kept_count(&model.config, &self.prune, site)?;
        let ((tokens, token_margin), (samples, sample_margin)) =
            self.probe(site.half, before.residual, model.config.hidden_size);
        let a = self.statistic(model, site, before, &tokens, &samples);
        let width = model.widths(site.half).0;
        let (mut statistic, mut plain) = (vec![0.0; width], vec![0.0; width]);
        for (a, &token) in a.iter().zip(&tokens) {
            let h = self.history.as_ref().map(|history| history.at(site, token as usize));
            for c in 0..width {
                statistic[c] += h.map_or(a[c], |h| fuse(self.prune.fusion, a[c], h[c]));
                plain[c] += a[c];
            }
        }
        let scores = scores(model, &self.prune, site, &statistic);
        let (kept, score_margin) = best(&scores, count, None);
        let trace = Trace {
            tokens,
            samples,
            statistic,
            plain,
            scores,
            kept: kept.clone(),
            token_margin,
            sample_margin,
            score_margin,
        };
        self.traces.insert(site, trace);
        Some(kept)
    }

    fn ran(&mut self, site: Site, inputs: &[Vec<f64>], kept: Option<&[u32]>) {
        let (true, Some(kept)) = (self.follows, kept) else { return };
        let values: Vec<Vec<f64>> =
            inputs.iter().map(|input| measured(&self.prune, self.calibration.as_ref(), site, input)).collect();
        let Some(history) = &mut self.history else { return };
        let unit = history.rows[&site][0].len() / self.traces[&site].scores.len();
        let columns: Vec<usize> = kept.iter().flat_map(|&u| u as usize * unit..(u as usize + 1) * unit).collect();
        history.follow(site, &columns, &values, f64::from(self.prune.ema));
    }

    fn stand_in(&self, site: Site) -> Option<&[f64]> {
        stand_in(&self.prune, self.calibration.as_ref(), site)
    }
}

/// What is measured of activations `[tokens][width]`: squares, or squared distances from the calibrated means.
pub fn measured(prune: &PruneConfig, calibration: Option<&Calibration>, site: Site, inputs: &[f64]) -> Vec<f64> {
    match prune.statistic {
        Statistic::Energy => inputs.iter().map(|x| x * x).collect(),
        Statistic::Fluctuation => {
            let mean = &calibration.expect("a fluctuation needs means").sites[&site].mean;
            inputs.iter().zip(mean.iter().cycle()).map(|(x, mean)| (x - mean).powi(2)).collect()
        }
    }
}

/// What dropped inputs count as: their calibrated means, where settings want that.
pub fn stand_in<'c>(prune: &PruneConfig, calibration: Option<&'c Calibration>, site: Site) -> Option<&'c [f64]> {
    prune.compensate.then(|| &calibration.expect("a compensation needs means").sites[&site].mean[..])
}

/// Fusion of a statistic with history.
pub fn fuse(fusion: Fusion, a: f64, h: f64) -> f64 {
    let w = match fusion {
        Fusion::Scaled => a / (a + h + 1e-6),
        Fusion::Fixed(weight) => f64::from(weight),
    };
    w * a + (1.0 - w) * h
}

/// Scores of units: of a column `||f[k] W[:, k]^2||`, `sqrt(f[k]) sum |W[:, k]|` or `f[k] sum W[:, k]^2`; of a unit (or of all heads
/// that go together) the norm, the sum or the mean of its columns' scores.
pub fn scores(model: &Reference, prune: &PruneConfig, site: Site, f: &[f64]) -> Vec<f64> {
    let (width, unit) = model.widths(site.half);
    let over = |k: usize, of: &dyn Fn(f64) -> f64| -> f64 {
        model.reader(site).chunks_exact(width).map(|row| of(row[k])).sum()
    };
    let column = |k: usize| match prune.score {
        ScoreKind::Ppsp => over(k, &|w| (f[k] * w * w).powi(2)).sqrt(),
        ScoreKind::Wanda => f[k].sqrt() * over(k, &f64::abs),
        ScoreKind::Flap => f[k] * over(k, &|w| w * w),
    };
    let columns: Vec<f64> = (0..width).map(column).collect();
    let together = match site.half {
        Half::Attention if prune.whole_groups => model.config.num_attention_heads / model.config.num_key_value_heads,
        _ => 1,
    };
    let score = |columns: &[f64]| match prune.score {
        ScoreKind::Ppsp => super::dot(columns, columns).sqrt(),
        ScoreKind::Wanda => columns.iter().sum(),
        ScoreKind::Flap => columns.iter().sum::<f64>() / columns.len() as f64,
    };
    columns.chunks_exact(unit * together).flat_map(|columns| vec![score(columns); together]).collect()
}

/// The `keep` best, ascending, ties to the lower index, `forced` always among them; and the margin.
pub fn best(scores: &[f64], keep: usize, forced: Option<usize>) -> (Vec<u32>, f64) {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let key = |i: usize| (Some(i) != forced, -scores[i], i);
    order.sort_by(|&a, &b| key(a).partial_cmp(&key(b)).expect("scores are numbers"));
    let (kept, dropped) = order.split_at(keep);
    let weakest = kept.iter().filter(|&&i| Some(i) != forced).map(|&i| scores[i]).fold(f64::INFINITY, f64::min);
    let margin = match dropped.first().map(|&i| scores[i]) {
        None => 1.0,
        // Nothing but the forced one is kept.
        Some(_) if weakest.is_infinite() => 1.0,
        Some(strongest) if weakest > 0.0 => (weakest - strongest) / weakest,
        // Nothing at all, of channels that a ReLU has shut: in 32 bits as in 64, and the lower indices stay.
        Some(0.0) if weakest == 0.0 => 1.0,
        Some(_) => 0.0,
    };
    let mut kept: Vec<u32> = kept.iter().map(|&i| i as u32).collect();
    kept.sort_unstable();
    (kept, margin)
}

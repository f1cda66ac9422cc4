//! Probe Pruning of a batch, written down from the paper (arXiv 2502.15618, sections 4.1 to 4.4) with the defaults of the
//! authors' implementation: which states run ahead, what they say about each unit, what is kept, how history follows.

use super::{Before, Half, Masks, Method, Past, Reference, Site};
use secateur::config::{Method as Name, ModelConfig, PruneConfig};
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
    let all = match site.half {
        Half::Attention => model.num_attention_heads,
        Half::Mlp => model.intermediate_size,
    };
    // Something always stays.
    let mut kept = (all - (ratio * all as f64) as usize).max(1);
    while site.half == Half::Mlp && !kept.is_multiple_of(prune.tile) && kept < all {
        kept += 1;
    }
    (kept < all).then_some(kept)
}

/// Mean squared ranked inputs, by site; a row for every position, or one for all.
#[derive(Debug, Clone)]
pub struct History {
    pub collapsed: bool,
    /// `[position][width]`, or one row.
    pub rows: BTreeMap<Site, Vec<Vec<f64>>>,
}

impl History {
    /// Mean over the samples of a dense pass of squared inputs (collapsed: over samples and positions).
    pub fn calibrate(model: &Reference, batch: &[Vec<u32>], collapsed: bool) -> History {
        let run = model.run_batch(batch, &mut Masks::new());
        let (samples, length) = (batch.len(), batch[0].len());
        let mean = |half: Half, inputs: &[Vec<f64>]| -> Vec<Vec<f64>> {
            let width = model.widths(half).0;
            let square = |b: usize, t: usize, c: usize| inputs[b][t * width + c].powi(2);
            let over_samples = |t: usize, c: usize| (0..samples).map(|b| square(b, t, c)).sum::<f64>() / samples as f64;
            let over_all = |c: usize| (0..length).map(|t| over_samples(t, c)).sum::<f64>() / length as f64;
            match collapsed {
                true => vec![(0..width).map(over_all).collect()],
                false => (0..length).map(|t| (0..width).map(|c| over_samples(t, c)).collect()).collect(),
            }
        };
        let mut rows = BTreeMap::new();
        for layer in 0..model.config.num_hidden_layers {
            rows.insert(Site { layer, half: Half::Attention }, mean(Half::Attention, &run.mixed[layer]));
            rows.insert(Site { layer, half: Half::Mlp }, mean(Half::Mlp, &run.active[layer]));
        }
        History { collapsed, rows }
    }

    /// The row that a token of this position has.
    pub fn at(&self, site: Site, position: usize) -> &[f64] {
        &self.rows[&site][if self.collapsed { 0 } else { position }]
    }
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
    pub history: Option<History>,
    /// Factor of the old history, where it follows the batches.
    pub ema: Option<f64>,
    pub traces: BTreeMap<Site, Trace>,
}

impl ProbePruning {
    pub fn new(prune: &PruneConfig, history: Option<History>, ema: Option<f64>) -> ProbePruning {
        ProbePruning { prune: prune.clone(), history, ema, traces: BTreeMap::new() }
    }

    /// Kept units of the last batch.
    pub fn masks(&self) -> Masks {
        self.traces.iter().map(|(&site, trace)| (site, trace.kept.clone())).collect()
    }

    /// Section 4.1: `(tokens, samples)`, each with its margin.
    fn probe(&self, x: &[Vec<f64>], hidden: usize) -> ((Vec<u32>, f64), (Vec<u32>, f64)) {
        let norms: Vec<Vec<f64>> =
            x.iter().map(|x| x.chunks_exact(hidden).map(|row| super::dot(row, row).sqrt()).collect()).collect();
        let length = norms.iter().map(Vec::len).max().expect("a batch");
        let share = |share: f64, of: usize| (share * of as f64).ceil() as usize;
        let (token_count, sample_count) = match self.prune.method {
            Name::FullBatch => (length, x.len()),
            _ => (share(self.prune.probe_tokens, length).max(2), share(self.prune.probe_samples, x.len())),
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

    /// The statistic `a[t][c]` of the probe: the mean over its samples that have token `t` of squared ranked inputs.
    fn statistic(model: &Reference, site: Site, before: &Before<'_>, tokens: &[u32], samples: &[u32]) -> Vec<Vec<f64>> {
        let (hidden, width) = (model.config.hidden_size, model.widths(site.half).0);
        let mut sums = vec![(vec![0.0; width], 0usize); tokens.len()];
        for &sample in samples {
            let (normed, first) = (&before.normed[sample as usize], before.first[sample as usize]);
            let real: Vec<usize> = tokens.iter().map(|&t| t as usize).filter(|t| t * hidden < normed.len()).collect();
            let rows: Vec<f64> = real.iter().flat_map(|t| normed[t * hidden..][..hidden].to_vec()).collect();
            let positions: Vec<usize> = real.iter().map(|t| first + t).collect();
            // The compressed sequence attends to itself alone, causally, each token at its own position.
            let ranked = model.ranked_input(site, &rows, &positions, &mut Past::default());
            for ((sum, count), row) in sums.iter_mut().zip(ranked.chunks_exact(width)) {
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
                *count += 1;
            }
        }
        sums.into_iter().map(|(sum, count)| sum.iter().map(|sum| sum / count.max(1) as f64).collect()).collect()
    }
}

impl Method for ProbePruning {
    fn choose(&mut self, model: &Reference, site: Site, before: &Before<'_>) -> Option<Vec<u32>> {
        let count = kept_count(&model.config, &self.prune, site)?;
        let ((tokens, token_margin), (samples, sample_margin)) = self.probe(before.residual, model.config.hidden_size);
        let a = Self::statistic(model, site, before, &tokens, &samples);
        let history = self.history.as_ref().filter(|_| self.prune.method == Name::Pp);
        let width = model.widths(site.half).0;
        let (mut statistic, mut plain) = (vec![0.0; width], vec![0.0; width]);
        for (a, &token) in a.iter().zip(&tokens) {
            let h = history.map(|history| history.at(site, token as usize));
            for c in 0..width {
                statistic[c] += h.map_or(a[c], |h| fuse(a[c], h[c]));
                plain[c] += a[c];
            }
        }
        let scores = scores(model, site, &statistic);
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
        let (Some(history), Some(ema), Some(kept)) = (&mut self.history, self.ema, kept) else { return };
        let rows = history.rows.get_mut(&site).expect("a history of every site");
        let width = rows[0].len();
        let unit = width / self.traces[&site].scores.len();
        let columns: Vec<usize> = kept.iter().flat_map(|&u| u as usize * unit..(u as usize + 1) * unit).collect();
        let length = inputs.iter().map(|input| input.len() / width).max().expect("a batch");
        // A collapsed history takes all tokens as one.
        let groups: Vec<Vec<usize>> =
            if history.collapsed { vec![(0..length).collect()] } else { (0..length).map(|t| vec![t]).collect() };
        for (row, tokens) in rows.iter_mut().zip(groups) {
            for &c in &columns {
                let seen: Vec<f64> = tokens
                    .iter()
                    .flat_map(|t| inputs.iter().filter_map(move |input| input.get(t * width + c)))
                    .map(|x| x * x)
                    .collect();
                row[c] = ema * row[c] + (1.0 - ema) * seen.iter().sum::<f64>() / seen.len() as f64;
            }
        }
    }
}

/// Importance-scaled fusion of a statistic with history.
pub fn fuse(a: f64, h: f64) -> f64 {
    let w = a / (a + h + 1e-6);
    w * a + (1.0 - w) * h
}

/// PPsp scores: of a column `||f[k] W[:, k]^2||`, of a unit the norm of its columns' scores.
pub fn scores(model: &Reference, site: Site, f: &[f64]) -> Vec<f64> {
    let (width, unit) = model.widths(site.half);
    let squared =
        |k: usize| -> f64 { model.reader(site).chunks_exact(width).map(|row| (f[k] * row[k] * row[k]).powi(2)).sum() };
    let columns: Vec<f64> = (0..width).map(squared).collect();
    columns.chunks_exact(unit).map(|unit| unit.iter().sum::<f64>().sqrt()).collect()
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
        Some(_) => 0.0,
    };
    let mut kept: Vec<u32> = kept.iter().map(|&i| i as u32).collect();
    kept.sort_unstable();
    (kept, margin)
}

//! What dense runs say about every ranked input, and the histories made of it: from the definitions, in 64 bits.

use super::{Half, Masks, Reference, Site};
use secateur::config::{HistoryKind, Statistic};
use secateur::prune::{self, Calibration as Measured};
use std::collections::BTreeMap;

/// Statistics of one ranked input.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    /// Mean of every channel over all tokens, `[width]`.
    pub mean: Vec<f64>,
    /// FLAP's fluctuation, `[width]`.
    pub fluctuation: Vec<f64>,
    /// Mean over the samples by position, `[position][width]`.
    pub means: Vec<Vec<f64>>,
    /// Mean square over the samples by position, `[position][width]`.
    pub mean_squares: Vec<Vec<f64>>,
}

/// Statistics of dense runs, by site.
#[derive(Debug, Clone, Default)]
pub struct Calibration {
    pub sites: BTreeMap<Site, Statistics>,
    /// Tokens of a sample.
    pub length: usize,
}

impl Calibration {
    /// Runs samples of one length.
    pub fn measure(model: &Reference, samples: &[Vec<u32>]) -> Calibration {
        let run = model.run_batch(samples, &mut Masks::new());
        let mut sites = BTreeMap::new();
        for layer in 0..model.config.num_hidden_layers {
            for (half, inputs) in [(Half::Attention, &run.mixed[layer]), (Half::Mlp, &run.active[layer])] {
                sites.insert(Site { layer, half }, Statistics::of(inputs, model.widths(half).0));
            }
        }
        Calibration { sites, length: samples[0].len() }
    }

    /// The values that the engine measured, by position.
    pub fn read(model: &Reference, measured: &Measured) -> Calibration {
        let mut sites = BTreeMap::new();
        let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<f64>>();
        for layer in 0..model.config.num_hidden_layers {
            for (half, theirs) in [(Half::Attention, prune::Half::Attention), (Half::Mlp, prune::Half::Mlp)] {
                let found = measured.measured(layer, theirs).expect("finite values");
                let rows = |values: &[f32]| values.chunks_exact(model.widths(half).0).map(wide).collect();
                let statistics = Statistics {
                    mean: wide(&found.mean),
                    fluctuation: wide(&found.fluctuation),
                    means: rows(&found.means),
                    mean_squares: rows(&found.mean_squares),
                };
                sites.insert(Site { layer, half }, statistics);
            }
        }
        Calibration { sites, length: measured.recipe().seq_len }
    }

    /// Mean squares, or mean squared distances from the mean of all tokens, over the positions of each row.
    pub fn history(&self, kind: HistoryKind, statistic: Statistic) -> Option<History> {
        let grouped = |statistics: &Statistics| -> Vec<Vec<f64>> {
            let Statistics { mean, means, mean_squares, .. } = statistics;
            let value = |t: usize, c: usize| match statistic {
                Statistic::Energy => mean_squares[t][c],
                Statistic::Fluctuation => mean_squares[t][c] - 2.0 * mean[c] * means[t][c] + mean[c] * mean[c],
            };
            let mut rows: Vec<Vec<usize>> = Vec::new();
            for t in 0..means.len() {
                let row = row(kind, t);
                rows.resize((row + 1).max(rows.len()), Vec::new());
                rows[row].push(t);
            }
            let over = |ts: &Vec<usize>, c: usize| ts.iter().map(|&t| value(t, c)).sum::<f64>() / ts.len() as f64;
            rows.iter().map(|ts| (0..mean.len()).map(|c| over(ts, c)).collect()).collect()
        };
        let rows = || self.sites.iter().map(|(&site, statistics)| (site, grouped(statistics))).collect();
        (kind != HistoryKind::Off).then(|| History { kind, rows: rows() })
    }
}

impl Statistics {
    /// Of inputs by sample, `[tokens][width]`.
    fn of(inputs: &[Vec<f64>], width: usize) -> Statistics {
        let (samples, length) = (inputs.len() as f64, inputs[0].len() / width);
        let over_samples = |value: &dyn Fn(f64) -> f64| -> Vec<Vec<f64>> {
            let mean = |at: usize| inputs.iter().map(|input| value(input[at])).sum::<f64>() / samples;
            (0..length).map(|t| (0..width).map(|c| mean(t * width + c)).collect()).collect()
        };
        let (mut mean, mut fluctuation) = (vec![0.0; width], vec![0.0; width]);
        for (index, input) in inputs.iter().enumerate() {
            for c in 0..width {
                let n = index as f64 + 1.0;
                let column: Vec<f64> = input.iter().skip(c).step_by(width).copied().collect();
                let before = mean[c];
                mean[c] = ((n - 1.0) * before + column.iter().sum::<f64>() / length as f64) / n;
                let products: f64 = column.iter().map(|x| (x - before) * (x - mean[c])).sum();
                if index > 0 {
                    fluctuation[c] = fluctuation[c] * (n - 2.0) / (n - 1.0) + products / n;
                }
            }
        }
        Statistics { mean, fluctuation, means: over_samples(&|x| x), mean_squares: over_samples(&|x| x * x) }
    }
}

/// The row of a position: its own, that of its range (0, 1, 2 to 3, 4 to 7 and so on), or the one there is.
fn row(kind: HistoryKind, position: usize) -> usize {
    match kind {
        HistoryKind::Exact => position,
        HistoryKind::Buckets => (0..).find(|&row| position < 1 << row).expect("a power of two"),
        HistoryKind::Collapsed | HistoryKind::Off => 0,
    }
}

/// What is remembered of ranked inputs, by site.
#[derive(Debug, Clone)]
pub struct History {
    pub kind: HistoryKind,
    /// `[row][width]`.
    pub rows: BTreeMap<Site, Vec<Vec<f64>>>,
}

impl History {
    /// Zeros for samples of `length` tokens.
    pub fn empty(model: &Reference, kind: HistoryKind, length: usize) -> History {
        let rows = row(kind, length - 1) + 1;
        let mut all = BTreeMap::new();
        for layer in 0..model.config.num_hidden_layers {
            for half in [Half::Attention, Half::Mlp] {
                all.insert(Site { layer, half }, vec![vec![0.0; model.widths(half).0]; rows]);
            }
        }
        History { kind, rows: all }
    }

    /// Row of a position at a site; the last range has no end.
    fn row(&self, site: Site, position: usize) -> usize {
        match self.kind {
            HistoryKind::Exact => position,
            kind => row(kind, position).min(self.rows[&site].len() - 1),
        }
    }

    /// The row that a token of this position has.
    pub fn at(&self, site: Site, position: usize) -> &[f64] {
        &self.rows[&site][self.row(site, position)]
    }

    /// Whether it has a row for every position of samples of `length`.
    pub fn covers(&self, length: usize) -> bool {
        self.kind != HistoryKind::Exact || self.rows.values().all(|rows| rows.len() >= length)
    }

    /// `h = ema h + (1 - ema) mean of the values that fall into the row`, for some columns. `values` by sample, `[tokens][width]`.
    pub fn follow(&mut self, site: Site, columns: &[usize], values: &[Vec<f64>], ema: f64) {
        let width = self.rows[&site][0].len();
        let length = values.iter().map(|values| values.len() / width).max().expect("a batch");
        for row in 0..self.rows[&site].len() {
            let tokens: Vec<usize> = (0..length).filter(|&t| self.row(site, t) == row).collect();
            for &c in columns {
                let seen: Vec<f64> = tokens
                    .iter()
                    .flat_map(|t| values.iter().filter_map(move |values| values.get(t * width + c).copied()))
                    .collect();
                if !seen.is_empty() {
                    let h = &mut self.rows.get_mut(&site).expect("a site")[row][c];
                    *h = ema * *h + (1.0 - ema) * seen.iter().sum::<f64>() / seen.len() as f64;
                }
            }
        }
    }
}

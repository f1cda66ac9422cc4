//! Settings of pruning: which units run, and what the choice is made from.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Tokens that a matmul takes together where it takes many: a pass of fewer costs as much.
const TOKEN_TILE: usize = 64;

/// Which units a forward pass computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Every unit.
    Dense,
    /// The choice is made from every token and sample of the batch: the upper bound of probing.
    FullBatch,
    /// Probe Pruning: the choice is made from a small probe, fused with history.
    Pp,
    /// Wanda for structures: one choice for all inputs, from the energy of calibrated activations.
    WandaSp,
    /// FLAP: one choice for all inputs, from the fluctuation of calibrated activations, with one threshold for all layers;
    /// the mean of what is dropped is added as a bias.
    Flap,
    /// One choice for all inputs that a file holds.
    Masks,
}

impl Method {
    /// Every method, in the order of the paper's table.
    pub const ALL: [Method; 6] =
        [Method::Dense, Method::FullBatch, Method::WandaSp, Method::Flap, Method::Masks, Method::Pp];

    /// The name used on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Method::Dense => "dense",
            Method::FullBatch => "full-batch",
            Method::Pp => "pp",
            Method::WandaSp => "wanda-sp",
            Method::Flap => "flap",
            Method::Masks => "masks",
        }
    }

    /// Whether the choice is made once, before anything runs.
    pub fn is_static(self) -> bool {
        matches!(self, Method::WandaSp | Method::Flap | Method::Masks)
    }
}

/// When pruning happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunePhases {
    /// The prompt (or the evaluated batch) runs with the units its probe chose.
    pub prefill: bool,
    /// Generated tokens run with chosen units.
    pub decode: bool,
}

/// Which halves of a layer are pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneBlocks {
    /// Query heads.
    pub attention: bool,
    /// MLP channels.
    pub mlp: bool,
}

impl Default for PruneBlocks {
    fn default() -> PruneBlocks {
        PruneBlocks { attention: true, mlp: true }
    }
}

/// What Probe Pruning knows of earlier text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryKind {
    /// One row for every position: filled by the calibration (empty without one), then following the batches.
    #[default]
    Exact,
    /// One row for a range of positions that doubles: 0, 1, 2 to 3, 4 to 7 and so on.
    Buckets,
    /// One row for all positions.
    Collapsed,
    /// None: every batch is judged by its own probe alone.
    Off,
}

/// How the probe's statistic and the history become one.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fusion {
    /// Each value weighs by its own size (the paper's equation 7).
    #[default]
    Scaled,
    /// The probe weighs this much, in [0, 1], and the history the rest.
    Fixed(f32),
}

/// How a unit is scored from its statistic `f` and its weights `W[:, k]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoreKind {
    /// `f sqrt(sum W^4)`, a head by the L2 norm of its channels: the paper's.
    #[default]
    Ppsp,
    /// `sqrt(f) sum |W|`, a head by the sum of its channels.
    Wanda,
    /// `f sum W^2`, a head by the mean of its channels: FLAP's, meant for fluctuations.
    Flap,
}

/// What of the activations is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistic {
    /// Their squares.
    #[default]
    Energy,
    /// Their squared distance from the calibrated mean: what is lost where the mean is put back.
    Fluctuation,
}

/// Which layers are pruned how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerRatios {
    /// All alike.
    #[default]
    Uniform,
    /// As one threshold over all layers' calibrated scores has it, standardised by layer as FLAP does, at the FLOPs of
    /// `Uniform`.
    Threshold,
}

/// Shares of a batch that a probe runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ProbeShares {
    /// Of the tokens, in (0, 1].
    pub tokens: f64,
    /// Of the samples, in (0, 1].
    pub samples: f64,
}

/// Settings of pruning (docs of the method: arXiv 2502.15618, sections 4 and 5).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PruneConfig {
    /// Which units are computed.
    pub method: Method,
    /// Wished mean pruning ratio over all layers, in [0, 1).
    pub ratio: f64,
    /// The same for heads alone; `None` = as above.
    #[serde(default)]
    pub head_ratio: Option<f64>,
    /// Share of the tokens that the probe keeps, in (0, 1].
    pub probe_tokens: f64,
    /// Share of the samples that the probe keeps, in (0, 1].
    pub probe_samples: f64,
    /// The same for the probes of heads alone; `None` = as above.
    #[serde(default)]
    pub probe_heads: Option<ProbeShares>,
    /// Where the prompt of a single sequence is pruned: at least so many of its first tokens run whole and choose for the others
    /// ([`PruneConfig::lead`]). 0 = a probe runs ahead, as before a batch.
    #[serde(default = "default_lead_tokens")]
    pub lead_tokens: usize,
    /// When to prune.
    pub phases: PrunePhases,
    /// What to prune; the ratio is that of the pruned blocks.
    #[serde(default)]
    pub blocks: PruneBlocks,
    /// While decoding, the mask is chosen anew every so many tokens; 0 = never.
    pub reprobe_every: usize,
    /// Of those tokens, so many show what the dropped units would have done; they lie evenly and stand for the others.
    #[serde(default = "default_reprobe_tokens")]
    pub reprobe_tokens: usize,
    /// The first layers that are never pruned.
    pub dense_layers: usize,
    /// The last layers that are never pruned.
    #[serde(default)]
    pub dense_last_layers: usize,
    /// Kept channels are a multiple of this.
    pub tile: usize,
    /// Factor of the old history in its running mean; 1 minus it weighs the batch.
    pub ema: f32,
    /// What Probe Pruning remembers.
    #[serde(default)]
    pub history: HistoryKind,
    /// How probe and history become one.
    #[serde(default)]
    pub fusion: Fusion,
    /// How units are scored.
    #[serde(default)]
    pub score: ScoreKind,
    /// What of the activations is measured.
    #[serde(default)]
    pub statistic: Statistic,
    /// Which layers are pruned how much.
    #[serde(default)]
    pub layer_ratios: LayerRatios,
    /// Add the calibrated mean of what is dropped as a bias. FLAP always does.
    #[serde(default)]
    pub compensate: bool,
    /// Keep or drop all query heads of a key/value head together.
    #[serde(default)]
    pub whole_groups: bool,
}

fn default_reprobe_tokens() -> usize {
    4
}

fn default_lead_tokens() -> usize {
    32
}

impl Default for PruneConfig {
    fn default() -> Self {
        PruneConfig {
            method: Method::Dense,
            ratio: 0.0,
            head_ratio: None,
            probe_tokens: 0.5,
            probe_samples: 0.05,
            probe_heads: None,
            lead_tokens: default_lead_tokens(),
            phases: PrunePhases { prefill: false, decode: true },
            blocks: PruneBlocks::default(),
            reprobe_every: 32,
            reprobe_tokens: default_reprobe_tokens(),
            dense_layers: 3,
            dense_last_layers: 0,
            tile: 64,
            ema: 0.99,
            history: HistoryKind::default(),
            fusion: Fusion::default(),
            score: ScoreKind::default(),
            statistic: Statistic::default(),
            layer_ratios: LayerRatios::default(),
            compensate: false,
            whole_groups: false,
        }
    }
}

impl PruneConfig {
    /// How many of the first `tokens` tokens behind a choice show what the dropped units would have done.
    pub fn reprobe_rows(&self, tokens: usize) -> usize {
        match self.reprobe_every {
            0 => 0,
            every => tokens * self.reprobe_tokens.min(every) / every,
        }
    }

    /// Whether the prompt of a single sequence is pruned by its own first tokens.
    pub fn leads(&self) -> bool {
        self.method == Method::Pp && self.phases.prefill && self.lead_tokens > 0
    }

    /// How many of a single prompt's `tokens` tokens run whole and choose for the others: at least `lead_tokens`, and all that is beyond
    /// whole tiles, so that two passes take no more tiles than one. 0 where nothing leads.
    pub fn lead(&self, tokens: usize) -> usize {
        let beyond = tokens - tokens.saturating_sub(1) / TOKEN_TILE * TOKEN_TILE;
        if self.leads() { beyond.max(self.lead_tokens).min(tokens) } else { 0 }
    }

    /// Refuses values outside their ranges.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the option and the value.
    pub fn validate(&self) -> Result<()> {
        for (name, ratio) in [("--ratio", self.ratio), ("--head-ratio", self.head_ratio.unwrap_or(0.0))] {
            if !(0.0..1.0).contains(&ratio) {
                return Err(Error::Setting(format!("{name} is {ratio}; it must lie in [0, 1)")));
            }
        }
        let of_heads = self.heads_shares();
        for (name, value) in [
            ("--probe-tokens", self.probe_tokens),
            ("--probe-samples", self.probe_samples),
            ("--probe-head-tokens", of_heads.tokens),
            ("--probe-head-samples", of_heads.samples),
        ] {
            if !(value > 0.0 && value <= 1.0) {
                return Err(Error::Setting(format!("{name} is {value}; it must lie in (0, 1]")));
            }
        }
        if self.reprobe_tokens == 0 {
            let what = "--reprobe-tokens is 0; it must be at least 1 (--reprobe-every 0 keeps the first masks)";
            return Err(Error::Setting(what.into()));
        }
        if self.tile == 0 {
            return Err(Error::Setting("--tile is 0; it must be at least 1".into()));
        }
        if !(0.0..=1.0).contains(&self.ema) {
            return Err(Error::Setting(format!("--ema is {}; it must lie in [0, 1]", self.ema)));
        }
        if let Fusion::Fixed(weight) = self.fusion
            && !(0.0..=1.0).contains(&weight)
        {
            return Err(Error::Setting(format!("--fusion is {weight}; it must be `scaled` or lie in [0, 1]")));
        }
        Ok(())
    }

    /// The layers that may drop units, of so many.
    pub fn pruned_layers(&self, layers: usize) -> Range<usize> {
        let end = layers.saturating_sub(self.dense_last_layers);
        self.dense_layers.min(end)..end
    }

    /// Shares of the probes of MLP channels.
    pub fn channels_shares(&self) -> ProbeShares {
        ProbeShares { tokens: self.probe_tokens, samples: self.probe_samples }
    }

    /// Shares of the probes of heads.
    pub fn heads_shares(&self) -> ProbeShares {
        self.probe_heads.unwrap_or(self.channels_shares())
    }

    /// Whether the mean of what is dropped is put back.
    pub fn compensates(&self) -> bool {
        self.compensate || self.method == Method::Flap
    }

    /// Whether calibrated statistics make a difference.
    pub fn uses_calibration(&self) -> bool {
        self.needs_calibration() || (self.method == Method::Pp && self.history != HistoryKind::Off)
    }

    /// Whether these settings cannot be run without calibrated statistics.
    pub fn needs_calibration(&self) -> bool {
        let dynamic =
            self.statistic == Statistic::Fluctuation || self.compensate || self.layer_ratios == LayerRatios::Threshold;
        match self.method {
            Method::Dense | Method::Masks => false,
            Method::WandaSp | Method::Flap => true,
            Method::FullBatch | Method::Pp => dynamic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_and_its_rest_take_no_more_tiles_than_one_pass() {
        let phases = PrunePhases { prefill: true, decode: true };
        let prune = PruneConfig { method: Method::Pp, phases, ..PruneConfig::default() };
        assert_eq!(
            [1, 33, 64, 65, 100, 128, 130, 512].map(|tokens| prune.lead(tokens)),
            [1, 33, 64, 32, 36, 64, 32, 64]
        );
        let tiles = |tokens: usize| tokens.div_ceil(TOKEN_TILE);
        for tokens in 1..400 {
            let lead = prune.lead(tokens);
            assert!(lead >= prune.lead_tokens.min(tokens), "{tokens}");
            assert_eq!(tiles(lead) + tiles(tokens - lead), tiles(tokens), "{tokens}");
        }
        for other in [
            PruneConfig { lead_tokens: 0, ..prune.clone() },
            PruneConfig { method: Method::FullBatch, ..prune.clone() },
            PruneConfig { phases: PrunePhases { prefill: false, decode: true }, ..prune },
        ] {
            assert_eq!((other.leads(), other.lead(200)), (false, 0));
        }
    }
}

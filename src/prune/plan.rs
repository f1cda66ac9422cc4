//! Counts that follow from the settings alone: kept units of every layer, size of the probe, and what a pass costs.

use super::Half;
use crate::config::{Method, ModelConfig, ProbeShares, PruneConfig};
use serde::Serialize;

/// Kept units of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LayerPlan {
    /// Kept query heads.
    pub heads: usize,
    /// Kept MLP channels.
    pub channels: usize,
}

/// Kept units of every layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// In order.
    pub layers: Vec<LayerPlan>,
    /// The ratio that each layer that is pruned uses (`r'`), so that the wished one is the mean over all; heads may have their own.
    pub layer_ratio: f64,
    /// Query heads of a key/value head that are kept or dropped together: 1, or all of them.
    group: usize,
    #[serde(skip)]
    full: LayerPlan,
}

impl Plan {
    /// Counts for a wished mean ratio: the first and last layers stay dense as wished, every other prunes `int(r' * units)`, channels fewer
    /// until the kept count is a multiple of the tile. At least one unit (one tile) of each kind stays.
    pub fn new(model: &ModelConfig, prune: &PruneConfig) -> Plan {
        let layers = model.num_hidden_layers;
        let full = LayerPlan { heads: model.num_attention_heads, channels: model.intermediate_size };
        let pruned_layers = prune.pruned_layers(layers);
        let of_a_layer = |ratio: f64| match pruned_layers.len() {
            0 => 0.0,
            pruned => two_digits(layers as f64 / pruned as f64 * ratio).min(1.0),
        };
        let layer_ratio = of_a_layer(prune.ratio);
        let head_ratio = prune.head_ratio.map_or(layer_ratio, of_a_layer);
        let group = if prune.whole_groups { model.group_size() } else { 1 };
        let groups = full.heads / group;
        let heads = (groups - ((head_ratio * groups as f64) as usize).min(groups - 1)) * group;
        let wished = full.channels - (layer_ratio * full.channels as f64) as usize;
        let channels = wished.max(1).next_multiple_of(prune.tile).min(full.channels);
        let pruned = LayerPlan {
            heads: if prune.blocks.attention { heads } else { full.heads },
            channels: if prune.blocks.mlp { channels } else { full.channels },
        };
        let layers = (0..layers).map(|layer| if pruned_layers.contains(&layer) { pruned } else { full }).collect();
        Plan { layers, layer_ratio, group, full }
    }

    /// Given counts; the ratio is the mean share of units that those halves drop which drop any.
    pub fn of_counts(model: &ModelConfig, layers: Vec<LayerPlan>) -> Plan {
        let full = LayerPlan { heads: model.num_attention_heads, channels: model.intermediate_size };
        let dropped = |kept: usize, of: usize| 1.0 - kept as f64 / of as f64;
        let shares: Vec<f64> = layers
            .iter()
            .flat_map(|layer| [dropped(layer.heads, full.heads), dropped(layer.channels, full.channels)])
            .filter(|&share| share > 0.0)
            .collect();
        let layer_ratio = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
        Plan { layers, layer_ratio, group: 1, full }
    }

    /// The same counts, with whole groups of heads kept and dropped.
    pub(super) fn by_groups(self, group: usize) -> Plan {
        Plan { group, ..self }
    }

    /// Every unit of one layer.
    pub fn full(&self) -> LayerPlan {
        self.full
    }

    /// Whether this layer's half drops anything.
    pub fn prunes_half(&self, layer: usize, half: Half) -> bool {
        match half {
            Half::Attention => self.prunes_heads(layer),
            Half::Mlp => self.prunes_channels(layer),
        }
    }

    /// Every unit of every layer.
    pub fn dense(model: &ModelConfig) -> Plan {
        Plan::new(model, &PruneConfig { ratio: 0.0, ..PruneConfig::default() })
    }

    /// Whether this layer drops heads.
    pub fn prunes_heads(&self, layer: usize) -> bool {
        self.layers[layer].heads < self.full.heads
    }

    /// Whether this layer drops channels.
    pub fn prunes_channels(&self, layer: usize) -> bool {
        self.layers[layer].channels < self.full.channels
    }

    /// Whether any layer drops anything.
    pub fn prunes(&self) -> bool {
        (0..self.layers.len()).any(|layer| self.prunes_heads(layer) || self.prunes_channels(layer))
    }
}

/// Rounds to two digits as Python's `round` does: on the exact decimal expansion, ties to even.
fn two_digits(value: f64) -> f64 {
    format!("{value:.2}").parse().unwrap_or(value)
}

/// How many samples and tokens a probe has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProbeSize {
    /// Samples.
    pub samples: usize,
    /// Tokens of each.
    pub tokens: usize,
}

impl ProbeSize {
    /// `ceil(share * B)` samples of `max(2, ceil(share * T))` tokens, out of `samples` of `length`.
    pub fn new(shares: ProbeShares, samples: usize, length: usize) -> ProbeSize {
        let share = |share: f64, of: usize| ((share * of as f64).ceil() as usize).clamp(1, of);
        ProbeSize { samples: share(shares.samples, samples), tokens: share(shares.tokens, length).max(2).min(length) }
    }

    /// Rows of its pass.
    pub fn rows(&self) -> usize {
        self.samples * self.tokens
    }
}

/// The sizes of a layer's two probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProbeSizes {
    /// Of the one for heads.
    pub heads: ProbeSize,
    /// Of the one for channels.
    pub channels: ProbeSize,
}

impl ProbeSizes {
    /// As the settings say, for a batch of `samples` of `length`: everything for full-batch probing.
    pub fn new(prune: &PruneConfig, samples: usize, length: usize) -> ProbeSizes {
        match prune.method {
            Method::FullBatch => ProbeSizes::both(ProbeSize { samples, tokens: length }),
            _ => ProbeSizes {
                heads: ProbeSize::new(prune.heads_shares(), samples, length),
                channels: ProbeSize::new(prune.channels_shares(), samples, length),
            },
        }
    }

    /// The same size for both.
    pub fn both(size: ProbeSize) -> ProbeSizes {
        ProbeSizes { heads: size, channels: size }
    }

    /// Of one half's probe.
    pub fn of(&self, half: Half) -> ProbeSize {
        match half {
            Half::Attention => self.heads,
            Half::Mlp => self.channels,
        }
    }
}

/// Floating-point operations of transformer layers (a multiplication and an addition are two; embedding and output head
/// are left out, for no method prunes them).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Flops {
    /// What was computed for the answer itself.
    pub pass: f64,
    /// What a dense pass would have computed.
    pub dense: f64,
    /// What probes computed on top.
    pub probe: f64,
}

impl Flops {
    /// Adds `queries` tokens that attend `attended` slots in all (the sum over them), run by `plan`.
    pub fn add(&mut self, model: &ModelConfig, plan: &Plan, queries: f64, attended: f64) {
        for &layer in &plan.layers {
            // K and V are computed for every kv head that may be read: counted whole.
            self.pass += block(model, layer, model.num_key_value_heads, queries, attended);
            self.dense += block(model, plan.full, model.num_key_value_heads, queries, attended);
        }
    }

    /// The same for a batch that keeps no cache: where whole groups of heads go, their keys and values go too.
    pub fn add_batch(&mut self, model: &ModelConfig, plan: &Plan, queries: f64, attended: f64) {
        for &layer in &plan.layers {
            let kv =
                if plan.group == model.group_size() { layer.heads / plan.group } else { model.num_key_value_heads };
            self.pass += block(model, layer, kv, queries, attended);
            self.dense += block(model, plan.full, model.num_key_value_heads, queries, attended);
        }
    }

    /// Adds the probes of every pruned layer: the first halves of its blocks on the probes' rows, causal among themselves.
    pub fn add_probe(&mut self, model: &ModelConfig, plan: &Plan, sizes: ProbeSizes) {
        let ProbeSize { samples, tokens } = sizes.heads;
        let attended = (samples * tokens * (tokens + 1)) as f64 / 2.0;
        for layer in 0..plan.layers.len() {
            if plan.prunes_heads(layer) {
                let (heads, kv) = (model.num_attention_heads as f64, model.num_key_value_heads as f64);
                let d = model.head_dim as f64;
                let rows = sizes.heads.rows() as f64;
                self.probe +=
                    rows * 2.0 * model.hidden_size as f64 * d * (heads + 2.0 * kv) + attended * 4.0 * d * heads;
            }
            if plan.prunes_channels(layer) {
                let first_half = model.blocks.mlp.matrices() * model.hidden_size * model.intermediate_size;
                self.probe += sizes.channels.rows() as f64 * 2.0 * first_half as f64;
            }
        }
    }

    /// Adds the units that a re-probe runs once more: those dropped, on `rows` tokens that attend `attended` slots in all.
    pub fn add_dropped(&mut self, model: &ModelConfig, plan: &Plan, rows: f64, attended: f64) {
        let (hidden, d) = (model.hidden_size as f64, model.head_dim as f64);
        for layer in &plan.layers {
            let heads = (model.num_attention_heads - layer.heads) as f64;
            let channels = (model.intermediate_size - layer.channels) as f64;
            let matrices = d * heads + model.blocks.mlp.matrices() as f64 * channels;
            self.probe += rows * 2.0 * hidden * matrices + attended * 4.0 * d * heads;
        }
    }
}

impl std::ops::AddAssign for Flops {
    fn add_assign(&mut self, more: Flops) {
        self.pass += more.pass;
        self.dense += more.dense;
        self.probe += more.probe;
    }
}

impl std::ops::Sub for Flops {
    type Output = Flops;

    fn sub(self, before: Flops) -> Flops {
        Flops { pass: self.pass - before.pass, dense: self.dense - before.dense, probe: self.probe - before.probe }
    }
}

fn block(model: &ModelConfig, layer: LayerPlan, kv_heads: usize, queries: f64, attended: f64) -> f64 {
    let (hidden, d) = (model.hidden_size as f64, model.head_dim as f64);
    let (heads, kv, channels) = (layer.heads as f64, kv_heads as f64, layer.channels as f64);
    let matrices =
        hidden * d * (2.0 * heads + 2.0 * kv) + (1.0 + model.blocks.mlp.matrices() as f64) * hidden * channels;
    queries * 2.0 * matrices + attended * 4.0 * d * heads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smollm2() -> ModelConfig {
        ModelConfig {
            architecture: "llama".into(),
            name: None,
            hidden_size: 576,
            intermediate_size: 1536,
            num_hidden_layers: 30,
            num_attention_heads: 9,
            num_key_value_heads: 3,
            head_dim: 64,
            vocab_size: 49152,
            rms_norm_eps: 1e-5,
            rope_theta: 1e5,
            rope_scaling: None,
            rope_layout: crate::config::RopeLayout::Adjacent,
            max_position_embeddings: 8192,
            tie_word_embeddings: true,
            position_offset: None,
            word_embed_proj_dim: None,
            blocks: Default::default(),
        }
    }

    fn plan(ratio: f64) -> Plan {
        Plan::new(&smollm2(), &PruneConfig { ratio, ..PruneConfig::default() })
    }

    #[test]
    fn counts_are_those_of_the_paper() {
        let at = plan(0.4);
        assert_eq!(at.layer_ratio, 0.44);
        assert_eq!(at.layers[2], LayerPlan { heads: 9, channels: 1536 });
        assert_eq!(at.layers[3], LayerPlan { heads: 6, channels: 896 });
        assert_eq!(plan(0.2).layers[3], LayerPlan { heads: 8, channels: 1216 });
        assert!(!plan(0.0).prunes());
    }

    #[test]
    fn a_block_can_be_left_whole() {
        let at = |attention, mlp| {
            let blocks = crate::config::PruneBlocks { attention, mlp };
            Plan::new(&smollm2(), &PruneConfig { ratio: 0.4, blocks, ..PruneConfig::default() })
        };
        assert_eq!(at(false, true).layers[3], LayerPlan { heads: 9, channels: 896 });
        assert_eq!(at(true, false).layers[3], LayerPlan { heads: 6, channels: 1536 });
        assert!(!at(false, false).prunes());
    }

    #[test]
    fn heads_may_have_a_ratio_of_their_own() {
        let at = |head_ratio| {
            let prune = PruneConfig { ratio: 0.42, head_ratio: Some(head_ratio), ..PruneConfig::default() };
            Plan::new(&smollm2(), &prune).layers[3]
        };
        assert_eq!(at(0.0), LayerPlan { heads: 9, channels: 832 });
        assert_eq!(at(0.2), LayerPlan { heads: 8, channels: 832 });
        assert_eq!(at(0.42).heads, plan(0.42).layers[3].heads);
    }

    #[test]
    fn an_extreme_ratio_keeps_a_unit_of_each_kind() {
        assert_eq!(plan(0.99).layers[29], LayerPlan { heads: 1, channels: 64 });
        let mut small = smollm2();
        (small.num_hidden_layers, small.intermediate_size) = (5, 172);
        let at = Plan::new(&small, &PruneConfig { ratio: 0.05, ..PruneConfig::default() });
        assert_eq!(at.layers[4].channels, 172, "rounding up to a tile never exceeds what there is");
    }

    #[test]
    fn probes_have_the_sizes_of_the_paper() {
        let prune = PruneConfig::default().channels_shares();
        assert_eq!(ProbeSize::new(prune, 20, 1024), ProbeSize { samples: 1, tokens: 512 });
        assert_eq!(ProbeSize::new(prune, 4, 64), ProbeSize { samples: 1, tokens: 32 });
        assert_eq!(ProbeSize::new(prune, 21, 3), ProbeSize { samples: 2, tokens: 2 });
        assert_eq!(ProbeSize::new(prune, 1, 1), ProbeSize { samples: 1, tokens: 1 });
    }
}

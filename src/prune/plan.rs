//! Counts that follow from the settings alone: kept units of every layer, size of the probe, and what a pass costs.

use crate::config::{ModelConfig, PruneConfig};
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
    /// The ratio that each layer that is pruned uses (`r'`), so that the wished one is the mean over all.
    pub layer_ratio: f64,
    #[serde(skip)]
    full: LayerPlan,
}

impl Plan {
    /// Counts for a wished mean ratio: the first layers stay dense, every other prunes `int(r' * units)`, channels fewer
    /// until the kept count is a multiple of the tile. At least one unit (one tile) of each kind stays.
    pub fn new(model: &ModelConfig, prune: &PruneConfig) -> Plan {
        let layers = model.num_hidden_layers;
        let full = LayerPlan { heads: model.num_attention_heads, channels: model.intermediate_size };
        let pruned_layers = layers.saturating_sub(prune.dense_layers);
        let layer_ratio = match pruned_layers {
            0 => 0.0,
            pruned => two_digits(layers as f64 / pruned as f64 * prune.ratio).min(1.0),
        };
        let heads = full.heads - ((layer_ratio * full.heads as f64) as usize).min(full.heads - 1);
        let wished = full.channels - (layer_ratio * full.channels as f64) as usize;
        let channels = wished.max(1).next_multiple_of(prune.tile).min(full.channels);
        let pruned = LayerPlan {
            heads: if prune.blocks.attention { heads } else { full.heads },
            channels: if prune.blocks.mlp { channels } else { full.channels },
        };
        let layers = (0..layers).map(|layer| if layer < prune.dense_layers { full } else { pruned }).collect();
        Plan { layers, layer_ratio, full }
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
    pub fn new(prune: &PruneConfig, samples: usize, length: usize) -> ProbeSize {
        let share = |share: f64, of: usize| ((share * of as f64).ceil() as usize).clamp(1, of);
        ProbeSize {
            samples: share(prune.probe_samples, samples),
            tokens: share(prune.probe_tokens, length).max(2).min(length),
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

    /// Adds the probes of every pruned layer: the first halves of its blocks on `size` rows, causal among themselves.
    pub fn add_probe(&mut self, model: &ModelConfig, plan: &Plan, size: ProbeSize) {
        let rows = (size.samples * size.tokens) as f64;
        let attended = (size.samples * size.tokens * (size.tokens + 1)) as f64 / 2.0;
        for layer in 0..plan.layers.len() {
            if plan.prunes_heads(layer) {
                let (heads, kv) = (model.num_attention_heads as f64, model.num_key_value_heads as f64);
                let d = model.head_dim as f64;
                self.probe +=
                    rows * 2.0 * model.hidden_size as f64 * d * (heads + 2.0 * kv) + attended * 4.0 * d * heads;
            }
            if plan.prunes_channels(layer) {
                self.probe += rows * 4.0 * (model.hidden_size * model.intermediate_size) as f64;
            }
        }
    }

    /// Adds the units that a re-probe runs once more: those dropped, on `rows` tokens that attend `attended` slots in all.
    pub fn add_dropped(&mut self, model: &ModelConfig, plan: &Plan, rows: f64, attended: f64) {
        let (hidden, d) = (model.hidden_size as f64, model.head_dim as f64);
        for layer in &plan.layers {
            let heads = (model.num_attention_heads - layer.heads) as f64;
            let channels = (model.intermediate_size - layer.channels) as f64;
            self.probe += rows * (2.0 * hidden * d * heads + 4.0 * hidden * channels) + attended * 4.0 * d * heads;
        }
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
    let matrices = hidden * d * (2.0 * heads + 2.0 * kv) + 3.0 * hidden * channels;
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
    fn an_extreme_ratio_keeps_a_unit_of_each_kind() {
        assert_eq!(plan(0.99).layers[29], LayerPlan { heads: 1, channels: 64 });
        let mut small = smollm2();
        (small.num_hidden_layers, small.intermediate_size) = (5, 172);
        let at = Plan::new(&small, &PruneConfig { ratio: 0.05, ..PruneConfig::default() });
        assert_eq!(at.layers[4].channels, 172, "rounding up to a tile never exceeds what there is");
    }

    #[test]
    fn probes_have_the_sizes_of_the_paper() {
        let prune = PruneConfig::default();
        assert_eq!(ProbeSize::new(&prune, 20, 1024), ProbeSize { samples: 1, tokens: 512 });
        assert_eq!(ProbeSize::new(&prune, 4, 64), ProbeSize { samples: 1, tokens: 32 });
        assert_eq!(ProbeSize::new(&prune, 21, 3), ProbeSize { samples: 2, tokens: 2 });
        assert_eq!(ProbeSize::new(&prune, 1, 1), ProbeSize { samples: 1, tokens: 1 });
    }
}

//! Bytes of weights that passes read: what decoding one token after another is limited by.

use crate::format::Weight;
use crate::model::{LayerWeights, ModelWeights};
use crate::prune::{LayerPlan, Plan};

/// Bytes of weights that passes read, counted once a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    /// What was read, by probes too.
    pub read: f64,
    /// What dense passes would have read.
    pub dense: f64,
}

impl Traffic {
    /// Adds a pass: kept rows of the layers, and the whole output head.
    pub(super) fn add(&mut self, model: &ModelWeights, plan: &Plan) {
        let head = bytes(model.head()) + model.project_out.as_ref().map_or(0.0, bytes);
        (self.read, self.dense) = (self.read + head, self.dense + head);
        for (weights, kept) in model.layers.iter().zip(&plan.layers) {
            let (heads, channels) = shares(model, kept);
            let (queries, keys) = queries_and_keys(model, weights);
            let (attention, mlp) = (queries + bytes(&weights.o), weights.mlp.bytes() as f64 + bytes(&weights.down));
            self.read += attention * heads + keys + mlp * channels;
            self.dense += attention + keys + mlp;
        }
    }

    /// Adds the probes of a prompt: the first halves of the blocks that are pruned.
    pub(super) fn add_probe(&mut self, model: &ModelWeights, plan: &Plan) {
        for (layer, weights) in model.layers.iter().enumerate() {
            if plan.prunes_heads(layer) {
                self.read += bytes(&weights.qkv);
            }
            if plan.prunes_channels(layer) {
                self.read += weights.mlp.bytes() as f64;
            }
        }
    }

    /// Adds a renewal: the first halves of the dropped units.
    pub(super) fn add_dropped(&mut self, model: &ModelWeights, plan: &Plan) {
        for (weights, kept) in model.layers.iter().zip(&plan.layers) {
            let (heads, channels) = shares(model, kept);
            self.read +=
                queries_and_keys(model, weights).0 * (1.0 - heads) + weights.mlp.bytes() as f64 * (1.0 - channels);
        }
    }
}

/// The shares of heads and of channels that are kept.
fn shares(model: &ModelWeights, kept: &LayerPlan) -> (f64, f64) {
    let (heads, channels) = (model.config.num_attention_heads, model.config.intermediate_size);
    (kept.heads as f64 / heads as f64, kept.channels as f64 / channels as f64)
}

/// Bytes of q, and of k and v.
fn queries_and_keys(model: &ModelWeights, weights: &LayerWeights) -> (f64, f64) {
    let queries = model.config.num_attention_heads * model.config.head_dim;
    (weights.qkv.bytes_of(0..queries), weights.qkv.bytes_of(queries..weights.qkv.rows))
}

fn bytes(weight: &Weight) -> f64 {
    weight.bytes() as f64
}

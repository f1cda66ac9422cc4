//! The two halves of a transformer layer, of which each has units that can be dropped.

use super::{LayerMasks, Mask};
use crate::config::ModelConfig;
use crate::format::Weight;
use crate::gpu::Buffer;
use crate::model::LayerWeights;
use std::sync::Arc;

/// One half of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Half {
    /// Attention: its units are query heads, ranked by the input of `o_proj`.
    Attention,
    /// The MLP: its units are channels, ranked by the input of `down_proj`.
    Mlp,
}

impl Half {
    /// Both, in the order in which they run. Pairs of things by half are in this order everywhere.
    pub const BOTH: [Half; 2] = [Half::Attention, Half::Mlp];

    /// Its place in a pair.
    pub fn index(self) -> usize {
        match self {
            Half::Attention => 0,
            Half::Mlp => 1,
        }
    }

    /// The weight whose input ranks its units, in Hugging Face's name.
    pub fn ranked_weight(self) -> &'static str {
        match self {
            Half::Attention => "o_proj",
            Half::Mlp => "down_proj",
        }
    }

    /// Units, and channels of the ranked input that a unit has.
    pub fn units(self, model: &ModelConfig) -> (usize, usize) {
        match self {
            Half::Attention => (model.num_attention_heads, model.head_dim),
            Half::Mlp => (model.intermediate_size, 1),
        }
    }

    /// Channels of the ranked input.
    pub fn width(self, model: &ModelConfig) -> usize {
        let (units, unit) = self.units(model);
        units * unit
    }

    /// The weight that takes the ranked input, `[H, width]` by columns.
    pub fn output(self, weights: &LayerWeights) -> &Weight {
        match self {
            Half::Attention => &weights.o,
            Half::Mlp => &weights.down,
        }
    }

    /// `sqrt(sum W^4)` of that weight by channel.
    pub fn power(self, weights: &LayerWeights) -> &Buffer {
        match self {
            Half::Attention => &weights.o_power,
            Half::Mlp => &weights.down_power,
        }
    }

    /// Its mask among a layer's.
    pub fn mask(self, masks: &LayerMasks) -> Option<&Arc<Mask>> {
        match self {
            Half::Attention => masks.heads.as_ref(),
            Half::Mlp => masks.channels.as_ref(),
        }
    }
}

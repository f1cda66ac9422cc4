//! What a forward pass asks of a method, and the simplest answer.

use super::Mask;
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};
use crate::kernels::rope_append::Turns;
use crate::kernels::{Cache, Rows};
use crate::model::LayerWeights;
use std::sync::Arc;

/// One half of a block as a selector sees it, before it runs.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    /// Index of the layer.
    pub layer: usize,
    /// Its weights.
    pub weights: &'a LayerWeights,
    /// The residual stream entering it, `[samples * length][H]`.
    pub residual: &'a Buffer,
    /// The normed state, `[samples * length][H]`.
    pub normed: Rows<'a>,
    /// `[samples * length]`: norms of the residual stream.
    pub norms: &'a Buffer,
    /// `[samples * length]` position and slot of every token.
    pub places: &'a Buffer,
    /// `[samples]` real tokens of each sample; the rest is padding.
    pub lengths: &'a Buffer,
    /// Whether there is any.
    pub is_padded: bool,
    /// Samples of the batch.
    pub samples: usize,
    /// Tokens of a sample, padding included.
    pub length: usize,
    /// The layer's keys and values.
    pub cache: Cache<'a>,
    /// The rotary embedding, and what the layer does to heads before.
    pub turns: Turns<'a>,
}

impl Block<'_> {
    /// What leaves padding out, where there is any: looking for it costs more than the sums that it is left out of.
    pub(crate) fn padding(&self) -> Option<&Buffer> {
        self.is_padded.then_some(self.lengths)
    }
}

/// A method of choosing units, called by the forward pass in this order for every layer.
pub trait Selector {
    /// The query heads to compute; `None` = all.
    ///
    /// # Errors
    /// Those of the kernels it records.
    fn heads(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>) -> Result<Option<Arc<Mask>>>;

    /// Shows the input of `o_proj`: `mixed` rows hold the computed heads' elements.
    ///
    /// # Errors
    /// Those of the kernels it records.
    fn attended(&mut self, _rec: &mut Recorder<'_>, _block: &Block<'_>, _mixed: Rows<'_>) -> Result<()> {
        Ok(())
    }

    /// The MLP channels to compute; `None` = all.
    ///
    /// # Errors
    /// Those of the kernels it records.
    fn channels(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>) -> Result<Option<Arc<Mask>>>;

    /// Shows the input of `down_proj`: `active` rows hold the computed channels.
    ///
    /// # Errors
    /// Those of the kernels it records.
    fn activated(&mut self, _rec: &mut Recorder<'_>, _block: &Block<'_>, _active: Rows<'_>) -> Result<()> {
        Ok(())
    }
}

/// Every unit, always.
pub struct Dense;

impl Selector for Dense {
    fn heads(&mut self, _: &mut Recorder<'_>, _: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(None)
    }

    fn channels(&mut self, _: &mut Recorder<'_>, _: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(None)
    }
}

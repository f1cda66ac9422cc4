//! The running mean of squared activations, by position and channel (probe-pruning paper, section 4.3).

use super::Half;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu};
use crate::kernels::{HistoryRows, fusion};

/// Histories of every layer's two ranked inputs.
pub struct History {
    rows: HistoryRows,
    layers: Vec<[Buffer; 2]>, // [rows][width], by layer and half
}

impl History {
    /// An empty history.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn empty(gpu: &Gpu, model: &ModelConfig, rows: HistoryRows) -> Result<History> {
        History::with(model, rows, |_, half| gpu.zeros("history", rows.total() * half.width(model)))
    }

    /// A history of given values, `[rows][width]` for every layer and half.
    ///
    /// # Errors
    /// Those of `values` and of [`Gpu::buffer`].
    pub fn filled(
        gpu: &Gpu,
        model: &ModelConfig,
        rows: HistoryRows,
        mut values: impl FnMut(usize, Half) -> Result<Vec<f32>>,
    ) -> Result<History> {
        History::with(model, rows, |layer, half| gpu.upload("history", &values(layer, half)?))
    }

    fn with(
        model: &ModelConfig,
        rows: HistoryRows,
        mut buffer: impl FnMut(usize, Half) -> Result<Buffer>,
    ) -> Result<History> {
        let mut layers = Vec::with_capacity(model.num_hidden_layers);
        for layer in 0..model.num_hidden_layers {
            layers.push([buffer(layer, Half::Attention)?, buffer(layer, Half::Mlp)?]);
        }
        Ok(History { rows, layers })
    }

    /// Which positions share a row.
    pub fn rows(&self) -> HistoryRows {
        self.rows
    }

    /// Whether it has one row for all positions.
    pub fn is_collapsed(&self) -> bool {
        self.rows == HistoryRows::One
    }

    /// Refuses samples longer than the history.
    ///
    /// # Errors
    /// [`Error::Setting`] with both lengths.
    pub fn check(&self, length: usize) -> Result<()> {
        match self.rows {
            HistoryRows::Each(positions) if length > positions => Err(Error::Setting(format!(
                "the history has {positions} positions but the batch has {length} tokens a sample: calibrate with longer samples, or use --history buckets"
            ))),
            _ => Ok(()),
        }
    }

    /// `[rows][width]` of a layer's half.
    pub fn values(&self, layer: usize, half: Half) -> &Buffer {
        &self.layers[layer][half.index()]
    }

    /// A layer's half, to fuse with; `weight` of the probe where it is fixed.
    pub(super) fn of(&self, layer: usize, half: Half, weight: Option<f32>) -> fusion::History<'_> {
        fusion::History { values: self.values(layer, half), rows: self.rows, weight }
    }
}

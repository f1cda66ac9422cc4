//! The running mean of squared activations, per position and channel (probe-pruning paper, section 4.3), and the dense
//! passes that fill it before anything is pruned.

use super::{Block, Mask, Selector};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu, Recorder};
use crate::kernels::history_update::{self, Update};
use crate::kernels::matmul_columns::stride;
use crate::kernels::{Rows, fusion};
use std::sync::Arc;

/// Histories of every layer's two ranked inputs.
pub struct History {
    /// Positions it has rows for; `None` = one row for all of them.
    positions: Option<usize>,
    /// `[positions][A*d]` by layer: the input of `o_proj`.
    pub heads: Vec<Buffer>,
    /// `[positions][C]` by layer: the input of `down_proj`.
    pub channels: Vec<Buffer>,
}

impl History {
    /// An empty history with a row for each of `positions` positions (exact), or one row for all (collapsed).
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn empty(gpu: &Gpu, model: &ModelConfig, positions: Option<usize>) -> Result<History> {
        let rows = positions.unwrap_or(1);
        let bank = |width: usize| -> Result<Vec<Buffer>> {
            (0..model.num_hidden_layers).map(|_| gpu.zeros("history", rows * width)).collect()
        };
        Ok(History {
            positions,
            heads: bank(model.num_attention_heads * model.head_dim)?,
            channels: bank(model.intermediate_size)?,
        })
    }

    /// Whether it has one row for all positions.
    pub fn is_collapsed(&self) -> bool {
        self.positions.is_none()
    }

    /// Refuses samples longer than the history.
    ///
    /// # Errors
    /// [`Error::Setting`] with both lengths.
    pub fn check(&self, length: usize) -> Result<()> {
        match self.positions {
            Some(positions) if length > positions => Err(Error::Setting(format!(
                "the history has {positions} positions but the batch has {length} tokens a sample: calibrate with longer samples"
            ))),
            _ => Ok(()),
        }
    }

    /// A layer's history of `o_proj`'s input, to fuse with.
    pub fn of_heads(&self, layer: usize) -> fusion::History<'_> {
        self.fused(&self.heads[layer])
    }

    /// A layer's history of `down_proj`'s input, to fuse with.
    pub fn of_channels(&self, layer: usize) -> fusion::History<'_> {
        self.fused(&self.channels[layer])
    }

    fn fused<'a>(&self, rows: &'a Buffer) -> fusion::History<'a> {
        match self.positions {
            Some(_) => fusion::History::Exact(rows),
            None => fusion::History::Collapsed(rows),
        }
    }
}

/// Fills a history from dense passes: the mean over samples of squared activations.
pub struct Calibrating<'h> {
    history: &'h History,
    /// Samples of all passes together.
    samples: usize,
    /// Tokens of each.
    length: usize,
}

impl<'h> Calibrating<'h> {
    /// Adds to `history`, `samples` of `length` tokens in all.
    pub fn new(history: &'h History, samples: usize, length: usize) -> Calibrating<'h> {
        Calibrating { history, samples, length }
    }

    fn add(&self, rec: &mut Recorder<'_>, block: &Block<'_>, x: Rows<'_>, h: &Buffer, width: usize) -> Result<()> {
        let collapsed = self.history.positions.is_none();
        let share = if collapsed { self.samples * self.length } else { self.samples };
        let update = Update {
            samples: block.samples,
            length: block.length,
            width,
            stride: stride(width),
            mean: false,
            collapsed,
            keep: 1.0,
            gain: 1.0 / share as f32,
        };
        history_update::record(rec, x, None, Some(block.lengths), h, update)
    }
}

impl Selector for Calibrating<'_> {
    fn heads(&mut self, _: &mut Recorder<'_>, _: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(None)
    }

    fn attended(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, mixed: Rows<'_>) -> Result<()> {
        self.add(rec, block, mixed, &self.history.heads[block.layer], block.weights.o.cols)
    }

    fn channels(&mut self, _: &mut Recorder<'_>, _: &Block<'_>) -> Result<Option<Arc<Mask>>> {
        Ok(None)
    }

    fn activated(&mut self, rec: &mut Recorder<'_>, block: &Block<'_>, active: Rows<'_>) -> Result<()> {
        self.add(rec, block, active, &self.history.channels[block.layer], block.weights.down.cols)
    }
}

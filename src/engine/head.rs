//! From the last state to logits.

use crate::config::ModelConfig;
use crate::error::Result;
use crate::gpu::{Buffer, Gpu, Recorder};
use crate::kernels::{Rows, matmul_rows};
use crate::model::ModelWeights;

/// The output head, with room for what comes before it.
pub(super) struct Head {
    narrowed: Option<Buffer>, // [rows][E], where the last state is narrowed
}

impl Head {
    /// Room for so many rows at once.
    pub fn new(gpu: &Gpu, model: &ModelConfig, rows: usize) -> Result<Head> {
        let narrowed = model.word_embed_proj_dim.map(|width| gpu.zeros("narrowed state", rows * width));
        Ok(Head { narrowed: narrowed.transpose()? })
    }

    /// Records the logits `[rows][vocab]` of `rows` rows of the normed state.
    pub fn record(
        &self,
        rec: &mut Recorder<'_>,
        model: &ModelWeights,
        normed: Rows<'_>,
        logits: &Buffer,
        rows: usize,
    ) -> Result<()> {
        match (&model.project_out, &self.narrowed) {
            (Some(narrow), Some(narrowed)) => {
                matmul_rows::record(rec, normed, narrow, None, narrowed.into(), rows)?;
                matmul_rows::record(rec, narrowed.into(), model.head(), None, logits.into(), rows)
            }
            _ => matmul_rows::record(rec, normed, model.head(), None, logits.into(), rows),
        }
    }
}

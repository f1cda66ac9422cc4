//! What dropped units would have added on average, put back as a bias (FLAP's idea, arXiv 2312.11983, section 3.3):
//! `bias = W[:, dropped] mean[dropped]`, added to the residual stream beside what the kept units add.
//!
//! Invariant: a bias belongs to the mask that was chosen last for its layer and half.

use super::{Block, Calibration, Half, Mask};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::gpu::{Buffer, Gpu, Recorder};
use crate::kernels::matmul_columns::{Product, stride};
use crate::kernels::{add_bias, dropped_mean, matmul_columns};
use crate::model::LayerWeights;
use std::sync::Arc;

/// Calibrated means of every layer's two ranked inputs.
pub struct Means(Vec<[Buffer; 2]>); // [width], by layer and half

impl Means {
    /// Those of a calibration.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`], and of reading the calibration.
    pub fn new(gpu: &Gpu, model: &ModelConfig, calibration: &Calibration) -> Result<Means> {
        let of = |layer, half| gpu.upload("means", &calibration.mean(layer, half)?);
        let layers = (0..model.num_hidden_layers).map(|layer| Ok([of(layer, Half::Attention)?, of(layer, Half::Mlp)?]));
        Ok(Means(layers.collect::<Result<_>>()?))
    }

    /// Those of one layer's half, `[width]`.
    pub fn of(&self, layer: usize, half: Half) -> &Buffer {
        &self.0[layer][half.index()]
    }
}

/// The biases of a choice of units.
pub struct Compensation {
    means: Arc<Means>,
    dropped: Buffer,          // [max(stride(A*d), stride(C))]
    biases: Vec<[Buffer; 2]>, // [H], by layer and half
}

impl Compensation {
    /// Biases of zero.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    pub fn new(gpu: &Gpu, model: &ModelConfig, means: Arc<Means>) -> Result<Compensation> {
        let width = Half::BOTH.map(|half| stride(half.width(model))).into_iter().max().unwrap_or(0);
        let bias = || gpu.zeros("bias", model.hidden_size);
        let biases = (0..model.num_hidden_layers).map(|_| Ok([bias()?, bias()?])).collect::<Result<_>>()?;
        Ok(Compensation { means, dropped: gpu.zeros("dropped means", width)?, biases })
    }

    /// Records the bias of a choice that was just recorded.
    ///
    /// # Errors
    /// Those of the kernels it records.
    pub fn refresh(
        &self,
        rec: &mut Recorder<'_>,
        (layer, half): (usize, Half),
        weights: &LayerWeights,
        mask: &Mask,
    ) -> Result<()> {
        let (weight, unit) = (half.output(weights), mask.kept().unit);
        dropped_mean::record(rec, self.means.of(layer, half), (mask.place_of(), unit), &self.dropped, weight.cols)?;
        let bias = &self.biases[layer][half.index()];
        matmul_columns::record(rec, (&self.dropped).into(), weight, None, Product::Set(bias.into()), 1)
    }

    /// Records the addition to every token of a block.
    ///
    /// # Errors
    /// Those of the kernel it records.
    pub fn apply(&self, rec: &mut Recorder<'_>, block: &Block<'_>, half: Half) -> Result<()> {
        let width = half.output(block.weights).rows;
        let tokens = block.samples * block.length;
        add_bias::record(rec, block.residual, self.bias(block.layer, half), (tokens, width))
    }

    /// The bias of one layer's half, `[H]`.
    pub fn bias(&self, layer: usize, half: Half) -> &Buffer {
        &self.biases[layer][half.index()]
    }
}

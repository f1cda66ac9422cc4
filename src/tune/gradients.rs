//! Moments of the gradients of one layer's weights over samples.

use super::taylor::Taylor;
use crate::error::{Error, Result};
use crate::llama::{Layer, failure};
use crate::model::LayerTensor;
use burn::tensor::{Gradients, Tensor};

/// The scales of a layer.
const SCALES: [LayerTensor; 2] = [LayerTensor::AttentionNorm, LayerTensor::MlpNorm];

/// Every weight of a layer: projections, then scales.
fn weights() -> impl Iterator<Item = LayerTensor> {
    LayerTensor::MATRICES.into_iter().chain(SCALES)
}

/// Which moments are wanted: each takes as much memory as a layer's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The mean over samples.
    pub mean: bool,
    /// The mean over samples of the square.
    pub squares: bool,
}

impl From<Taylor> for Wanted {
    fn from(taylor: Taylor) -> Wanted {
        Wanted { mean: taylor.uses_mean(), squares: taylor.uses_squares() }
    }
}

/// Of one weight, `[in, out]` or `[1, H]`.
#[derive(Default)]
struct Moments {
    mean: Option<Tensor<2>>,
    squares: Option<Tensor<2>>,
}

/// The weights of a layer and moments of their gradients.
pub struct LayerGradients {
    layer: Layer,
    wanted: Wanted,
    moments: [Moments; LayerTensor::MATRICES.len() + SCALES.len()],
}

impl LayerGradients {
    /// Without samples yet; the layer's weights track gradients.
    pub(super) fn new(layer: Layer, wanted: Wanted) -> LayerGradients {
        LayerGradients { layer, wanted, moments: Default::default() }
    }

    pub(super) fn layer(&self) -> &Layer {
        &self.layer
    }

    /// Adds the gradients of one of `samples` samples.
    pub(super) fn add(&mut self, gradients: &Gradients, samples: usize) -> Result<()> {
        for (moments, tensor) in self.moments.iter_mut().zip(weights()) {
            let gradient = match (self.layer.projection(tensor), self.layer.scale(tensor)) {
                (Some(projection), _) => projection.grad(gradients),
                (None, Some(scale)) => scale.grad(gradients).map(Tensor::unsqueeze::<2>),
                (None, None) => None,
            };
            let gradient = gradient.ok_or_else(|| Error::Internal(format!("burn gave no gradient of {tensor:?}")))?;
            if self.wanted.squares {
                add(&mut moments.squares, gradient.clone() * gradient.clone() / samples as f32);
            }
            if self.wanted.mean {
                add(&mut moments.mean, gradient / samples as f32);
            }
        }
        Ok(())
    }

    /// The mean gradient of a weight, rows and columns as the files have them.
    ///
    /// # Errors
    /// [`Error::Internal`] for a weight that the layer lacks or a moment that was not wanted; [`Error::Device`] when burn fails.
    pub fn mean(&self, tensor: LayerTensor) -> Result<Vec<f32>> {
        let mean = self.of(tensor)?.mean.clone().ok_or_else(|| missing(tensor))?;
        let as_in_files = if self.layer.projection(tensor).is_some() { mean.transpose() } else { mean };
        as_in_files.try_into_vec_as::<f32>().map_err(failure)
    }

    /// Importance of every row (`axis` 0) or column (`axis` 1), as the files have them, of a projection. Length `out` or `in`.
    pub(super) fn importance(&self, taylor: Taylor, tensor: LayerTensor, axis: usize) -> Result<Vec<f64>> {
        let Moments { mean, squares } = self.of(tensor)?;
        let weight = self.layer.projection(tensor).ok_or_else(|| missing(tensor))?.inner();
        // burn's matrices are the transposes: a row of the files lies along the first dimension.
        let sums = taylor.sums(weight, (mean.clone(), squares.clone()), axis).ok_or_else(|| missing(tensor))?;
        let sums = sums.try_into_vec_as::<f32>().map_err(failure)?;
        Ok(sums.into_iter().map(f64::from).collect())
    }

    fn of(&self, tensor: LayerTensor) -> Result<&Moments> {
        let place = weights().position(|weight| weight == tensor);
        place.map(|place| &self.moments[place]).ok_or_else(|| missing(tensor))
    }
}

fn add(sum: &mut Option<Tensor<2>>, more: Tensor<2>) {
    *sum = Some(match sum.take() {
        Some(sum) => sum + more,
        None => more,
    });
}

fn missing(tensor: LayerTensor) -> Error {
    Error::Internal(format!("no such moment of {tensor:?} was kept"))
}

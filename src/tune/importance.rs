//! LLM-Pruner's importance of heads and channels (Ma, Fang, Wang: arXiv 2305.11627).
//!
//! A unit is what goes together: of a head its rows of q and its columns of o, of a key/value head that goes with all of its
//! query heads also its rows of k and v, of a channel its rows of gate and up and its column of down. Where there are fewer
//! key/value heads than query heads, LLM-Pruner's code adds up those query heads whose numbers differ by a multiple of the number
//! of key/value heads; here they are those that share a key/value head.

use super::backward::{Heard, Passes};
use super::gradients::LayerGradients;
use super::processor::Processor;
use super::taylor::{Reduction, Taylor};
use crate::config::{ModelConfig, RopeLayout};
use crate::error::{Error, Result};
use crate::model::{LayerTensor, ModelFiles};
use serde::Serialize;
use std::ops::Range;

/// How units are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How a weight is.
    pub taylor: Taylor,
    /// How a unit's matrices add up.
    pub reduction: Reduction,
    /// Query heads that share a key/value head go together, with its keys and values.
    pub whole_groups: bool,
    /// The layers that are judged.
    pub layers: Range<usize>,
}

/// How important every unit is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Importance {
    /// Of query heads and of MLP channels by layer; empty where the layer is not judged.
    pub layers: Vec<[Vec<f64>; 2]>,
    /// Mean loss of the samples, in nats a token.
    pub loss: f64,
}

/// Judges every unit of a model by samples of text of one length.
///
/// # Errors
/// Those of [`Passes::forward`] and [`Passes::backward`]; [`Error::BadFile`] where an importance is no number.
pub fn importance(
    files: &ModelFiles,
    processor: &Processor,
    samples: &[Vec<u32>],
    options: &Options,
    heard: Heard<'_>,
) -> Result<Importance> {
    let mut layers = vec![[Vec::new(), Vec::new()]; files.config.num_hidden_layers];
    let passes = Passes::forward(files, processor, samples, options.layers.start, heard)?;
    let losses = passes.backward(options.taylor.into(), heard, &mut |index, gradients| {
        if !options.layers.contains(&index) {
            return Ok(());
        }
        let units = [heads(&files.config, gradients, options)?, channels(gradients, options)?];
        if units.iter().flatten().any(|unit| !unit.is_finite()) {
            let what = format!("the gradients of layer {index} leave the range of 32-bit floats");
            return Err(Error::bad_file(&files.path, what));
        }
        layers[index] = units;
        Ok(())
    })?;
    Ok(Importance { layers, loss: losses.iter().sum::<f64>() / losses.len() as f64 })
}

/// Of every query head; those that go together have one value.
fn heads(config: &ModelConfig, gradients: &LayerGradients, options: &Options) -> Result<Vec<f64>> {
    let (d, group) = (config.head_dim, config.group_size());
    let of = |tensor, axis| gradients.importance(options.taylor, tensor, axis);
    let q = in_order(config, of(LayerTensor::Q, 0)?);
    let o = of(LayerTensor::O, 1)?;
    let summed = |elements: Vec<f64>| -> Vec<f64> { elements.chunks_exact(d).map(|head| head.iter().sum()).collect() };
    if group > 1 && !options.whole_groups {
        return Ok(summed(options.reduction.reduce(&[q, o])));
    }
    let (k, v) = (in_order(config, of(LayerTensor::K, 0)?), of(LayerTensor::V, 0)?);
    let shared = |elements: Vec<f64>| -> Vec<f64> {
        let of_group = |heads: &[f64]| (0..d).map(|i| heads[i..].iter().step_by(d).sum()).collect::<Vec<f64>>();
        elements.chunks_exact(group * d).flat_map(of_group).collect()
    };
    let groups = summed(options.reduction.reduce(&[shared(q), k, v, shared(o)]));
    Ok(groups.into_iter().flat_map(|unit| vec![unit; group]).collect())
}

/// Of every MLP channel.
fn channels(gradients: &LayerGradients, options: &Options) -> Result<Vec<f64>> {
    let of = |tensor, axis| gradients.importance(options.taylor, tensor, axis);
    Ok(options.reduction.reduce(&[of(LayerTensor::Gate, 0)?, of(LayerTensor::Up, 0)?, of(LayerTensor::Down, 1)?]))
}

/// Elements of q or k as Hugging Face orders them, so that they meet the same elements of v and o in both kinds of files.
pub(super) fn in_order<T: Copy>(config: &ModelConfig, elements: Vec<T>) -> Vec<T> {
    if config.rope_layout == RopeLayout::Halves {
        return elements;
    }
    let half = config.head_dim / 2;
    let ordered = |head: &[T]| {
        let (pairs, _) = head.as_chunks::<2>();
        debug_assert_eq!(pairs.len(), half);
        pairs.iter().map(|pair| pair[0]).chain(pairs.iter().map(|pair| pair[1])).collect::<Vec<T>>()
    };
    elements.chunks_exact(config.head_dim).flat_map(ordered).collect()
}

//! `x += added + bias` and `y = (x - mean) / sqrt(variance + eps) * scale + shift` by rows, and each row's length: the residual
//! importance of a token. OPT's norms, in front of a block's halves or behind them.

use super::{Rows, norm_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    layer_norm [Write, Read, Read, Read, Write, Write, Store] {
        width: u32, x_row: u32, y_row: u32, eps: f32, parts: u32, part_stride: u32, biased: u32, place: u32,
    }
}

/// Where a norm stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: `y` is `x`. Before the first block of a model whose norms follow.
    Nowhere,
    /// Before half a block: the residual stream stays as it is.
    Before,
    /// Behind half a block: the residual stream becomes the normed row, whose length is taken.
    Behind,
}

/// Records the norm of `tokens` rows of `width` columns; `norm` is `[2][width]`, scale and shift. What is `added` to the rows of `x`
/// first comes in so many parts, `[parts][tokens][width]`, and `bias` `[width]` with it. `norms[i]` is the length of the `i`-th row of
/// the residual stream that the following half block reads.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    x: Rows<'_>,
    (added, bias): (Option<(&Buffer, usize)>, Option<&Buffer>),
    (norm, place): (&Buffer, Place),
    y: Rows<'_>,
    norms: &Buffer,
    (tokens, width, eps): (usize, usize, f32),
) -> Result<()> {
    let params = Params {
        width: (width / 4) as u32,
        x_row: x.first,
        y_row: y.first,
        eps,
        parts: added.map_or(0, |(_, parts)| parts as u32),
        part_stride: (tokens * width / 4) as u32,
        biased: bias.is_some().into(),
        place: place as u32,
    };
    let variant = norm_variant(rec.gpu().tier()).storing(y.buffer.is_mirrored());
    let buffers =
        [x.buffer, added.map_or(norm, |(added, _)| added), bias.unwrap_or(norm), norm, y.buffer, norms, y.buffer];
    rec.dispatch(&KERNEL, &variant, &params, &buffers, [tokens as u32, 1, 1])
}

/// The naive CPU twin: `(y, norms)` of `x [tokens, width]`, to which everything is added; `norm` is `[2][width]`.
pub fn twin(x: &[f32], norm: &[f32], place: Place, eps: f32) -> (Vec<f32>, Vec<f32>) {
    let (scale, shift) = norm.split_at(norm.len() / 2);
    let (mut y, mut norms) = (Vec::new(), Vec::new());
    for row in x.chunks_exact(scale.len()) {
        let count = row.len() as f32;
        let mean = row.iter().sum::<f32>() / count;
        let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / count;
        let by = 1.0 / (variance + eps).sqrt();
        let normed = row.iter().zip(scale.iter().zip(shift)).map(|(v, (w, b))| (v - mean) * by * w + b);
        let normed: Vec<f32> = if place == Place::Nowhere { row.to_vec() } else { normed.collect() };
        let residual = if place == Place::Behind { &normed } else { row };
        norms.push(residual.iter().map(|v| v * v).sum::<f32>().sqrt());
        y.extend(normed);
    }
    (y, norms)
}

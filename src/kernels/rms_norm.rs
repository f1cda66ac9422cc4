//! `x += added` and `y = x / sqrt(mean(x^2) + eps) * weight` by rows, and each row's norm: the residual importance of a token.

use super::{Rows, norm_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    rms_norm [Write, Read, Read, Write, Write, Store] {
        width: u32, x_row: u32, y_row: u32, eps: f32, parts: u32, part_stride: u32,
    }
}

/// Records the norm of `tokens` rows of `width` columns; `norms[i]` is the length of the `i`-th of them before it. What is `added`
/// to the rows of `x` first comes in so many parts, `[parts][tokens][width]`.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    x: Rows<'_>,
    added: Option<(&Buffer, usize)>,
    weight: &Buffer,
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
    };
    let variant = norm_variant(rec.gpu().tier()).storing(y.buffer.is_mirrored());
    let buffers = [x.buffer, added.map_or(weight, |(added, _)| added), weight, y.buffer, norms, y.buffer];
    rec.dispatch(&KERNEL, &variant, &params, &buffers, [tokens as u32, 1, 1])
}

/// The naive CPU twin: `(y, norms)` of `x [tokens, weight.len()]`, to which everything is added.
pub fn twin(x: &[f32], weight: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>) {
    let mut norms = Vec::new();
    let mut y = Vec::new();
    for row in x.chunks_exact(weight.len()) {
        let sum: f32 = row.iter().map(|v| v * v).sum();
        norms.push(sum.sqrt());
        let scale = 1.0 / (sum / row.len() as f32 + eps).sqrt();
        y.extend(row.iter().zip(weight).map(|(v, w)| v * scale * w));
    }
    (y, norms)
}

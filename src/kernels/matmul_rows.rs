//! `y[t, j] = x[t] . W[row(j)]` with [`Layout::Rows`] weights: q, k, v and the output head. Pruning gathers rows.

use super::half_rows::Halves;
use super::shapes::Shaped;
use super::{
    FEW as FEW_TOKENS, Kept, Lent, Rows, TILED_SIDE, is_tiled, keeps_mirror, matrix, mirror_rows, tile, tiled_variant,
    wide_rows,
};
use crate::error::Result;
use crate::format::{Layout, Weight};
use crate::gpu::{Buffer, Fetched, Kernel, Recorder};

super::kernel! {
    /// The op.
    matmul_rows [Fetch, Fetch, Fetch, Fetch, Write, Store] {
        tokens: u32, outputs: u32, steps: u32, x_row: u32, y_row: u32, y_stride: u32, y_column: u32, unit: u32,
        first_row: u32, rows: u32, exponent: i32, up_exponent: i32,
    }
}

super::sibling! {
    /// The op for one or two tokens.
    FEW = matmul_rows_few
}

super::sibling! {
    /// The op for many tokens on hardware: tiles of 64 tokens by 64 columns through workgroup memory.
    TILED = matmul_rows_tiled
}

super::sibling! {
    /// The op for many tokens on matrix units, whose activations lie as [`super::half_rows`] leaves them.
    MATRIX = matmul_rows_matrix
}

/// The kernels of an op that multiplies by rows: for one or two tokens, for any other number, and for many on hardware and on matrix
/// units.
#[derive(Clone, Copy)]
pub(super) struct ByRows {
    pub few: &'static Kernel,
    pub plain: &'static Kernel,
    pub tiled: &'static Kernel,
    pub matrix: &'static Kernel,
}

/// Records `y = x W^T` for `tokens` rows. `x` rows are as wide as the weight has inputs; a row of `y` holds one value
/// per kept output.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    x: Rows<'_>,
    weight: &Weight,
    kept: Option<Kept<'_>>,
    y: Rows<'_>,
    tokens: usize,
) -> Result<()> {
    let outputs = outputs(weight, kept);
    let kernels = ByRows { few: &FEW, plain: &KERNEL, tiled: &TILED, matrix: &MATRIX };
    dispatch(rec, kernels, x, (weight, None), kept, (y, outputs), tokens)
}

/// Values of a row of the result.
pub(super) fn outputs(weight: &Weight, kept: Option<Kept<'_>>) -> usize {
    kept.map_or(weight.rows, |kept| kept.count * kept.unit)
}

/// Records one of the ops that multiply by rows, with a bias where the op has one. Rows of `y` are so many values apart, a multiple
/// of four where `y` has a mirror.
pub(super) fn dispatch(
    rec: &mut Recorder<'_>,
    kernels: ByRows,
    x: Rows<'_>,
    (weight, bias): (&Weight, Option<&Buffer>),
    kept: Option<Kept<'_>>,
    (y, y_stride): (Rows<'_>, usize),
    tokens: usize,
) -> Result<()> {
    debug_assert_eq!(weight.layout, Layout::Rows);
    let outputs = outputs(weight, kept);
    let tier = rec.gpu().tier();
    if let Some(wide) = wide_rows(tier, tokens) {
        dispatch(rec, kernels, x, (weight, bias), kept, (y, y_stride), wide)?;
        return dispatch(rec, kernels, x.skip(wide), (weight, bias), kept, (y.skip(wide), y_stride), tokens - wide);
    }
    let (inputs, x_row) = Lent::rows(rec, x, weight.cols, tokens)?;
    let kept_rows = kept.map(|kept| Lent::list(rec, Fetched::Kept, kept.list, kept.count)).transpose()?;
    // Without a list anything may be bound in its place.
    let list = kept_rows.as_ref().unwrap_or(&inputs).buffer();
    let mut halves = Halves::default();
    let stores = keeps_mirror(y, weight, tokens);
    for shard in &weight.shards {
        // Without a list a shard owns its stretch of y; with one, every shard looks at every kept row.
        let (columns, first) = match kept {
            None => (shard.rows as usize, shard.first_row),
            Some(_) => (outputs, 0),
        };
        let params = Params {
            tokens: tokens as u32,
            outputs: columns as u32,
            steps: (weight.cols / 64) as u32,
            x_row,
            y_row: y.first,
            y_stride: y_stride as u32,
            y_column: first,
            unit: kept.map_or(0, |kept| kept.unit as u32),
            first_row: shard.first_row,
            rows: shard.rows,
            exponent: shard.exponent(),
            up_exponent: 0,
        };
        let mut buffers = vec![inputs.buffer(), &shard.quants, &shard.scales, list, y.buffer];
        buffers.extend(bias);
        buffers.push(y.buffer);
        let formats = &[shard.format];
        if tokens <= FEW_TOKENS {
            let shape = Shaped::Rows.shape(rec.gpu());
            let variant = shape.of_rows(formats).storing(stores);
            rec.dispatch(kernels.few, &variant, &params, &buffers, shape.grid(columns, tokens))?;
        } else if is_tiled(tier, tokens) {
            let grid = [(columns as u32).div_ceil(TILED_SIDE), (tokens as u32).div_ceil(TILED_SIDE), 1];
            match matrix::units(rec.gpu(), Shaped::Rows, formats) {
                None => rec.dispatch(kernels.tiled, &tiled_variant(Layout::Rows, formats), &params, &buffers, grid)?,
                Some(units) => {
                    let half_rows = halves.of(rec, x, (weight.cols, weight.cols), tokens)?;
                    buffers[0] = &half_rows;
                    let variant = matrix::variant(units, Layout::Rows, formats);
                    rec.dispatch(kernels.matrix, &variant, &params, &buffers, grid)?;
                }
            }
        } else {
            let tile = tile(tier, tokens, 1);
            rec.dispatch(kernels.plain, &tile.variant(formats), &params, &buffers, tile.grid(tokens, columns))?;
        }
    }
    if stores { Ok(()) } else { mirror_rows(rec, y, y_stride, tokens) }
}

/// The naive CPU twin: `x [tokens, cols]`, `w [rows, cols]`, kept output rows in order.
pub fn twin(x: &[f32], w: &[f32], cols: usize, rows: &[usize]) -> Vec<f32> {
    x.chunks_exact(cols)
        .flat_map(|x| {
            rows.iter().map(move |&row| x.iter().zip(&w[row * cols..][..cols]).map(|(a, b)| a * b).sum::<f32>())
        })
        .collect()
}

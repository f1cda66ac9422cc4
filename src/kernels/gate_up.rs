//! `y[t, j] = silu(x[t] . G[row(j)]) * (x[t] . U[row(j)])`: the first half of a LLaMA MLP. Pruning gathers rows of both.

use super::half_rows::Halves;
use super::shapes::Shaped;
use super::{
    FEW as FEW_TOKENS, Kept, Lent, Rows, TILED_SIDE, is_tiled, keeps_mirror, matrix, mirror_rows, tile, tiled_variant,
    wide_rows,
};
use crate::error::{Error, Result};
use crate::format::{Layout, Weight};
use crate::gpu::{Fetched, Recorder};

super::kernel! {
    /// The op.
    gate_up [Fetch, Fetch, Fetch, Fetch, Fetch, Fetch, Write, Store] {
        tokens: u32, outputs: u32, steps: u32, x_row: u32, y_row: u32, y_stride: u32, y_column: u32, unit: u32,
        first_row: u32, rows: u32, exponent: i32, up_exponent: i32,
    }
}

super::sibling! {
    /// The op for one or two tokens.
    FEW = gate_up_few
}

super::sibling! {
    /// The op for many tokens on hardware: tiles of 64 tokens by 64 columns through workgroup memory.
    TILED = gate_up_tiled
}

super::sibling! {
    /// The op for many tokens on matrix units, whose activations lie as [`super::half_rows`] leaves them.
    MATRIX = gate_up_matrix
}

/// Records `y = silu(x G^T) * (x U^T)` for `tokens` rows; a row of `y` holds
/// [`super::matmul_columns::stride`] values, one per kept channel first. Both weights
/// are cut into the same shards.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    x: Rows<'_>,
    (gate, up): (&Weight, &Weight),
    kept: Option<Kept<'_>>,
    y: Rows<'_>,
    tokens: usize,
) -> Result<()> {
    debug_assert!(gate.layout == Layout::Rows && up.layout == Layout::Rows);
    if gate.shards.len() != up.shards.len() {
        return Err(Error::Internal("gate and up are cut into different shards".into()));
    }
    let outputs = kept.map_or(gate.rows, |kept| kept.count * kept.unit);
    let tier = rec.gpu().tier();
    if let Some(wide) = wide_rows(tier, tokens) {
        record(rec, x, (gate, up), kept, y, wide)?;
        return record(rec, x.skip(wide), (gate, up), kept, y.skip(wide), tokens - wide);
    }
    let (inputs, x_row) = Lent::rows(rec, x, gate.cols, tokens)?;
    let kept_rows = kept.map(|kept| Lent::list(rec, Fetched::Kept, kept.list, kept.count)).transpose()?;
    // Without a list anything may be bound in its place.
    let list = kept_rows.as_ref().unwrap_or(&inputs).buffer();
    let mut halves = Halves::default();
    let (stores, y_stride) = (keeps_mirror(y, gate, tokens), super::matmul_columns::stride(outputs));
    for (gate_shard, up_shard) in gate.shards.iter().zip(&up.shards) {
        let (columns, first) = match kept {
            None => (gate_shard.rows as usize, gate_shard.first_row),
            Some(_) => (outputs, 0),
        };
        let params = Params {
            tokens: tokens as u32,
            outputs: columns as u32,
            steps: (gate.cols / 64) as u32,
            x_row,
            y_row: y.first,
            y_stride: y_stride as u32,
            y_column: first,
            unit: kept.map_or(0, |kept| kept.unit as u32),
            first_row: gate_shard.first_row,
            rows: gate_shard.rows,
            exponent: gate_shard.exponent(),
            up_exponent: up_shard.exponent(),
        };
        let mut buffers = [
            inputs.buffer(),
            &gate_shard.quants,
            &gate_shard.scales,
            &up_shard.quants,
            &up_shard.scales,
            list,
            y.buffer,
            y.buffer,
        ];
        let formats = &[gate_shard.format, up_shard.format];
        if tokens <= FEW_TOKENS {
            let shape = Shaped::GateUp.shape(rec.gpu());
            let variant = shape.of_rows(formats).storing(stores);
            rec.dispatch(&FEW, &variant, &params, &buffers, shape.grid(columns, tokens))?;
        } else if is_tiled(tier, tokens) {
            let grid = [(columns as u32).div_ceil(TILED_SIDE / 2), (tokens as u32).div_ceil(TILED_SIDE), 1];
            match matrix::units(rec.gpu(), Shaped::GateUp, formats) {
                None => rec.dispatch(&TILED, &tiled_variant(Layout::Rows, formats), &params, &buffers, grid)?,
                Some(units) => {
                    let half_rows = halves.of(rec, x, (gate.cols, gate.cols), tokens)?;
                    buffers[0] = &half_rows;
                    rec.dispatch(&MATRIX, &matrix::variant(units, Layout::Rows, formats), &params, &buffers, grid)?;
                }
            }
        } else {
            let tile = tile(tier, tokens, 2);
            rec.dispatch(&KERNEL, &tile.variant(formats), &params, &buffers, tile.grid(tokens, columns))?;
        }
    }
    if stores { Ok(()) } else { mirror_rows(rec, y, y_stride, tokens) }
}

/// The naive CPU twin: `x [tokens, cols]`, `g` and `u` `[rows, cols]`, kept channels in order.
pub fn twin(x: &[f32], g: &[f32], u: &[f32], cols: usize, rows: &[usize]) -> Vec<f32> {
    let gates = super::matmul_rows::twin(x, g, cols, rows);
    let ups = super::matmul_rows::twin(x, u, cols, rows);
    gates.iter().zip(ups).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect()
}

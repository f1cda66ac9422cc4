//! `y[t, h] (+)= sum_j a[t, j] * W[channel(j)][h]` with [`Layout::Columns`] weights: o and down. Pruning gathers channels.
//! What is left to add up, and the addition to the residual stream, [`super::rms_norm`] does as it reads the sum.

use super::half_rows::Halves;
use super::shapes::{Shape, Shaped};
use super::{
    FEW as FEW_TOKENS, Kept, Lent, NARROW, Rows, TILED_SIDE, Tile, is_tiled, matrix, tiled_variant, wide_rows,
};
use crate::error::Result;
use crate::format::{COLUMN_BLOCK, Layout, Weight, WeightFormat};
use crate::gpu::{Buffer, Fetched, Gpu, Recorder, Substitution, Tier};

super::kernel! {
    /// The op.
    matmul_columns [Fetch, Fetch, Fetch, Fetch, Fetch, Write] {
        tokens: u32, inputs: u32, channels: u32, a_row: u32, a_stride: u32, y_row: u32, y_stride: u32,
        y_column: u32, blocks: u32, block_quants: u32, block_scales: u32, parts: u32, part_stride: u32, unit: u32, add: u32, exponent: i32,
    }
}

super::sibling! {
    /// The op for one or two tokens.
    FEW = matmul_columns_few
}

super::sibling! {
    /// The op for many tokens on hardware: tiles of 64 tokens by 64 columns through workgroup memory.
    TILED = matmul_columns_tiled
}

super::sibling! {
    /// The op for many tokens on matrix units, whose activations lie as [`super::half_rows`] leaves them.
    MATRIX = matmul_columns_matrix
}

/// The tile for `tokens` rows, more than [`FEW_TOKENS`]; `tn` is always one block of outputs.
fn tile(tier: Tier, tokens: usize) -> Tile {
    match (tier, tokens) {
        (Tier::Software, 0..=NARROW) => Tile { tm: 4, tn: 1, lm: 1, ln: 8 },
        (Tier::Software, _) => Tile { tm: 8, tn: 1, lm: 8, ln: 1 },
        (Tier::Gpu, _) => Tile { tm: 2, tn: 1, lm: 8, ln: 8 },
    }
}

/// Parts in which the product of `tokens` rows is best left: few rows do not fill a device otherwise.
pub fn parts(tier: Tier, tokens: usize) -> usize {
    match (tier, tokens) {
        (Tier::Software, 0..=2) => 4,
        (Tier::Software, 3..=32) => 2,
        (Tier::Gpu, 0..=2) => 16,
        (Tier::Gpu, 3..=64) => 4,
        (Tier::Gpu, 65..=128) => 2,
        _ => 1,
    }
}

/// Rows of all parts, of the product of at most `tokens` rows that has the most.
pub fn most_parts(gpu: &Gpu, tokens: usize) -> usize {
    most_rows(gpu.tier(), tokens)
}

/// [`most_parts`] of a device of that tier.
pub fn most_rows(tier: Tier, tokens: usize) -> usize {
    (1..=tokens).map(|tokens| tokens * parts(tier, tokens)).max().unwrap_or(0)
}

/// Where a product goes.
#[derive(Clone, Copy)]
pub enum Product<'a> {
    /// It replaces these rows.
    Set(Rows<'a>),
    /// It is added to these rows.
    Add(Rows<'a>),
    /// It is left in [`parts`]: `[parts][tokens][outputs]`.
    Parts(&'a Buffer),
}

fn variant(tile: Tile, format: WeightFormat) -> Substitution {
    Substitution {
        weights: vec![format.decoder(Layout::Columns)],
        numbers: vec![
            ("TM", tile.tm),
            ("LM", tile.lm),
            ("LN", tile.ln),
            ("LANES", tile.lm * tile.ln),
            ("FOURS", COLUMN_BLOCK as u32 / 4),
        ],
    }
}

/// Every variant for more than a few tokens that can be compiled for `tier`.
pub fn variants(tier: Tier) -> Vec<Substitution> {
    let tiles = [3, 64].map(|tokens| tile(tier, tokens));
    WeightFormat::ALL.iter().flat_map(|&format| tiles.map(|tile| variant(tile, format))).collect()
}

/// How the kept inputs of a few tokens are listed, as the shader names it.
#[derive(Clone, Copy)]
enum List {
    /// Not at all: all of them are kept.
    None,
    /// Channel by channel.
    Channels,
    /// By units of whole groups of channels that share their scales.
    Whole,
    /// By other units.
    Cut,
}

impl List {
    fn of(kept: Option<Kept<'_>>) -> List {
        match kept.map_or(0, |kept| kept.unit) {
            0 => List::None,
            1 => List::Channels,
            unit if unit % COLUMN_BLOCK == 0 => List::Whole,
            _ => List::Cut,
        }
    }
}

fn few_variant(shape: Shape, format: WeightFormat, list: List) -> Substitution {
    shape.of_columns(format, COLUMN_BLOCK as u32 / 4, list as u32)
}

/// Every variant for a few tokens that can be compiled for `tier`.
pub fn few_variants(tier: Tier) -> Vec<Substitution> {
    let lists = [List::None, List::Channels, List::Whole, List::Cut];
    let shapes = Shaped::Columns.candidates(tier);
    let of = |format| shapes.iter().flat_map(move |&shape| lists.map(|list| few_variant(shape, format, list)));
    WeightFormat::ALL.into_iter().flat_map(of).collect()
}

/// Columns of a row of activations with `units` values: rows are read four values at a time.
pub fn stride(units: usize) -> usize {
    units.next_multiple_of(4)
}

/// Records `a W^T` for `tokens` rows: a row of `a` holds [`stride`] of the kept inputs' count, a row of the product as
/// many values as the weight has outputs. A kept list comes with the places that [`super::top_k`] wrote beside it.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    a: Rows<'_>,
    weight: &Weight,
    kept: Option<(Kept<'_>, &Buffer)>,
    into: Product<'_>,
    tokens: usize,
) -> Result<()> {
    let tier = rec.gpu().tier();
    let (y, parts) = match into {
        Product::Set(y) | Product::Add(y) => (y, 1),
        Product::Parts(buffer) => (buffer.into(), parts(tier, tokens)),
    };
    let target = Target {
        y,
        parts: parts as u32,
        part_stride: (tokens * weight.rows / 4) as u32,
        add: matches!(into, Product::Add(_)).into(),
    };
    let wide = wide_rows(tier, tokens).unwrap_or(tokens);
    dispatch(rec, a, weight, kept, target, wide)?;
    match tokens - wide {
        0 => Ok(()),
        beyond => dispatch(rec, a.skip(wide), weight, kept, Target { y: y.skip(wide), ..target }, beyond),
    }
}

/// Where the rows of a dispatch go.
#[derive(Clone, Copy)]
struct Target<'a> {
    y: Rows<'a>,
    parts: u32,
    part_stride: u32,
    add: u32,
}

fn dispatch(
    rec: &mut Recorder<'_>,
    a: Rows<'_>,
    weight: &Weight,
    kept: Option<(Kept<'_>, &Buffer)>,
    target: Target<'_>,
    tokens: usize,
) -> Result<()> {
    debug_assert_eq!(weight.layout, Layout::Columns);
    let tier = rec.gpu().tier();
    let Target { y, parts, part_stride, add } = target;
    let inputs = kept.map_or(weight.cols, |(kept, _)| kept.count * kept.unit);
    let (values, a_row) = Lent::rows(rec, a, stride(inputs), tokens)?;
    let lists = kept.map(|(kept, place_of)| {
        let units = weight.cols.div_ceil(kept.unit);
        let list = Lent::list(rec, Fetched::Kept, kept.list, kept.count)?;
        Ok((list, Lent::list(rec, Fetched::Places, place_of, units)?))
    });
    let lists = lists.transpose()?;
    // Without a list anything may be bound in its place.
    let (list, place_of) = lists.as_ref().map_or((&values, &values), |(list, places)| (list, places));
    let mut halves = Halves::default();
    for shard in &weight.shards {
        let blocks = shard.rows / COLUMN_BLOCK as u32;
        let [block_quants, block_scales] = shard.block;
        let params = Params {
            tokens: tokens as u32,
            inputs: inputs as u32,
            channels: weight.cols as u32,
            a_row,
            a_stride: stride(inputs) as u32,
            y_row: y.first,
            y_stride: (weight.rows / 4) as u32,
            y_column: shard.first_row / 4,
            blocks,
            block_quants,
            block_scales,
            parts,
            part_stride,
            unit: kept.map_or(0, |(kept, _)| kept.unit as u32),
            add,
            exponent: shard.exponent(),
        };
        let mut buffers = [values.buffer(), &shard.quants, &shard.scales, list.buffer(), place_of.buffer(), y.buffer];
        if tokens <= FEW_TOKENS {
            let shape = Shaped::Columns.shape(rec.gpu());
            let variant = few_variant(shape, shard.format, List::of(kept.map(|(kept, _)| kept)));
            rec.dispatch(&FEW, &variant, &params, &buffers, shape.grid((blocks * parts) as usize, tokens))?;
            continue;
        }
        if is_tiled(tier, tokens) {
            let columns = blocks * COLUMN_BLOCK as u32;
            let grid = [columns.div_ceil(TILED_SIDE), (tokens as u32).div_ceil(TILED_SIDE), parts];
            let formats = &[shard.format];
            match matrix::units(rec.gpu(), Shaped::Columns, formats) {
                None => rec.dispatch(&TILED, &tiled_variant(Layout::Columns, formats), &params, &buffers, grid)?,
                Some(units) => {
                    let half_rows = halves.of(rec, a, (inputs, stride(inputs)), tokens)?;
                    buffers[0] = &half_rows;
                    rec.dispatch(&MATRIX, &matrix::variant(units, Layout::Columns, formats), &params, &buffers, grid)?;
                }
            }
            continue;
        }
        let tile = tile(tier, tokens);
        let grid = [(blocks * parts).div_ceil(tile.ln), (tokens as u32).div_ceil(tile.lm * tile.tm), 1];
        rec.dispatch(&KERNEL, &variant(tile, shard.format), &params, &buffers, grid)?;
    }
    Ok(())
}

/// The naive CPU twin: `a [tokens, channels.len()]`, `w [rows, cols]` (not transposed); returns `[tokens, rows]`.
pub fn twin(a: &[f32], w: &[f32], cols: usize, channels: &[usize]) -> Vec<f32> {
    a.chunks_exact(channels.len())
        .flat_map(|a| w.chunks_exact(cols).map(move |w| a.iter().zip(channels).map(|(a, &c)| a * w[c]).sum::<f32>()))
        .collect()
}

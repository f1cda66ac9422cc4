//! `power[c]` = `sum |W[h, c]|`, `sum W[h, c]^2` or `sqrt(sum W[h, c]^4)` over outputs `h`: the constant factor of a channel's
//! score by Wanda, FLAP or PPsp.

use super::lanes;
use crate::error::Result;
use crate::format::{COLUMN_BLOCK, Layout, Weight, WeightFormat};
use crate::gpu::{Buffer, Recorder, Substitution, Tier};

super::kernel! {
    /// The op.
    column_power [Fetch, Fetch, Write] { channels: u32, blocks: u32, block_quants: u32, block_scales: u32, add: u32, degree: u32 }
}

/// What is made of a column of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Degree {
    /// `sum |W|`.
    One,
    /// `sum W^2`.
    Two,
    /// `sqrt(sum W^4)`.
    Four,
}

fn variant(tier: Tier, format: WeightFormat) -> Substitution {
    Substitution { weights: vec![format.decoder(Layout::Columns)], numbers: vec![("LANES", lanes(tier))] }
}

/// Every variant that can be compiled for `tier`.
pub fn variants(tier: Tier) -> Vec<Substitution> {
    WeightFormat::ALL.iter().map(|&format| variant(tier, format)).collect()
}

/// Records the factors of every channel of a [`Layout::Columns`] weight.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(rec: &mut Recorder<'_>, weight: &Weight, degree: Degree, power: &Buffer) -> Result<()> {
    let tier = rec.gpu().tier();
    let degree = match degree {
        Degree::One => 1,
        Degree::Two => 2,
        Degree::Four => 4,
    };
    for shard in &weight.shards {
        let blocks = shard.rows / COLUMN_BLOCK as u32;
        let [block_quants, block_scales] = shard.block;
        let add = (shard.first_row > 0).into();
        let params = Params { channels: weight.cols as u32, blocks, block_quants, block_scales, add, degree };
        let grid = [params.channels.div_ceil(lanes(tier)), 1, 1];
        rec.dispatch(&KERNEL, &variant(tier, shard.format), &params, &[&shard.quants, &shard.scales, power], grid)?;
    }
    Ok(())
}

/// The naive CPU twin: `w [rows, cols]`.
pub fn twin(w: &[f32], cols: usize, degree: Degree) -> Vec<f32> {
    let column = |c: usize| w.chunks_exact(cols).map(move |row| row[c]);
    let power = |c: usize| match degree {
        Degree::One => column(c).map(f32::abs).sum(),
        Degree::Two => column(c).map(|w| w * w).sum(),
        Degree::Four => column(c).map(|w| w.powi(4)).sum::<f32>().sqrt(),
    };
    (0..cols).map(power).collect()
}

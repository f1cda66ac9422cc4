//! `power[c] = sqrt(sum_h W[h, c]^4)`: the constant factor of a channel's PPsp score.

use super::lanes;
use crate::error::Result;
use crate::format::{COLUMN_BLOCK, Layout, Weight, WeightFormat};
use crate::gpu::{Buffer, Recorder, Substitution, Tier};

super::kernel! {
    /// The op.
    column_power [Read, Read, Write] { channels: u32, blocks: u32, add: u32 }
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
pub fn record(rec: &mut Recorder<'_>, weight: &Weight, power: &Buffer) -> Result<()> {
    let tier = rec.gpu().tier();
    for shard in &weight.shards {
        let blocks = shard.rows / COLUMN_BLOCK as u32;
        let params = Params { channels: weight.cols as u32, blocks, add: (shard.first_row > 0).into() };
        let grid = [params.channels.div_ceil(lanes(tier)), 1, 1];
        rec.dispatch(&KERNEL, &variant(tier, weight.format), &params, &[&shard.quants, &shard.scales, power], grid)?;
    }
    Ok(())
}

/// The naive CPU twin: `w [rows, cols]`.
pub fn twin(w: &[f32], cols: usize) -> Vec<f32> {
    (0..cols).map(|c| w.chunks_exact(cols).map(|row| row[c].powi(4)).sum::<f32>().sqrt()).collect()
}

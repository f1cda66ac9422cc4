//! `x[t] = E[ids[t]]`: rows of the token embedding.

use super::lanes;
use crate::error::Result;
use crate::format::{Layout, Weight, WeightFormat};
use crate::gpu::{Buffer, Recorder, Substitution, Tier};

super::kernel! {
    /// The op.
    embed [Read, Fetch, Fetch, Write] { tokens: u32, steps: u32, first_row: u32, rows: u32 }
}

fn variant(tier: Tier, format: WeightFormat) -> Substitution {
    Substitution { weights: vec![format.decoder(Layout::Rows)], numbers: vec![("LANES", lanes(tier))] }
}

/// Every variant that can be compiled for `tier`.
pub fn variants(tier: Tier) -> Vec<Substitution> {
    WeightFormat::ALL.iter().map(|&format| variant(tier, format)).collect()
}

/// Records the look-up of `tokens` ids; every id is below the table's rows.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(rec: &mut Recorder<'_>, ids: &Buffer, table: &Weight, x: &Buffer, tokens: usize) -> Result<()> {
    let tier = rec.gpu().tier();
    for shard in &table.shards {
        let steps = (table.cols / 64) as u32;
        let params = Params { tokens: tokens as u32, steps, first_row: shard.first_row, rows: shard.rows };
        let grid = [(2 * steps).div_ceil(lanes(tier)), tokens as u32, 1];
        let buffers = [ids, &shard.quants, &shard.scales, x];
        rec.dispatch(&KERNEL, &variant(tier, shard.format), &params, &buffers, grid)?;
    }
    Ok(())
}

/// The naive CPU twin: `table [rows, cols]`.
pub fn twin(ids: &[u32], table: &[f32], cols: usize) -> Vec<f32> {
    ids.iter().flat_map(|&id| table[id as usize * cols..][..cols].to_vec()).collect()
}

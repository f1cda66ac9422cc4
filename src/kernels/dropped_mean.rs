//! `out[c] = mean[c]` where the unit of channel `c` was dropped, else 0.

use super::top_k::DROPPED;
use super::{lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    dropped_mean [Read, Read, Write] { width: u32, unit: u32 }
}

/// Records the means `[width]` of the channels whose units (of `unit` channels) `place_of` says were dropped.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    mean: &Buffer,
    (place_of, unit): (&Buffer, usize),
    out: &Buffer,
    width: usize,
) -> Result<()> {
    let tier = rec.gpu().tier();
    let params = Params { width: width as u32, unit: unit as u32 };
    let grid = [(width as u32).div_ceil(lanes(tier)), 1, 1];
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[mean, place_of, out], grid)
}

/// The naive CPU twin.
pub fn twin(mean: &[f32], place_of: &[u32], unit: usize) -> Vec<f32> {
    mean.iter().enumerate().map(|(c, &mean)| if place_of[c / unit] >= DROPPED { mean } else { 0.0 }).collect()
}

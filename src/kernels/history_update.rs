//! `h[t, c] = keep * h[t, c] + gain * sum_b x[b, t, c]^2` for the channels that were computed.

use super::{Kept, Rows, lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    history_update [Read, Read, Read, Write] {
        samples: u32, length: u32, units: u32, unit: u32, width: u32, stride: u32, x_row: u32, listed: u32,
        padded: u32, mean: u32, collapsed: u32, keep: f32, gain: f32,
    }
}

/// How activations enter a history.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    /// Samples.
    pub samples: usize,
    /// Tokens of a sample.
    pub length: usize,
    /// Channels of the history.
    pub width: usize,
    /// Columns of a row of activations.
    pub stride: usize,
    /// Divide by the samples that have the token.
    pub mean: bool,
    /// Every token falls into the one row of the history.
    pub collapsed: bool,
    /// Factor of the old history.
    pub keep: f32,
    /// Factor of what is added.
    pub gain: f32,
}

/// Records the update of `h [length][width]` (or `[width]`) by activations `x [samples][length][stride]`, of which a row
/// holds the `kept` units, or all. `lengths` leaves padding out.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    x: Rows<'_>,
    kept: Option<Kept<'_>>,
    lengths: Option<&Buffer>,
    h: &Buffer,
    update: Update,
) -> Result<()> {
    let (units, unit) = kept.map_or((update.width, 1), |kept| (kept.count, kept.unit));
    let params = Params {
        samples: update.samples as u32,
        length: update.length as u32,
        units: units as u32,
        unit: unit as u32,
        width: update.width as u32,
        stride: update.stride as u32,
        x_row: x.first,
        listed: kept.is_some().into(),
        padded: lengths.is_some().into(),
        mean: update.mean.into(),
        collapsed: update.collapsed.into(),
        keep: update.keep,
        gain: update.gain,
    };
    let tier = rec.gpu().tier();
    let rows = if update.collapsed { 1 } else { update.length as u32 };
    let grid = [((units * unit) as u32).div_ceil(lanes(tier)), rows, 1];
    let list = kept.map_or(x.buffer, |kept| kept.list);
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[x.buffer, list, lengths.unwrap_or(x.buffer), h], grid)
}

/// The naive CPU twin: `x [samples][length][channels.len()]`, a sample's real tokens in `lengths`.
pub fn twin(x: &[f32], channels: &[usize], lengths: &[u32], h: &mut [f32], update: Update) {
    let rows = if update.collapsed { 1 } else { update.length };
    for row in 0..rows {
        for (j, &c) in channels.iter().enumerate() {
            let tokens = if update.collapsed { 0..update.length } else { row..row + 1 };
            let real: Vec<usize> = tokens
                .flat_map(|t| {
                    (0..update.samples).filter(move |&b| t < lengths[b] as usize).map(move |b| b * update.length + t)
                })
                .collect();
            if real.is_empty() {
                continue;
            }
            let sum: f32 = real.iter().map(|&at| x[at * channels.len() + j].powi(2)).sum();
            let sum = if update.mean { sum / real.len() as f32 } else { sum };
            let h = &mut h[row * update.width + c];
            *h = update.keep * *h + update.gain * sum;
        }
    }
}

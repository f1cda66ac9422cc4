//! `h[row(t), c] = keep * h[row(t), c] + gain * sum_b value(x[b, t, c])` for the channels that were computed.

use super::{HistoryRows, Kept, Lent, Rows};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder, Substitution, Tier};

super::kernel! {
    /// The op.
    history_update [Fetch, Read, Read, Read, Write] {
        samples: u32, length: u32, units: u32, unit: u32, width: u32, stride: u32, x_row: u32, listed: u32,
        padded: u32, average: u32, kind: u32, rows: u32, value: u32, keep: f32, gain: f32,
    }
}

/// Invocations of a workgroup along columns, four of them each, and along tokens. A token after another would be a way to memory after
/// another on hardware.
fn lanes(tier: Tier) -> (u32, u32) {
    match tier {
        Tier::Software => (8, 1),
        Tier::Gpu => (8, 16),
    }
}

/// The variant of a tier.
pub fn variant(tier: Tier) -> Substitution {
    let (columns, tokens) = lanes(tier);
    Substitution::numbers(&[("LC", columns), ("LT", tokens)])
}

/// What of an activation is summed.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// Its square.
    Energy,
    /// Its squared distance from `[width]` means.
    Fluctuation(&'a Buffer),
    /// Itself.
    Plain,
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
    /// Columns of a row of activations, a multiple of 4.
    pub stride: usize,
    /// Divide by the number of tokens that fall into the row.
    pub average: bool,
    /// Which tokens fall into which row.
    pub rows: HistoryRows,
    /// Factor of the old history.
    pub keep: f32,
    /// Factor of what is added.
    pub gain: f32,
}

/// Records the update of `h [rows][width]` by activations `x [samples][length][stride]`, of which a row holds the `kept` units,
/// or all. `lengths` leaves padding out.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    (x, value): (Rows<'_>, Value<'_>),
    kept: Option<Kept<'_>>,
    lengths: Option<&Buffer>,
    h: &Buffer,
    update: Update,
) -> Result<()> {
    let (units, unit) = kept.map_or((update.width, 1), |kept| (kept.count, kept.unit));
    let (kind, rows) = update.rows.params();
    let (lent, x_row) = Lent::rows(rec, x, update.stride, update.samples * update.length)?;
    let params = Params {
        samples: update.samples as u32,
        length: update.length as u32,
        units: units as u32,
        unit: unit as u32,
        width: update.width as u32,
        stride: update.stride as u32,
        x_row,
        listed: kept.is_some().into(),
        padded: lengths.is_some().into(),
        average: update.average.into(),
        kind,
        rows,
        value: match value {
            Value::Energy => 0,
            Value::Fluctuation(_) => 1,
            Value::Plain => 2,
        },
        keep: update.keep,
        gain: update.gain,
    };
    let tier = rec.gpu().tier();
    let grid = [((units * unit) as u32).div_ceil(4 * lanes(tier).0), update.rows.count(update.length) as u32, 1];
    let list = kept.map_or(x.buffer, |kept| kept.list);
    let mean = if let Value::Fluctuation(mean) = value { mean } else { x.buffer };
    let buffers = [lent.buffer(), list, lengths.unwrap_or(x.buffer), mean, h];
    rec.dispatch(&KERNEL, &variant(tier), &params, &buffers, grid)
}

/// The naive CPU twin: `x [samples][length][channels.len()]`, a sample's real tokens in `lengths`; `value` of an activation and
/// its channel.
pub fn twin(
    (x, value): (&[f32], impl Fn(f32, usize) -> f32),
    channels: &[usize],
    lengths: &[u32],
    h: &mut [f32],
    update: Update,
) {
    for row in 0..update.rows.count(update.length) {
        let real: Vec<usize> = (0..update.length)
            .filter(|&t| update.rows.row(t) == row)
            .flat_map(|t| (0..update.samples).map(move |b| (b, t)))
            .filter(|&(b, t)| t < lengths[b] as usize)
            .map(|(b, t)| b * update.length + t)
            .collect();
        if real.is_empty() {
            continue;
        }
        for (j, &c) in channels.iter().enumerate() {
            let sum: f32 = real.iter().map(|&at| value(x[at * channels.len() + j], c)).sum();
            let sum = if update.average { sum / real.len() as f32 } else { sum };
            let h = &mut h[row * update.width + c];
            *h = update.keep * *h + update.gain * sum;
        }
    }
}

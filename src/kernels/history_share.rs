//! How much of the fused statistic of every unit came from the history.

use super::fusion::History;
use super::{lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    history_share [Read, Read, Read, Write] {
        units: u32, unit: u32, tokens: u32, kind: u32, rows: u32, scale: f32, weight: f32,
    }
}

/// Records the shares `[units]`, in [0, 1], of `history` in what [`super::fusion`] makes of the same statistic.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    (a, scale): (&Buffer, f32),
    (list, tokens): (&Buffer, usize),
    history: History<'_>,
    shares: &Buffer,
    (units, unit): (usize, usize),
) -> Result<()> {
    let tier = rec.gpu().tier();
    let (kind, rows) = history.rows.params();
    let params = Params {
        units: units as u32,
        unit: unit as u32,
        tokens: tokens as u32,
        kind,
        rows,
        scale,
        weight: history.weight.unwrap_or(-1.0),
    };
    let grid = [(units as u32).div_ceil(lanes(tier)), 1, 1];
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[a, list, history.values, shares], grid)
}

/// The naive CPU twin: `a` and `h` `[tokens][units * unit]`, `h` already at the probe's positions.
pub fn twin(a: &[f32], h: &[f32], weight: Option<f32>, (units, unit): (usize, usize)) -> Vec<f32> {
    let mut parts = vec![[0.0f64; 2]; units];
    for (i, (&a, &h)) in a.iter().zip(h).enumerate() {
        let (a, h) = (f64::from(a), f64::from(h));
        let w = weight.map_or(a / (a + h + 1e-6), f64::from);
        let [now, past] = &mut parts[i % (units * unit) / unit];
        *now += w * a;
        *past += (1.0 - w) * h;
    }
    parts.iter().map(|[now, past]| if *past > 0.0 { (past / (now + past)) as f32 } else { 0.0 }).collect()
}

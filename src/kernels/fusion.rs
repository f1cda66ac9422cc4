//! Fusion of the probe's statistic with history, summed over the probe's tokens.

use super::{HistoryRows, lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    fusion [Read, Read, Read, Write] {
        tokens: u32, width: u32, history: u32, kind: u32, rows: u32, scale: f32, weight: f32,
    }
}

/// The history to fuse with.
#[derive(Clone, Copy)]
pub struct History<'a> {
    /// `[rows][width]`, read at the rows of the probe's positions.
    pub values: &'a Buffer,
    /// Which positions share a row.
    pub rows: HistoryRows,
    /// Weight of the probe, in [0, 1]; `None` = importance-scaled.
    pub weight: Option<f32>,
}

/// Records `f[c] = sum_j w a + (1 - w) h` with `a = scale *` the statistic `[tokens][width]`, and `w = a / (a + h + 1e-6)`
/// unless the weight is fixed. Without history it is the plain sum.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    (a, scale): (&Buffer, f32),
    (list, tokens): (&Buffer, usize),
    history: Option<History<'_>>,
    f: &Buffer,
    width: usize,
) -> Result<()> {
    let tier = rec.gpu().tier();
    let (kind, rows) = history.map_or((0, 1), |history| history.rows.params());
    let params = Params {
        tokens: tokens as u32,
        width: width as u32,
        history: history.is_some().into(),
        kind,
        rows,
        scale,
        weight: history.and_then(|history| history.weight).unwrap_or(-1.0),
    };
    let h = history.map_or(a, |history| history.values);
    let grid = [(width as u32).div_ceil(lanes(tier)), 1, 1];
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[a, list, h, f], grid)
}

/// The naive CPU twin: `a` and `h` `[tokens][width]`, `h` already at the probe's positions.
pub fn twin(a: &[f32], h: Option<&[f32]>, weight: Option<f32>, width: usize) -> Vec<f32> {
    let mut f = vec![0.0; width];
    for (i, &a) in a.iter().enumerate() {
        f[i % width] += match h {
            None => a,
            Some(h) => {
                let w = weight.unwrap_or(a / (a + h[i] + 1e-6));
                w * a + (1.0 - w) * h[i]
            }
        };
    }
    f
}

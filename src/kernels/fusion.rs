//! Importance-scaled fusion of the probe's statistic with history, summed over the probe's tokens.

use super::{lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    fusion [Read, Read, Read, Write] { tokens: u32, width: u32, history: u32, scale: f32 }
}

/// The history to fuse with.
#[derive(Clone, Copy)]
pub enum History<'a> {
    /// None: the statistic alone.
    None,
    /// `[positions][width]`, read at the probe's positions.
    Exact(&'a Buffer),
    /// `[width]`, the same for every token.
    Collapsed(&'a Buffer),
}

/// Records `f[c] = sum_j w a + (1 - w) h`, `w = a / (a + h + 1e-6)`, with `a = scale *` the statistic `[tokens][width]`.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    (a, scale): (&Buffer, f32),
    (list, tokens): (&Buffer, usize),
    history: History<'_>,
    f: &Buffer,
    width: usize,
) -> Result<()> {
    let (kind, h) = match history {
        History::None => (0, a),
        History::Exact(h) => (1, h),
        History::Collapsed(h) => (2, h),
    };
    let tier = rec.gpu().tier();
    let params = Params { tokens: tokens as u32, width: width as u32, history: kind, scale };
    let grid = [(width as u32).div_ceil(lanes(tier)), 1, 1];
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[a, list, h, f], grid)
}

/// The naive CPU twin: `a` and `h` `[tokens][width]`, `h` already at the probe's positions.
pub fn twin(a: &[f32], h: Option<&[f32]>, width: usize) -> Vec<f32> {
    let mut f = vec![0.0; width];
    for (i, &a) in a.iter().enumerate() {
        f[i % width] += match h {
            None => a,
            Some(h) => {
                let w = a / (a + h[i] + 1e-6);
                w * a + (1.0 - w) * h[i]
            }
        };
    }
    f
}

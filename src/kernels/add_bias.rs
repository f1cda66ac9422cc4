//! `x[t, h] += bias[h]`, in place.

use super::{lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    add_bias [Write, Read] { tokens: u32, width: u32 }
}

/// Records the addition of `bias [width]` to `tokens` rows of `x [tokens][width]`; `width` is a multiple of 4.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(rec: &mut Recorder<'_>, x: &Buffer, bias: &Buffer, (tokens, width): (usize, usize)) -> Result<()> {
    let tier = rec.gpu().tier();
    let params = Params { tokens: tokens as u32, width: (width / 4) as u32 };
    let grid = [params.width.div_ceil(lanes(tier)), tokens as u32, 1];
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[x, bias], grid)
}

/// The naive CPU twin.
pub fn twin(x: &[f32], bias: &[f32]) -> Vec<f32> {
    x.iter().enumerate().map(|(i, &x)| x + bias[i % bias.len()]).collect()
}

//! `scores[t] = ||norms[:, t]||2`: which positions of a batch matter (the paper's residual importance).

use super::{lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    token_importance [Read, Read, Write] { samples: u32, length: u32 }
}

/// Records the scores of `length` positions over `samples` samples, padding past `lengths` left out.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    (norms, lengths): (&Buffer, &Buffer),
    scores: &Buffer,
    (samples, length): (usize, usize),
) -> Result<()> {
    let tier = rec.gpu().tier();
    let params = Params { samples: samples as u32, length: length as u32 };
    let grid = [(length as u32).div_ceil(lanes(tier)), 1, 1];
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[norms, lengths, scores], grid)
}

/// The naive CPU twin.
pub fn twin(norms: &[f32], lengths: &[u32], length: usize) -> Vec<f32> {
    let of = |t: usize| -> f32 {
        let real = lengths.iter().enumerate().filter(|&(_, &len)| t < len as usize);
        real.map(|(b, _)| norms[b * length + t].powi(2)).sum::<f32>().sqrt()
    };
    (0..length).map(of).collect()
}

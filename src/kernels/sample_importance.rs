//! `scores[b] = ||norms[b, kept]||2`: which samples of a batch matter at the probe's tokens.

use super::{lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    sample_importance [Read, Read, Read, Write] { samples: u32, length: u32, probe_tokens: u32 }
}

/// Records the scores of `samples` samples over the `probe_tokens` positions in `tokens`, padding left out.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    (norms, lengths): (&Buffer, &Buffer),
    (tokens, probe_tokens): (&Buffer, usize),
    scores: &Buffer,
    (samples, length): (usize, usize),
) -> Result<()> {
    let tier = rec.gpu().tier();
    let params = Params { samples: samples as u32, length: length as u32, probe_tokens: probe_tokens as u32 };
    let grid = [(samples as u32).div_ceil(lanes(tier)), 1, 1];
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[norms, lengths, tokens, scores], grid)
}

/// The naive CPU twin.
pub fn twin(norms: &[f32], lengths: &[u32], tokens: &[u32], length: usize) -> Vec<f32> {
    let of = |(b, &len): (usize, &u32)| -> f32 {
        let real = tokens.iter().filter(|&&t| t < len);
        real.map(|&t| norms[b * length + t as usize].powi(2)).sum::<f32>().sqrt()
    };
    lengths.iter().enumerate().map(of).collect()
}

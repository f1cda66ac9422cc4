//! `a[j, c] = mean over the probe's samples of p[i, j, c]^2`, or of its squared distance from a mean.

use super::{lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    probe_statistic [Read, Read, Read, Read, Read, Write] { samples: u32, tokens: u32, width: u32, stride: u32, centred: u32 }
}

/// Records the statistic of a probe `[probe.0][probe.1][stride]` over its first `width` columns, padding left out (a row has a multiple of 4);
/// `mean [width]` is subtracted first.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    (probe_rows, mean): (&Buffer, Option<&Buffer>),
    (samples, tokens, lengths): (&Buffer, &Buffer, &Buffer),
    a: &Buffer,
    probe: (usize, usize),
    (width, stride): (usize, usize),
) -> Result<()> {
    let tier = rec.gpu().tier();
    let params = Params {
        samples: probe.0 as u32,
        tokens: probe.1 as u32,
        width: width as u32,
        stride: stride as u32,
        centred: mean.is_some().into(),
    };
    let grid = [(width as u32).div_ceil(4 * lanes(tier)), probe.1 as u32, 1];
    let mean = mean.unwrap_or(probe_rows);
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[probe_rows, samples, tokens, lengths, mean, a], grid)
}

/// The naive CPU twin: `probe [samples][tokens][width]`, `mean [width]`; returns `[tokens][width]`.
pub fn twin(
    (probe, mean): (&[f32], &[f32]),
    samples: &[u32],
    tokens: &[u32],
    lengths: &[u32],
    width: usize,
) -> Vec<f32> {
    let mut a = vec![0.0; tokens.len() * width];
    for (j, &token) in tokens.iter().enumerate() {
        let real: Vec<usize> = (0..samples.len()).filter(|&i| token < lengths[samples[i] as usize]).collect();
        for c in 0..width {
            let sum: f32 = real.iter().map(|&i| (probe[(i * tokens.len() + j) * width + c] - mean[c]).powi(2)).sum();
            a[j * width + c] = sum / real.len().max(1) as f32;
        }
    }
    a
}

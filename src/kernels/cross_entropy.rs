//! `nll[t] = log sum exp(logits[t]) - logits[t][target[t]]`: what perplexity is the mean of.

use super::lanes_variant;
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    cross_entropy [Read, Read, Write] { width: u32, first: u32 }
}

/// Records the negative log likelihoods of `rows` rows of `width` logits; `targets` and `nll` start at row `first`.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    logits: &Buffer,
    (targets, nll): (&Buffer, &Buffer),
    (first, rows): (usize, usize),
    width: usize,
) -> Result<()> {
    let params = Params { width: width as u32, first: first as u32 };
    let variant = lanes_variant(rec.gpu().tier());
    rec.dispatch(&KERNEL, &variant, &params, &[logits, targets, nll], [rows as u32, 1, 1])
}

/// The naive CPU twin: `logits [targets.len()][width]`.
pub fn twin(logits: &[f32], targets: &[u32], width: usize) -> Vec<f32> {
    let of = |(row, &target): (&[f32], &u32)| {
        let top = row.iter().copied().fold(f32::MIN, f32::max);
        let total: f64 = row.iter().map(|v| f64::from(v - top).exp()).sum();
        (total.ln() + f64::from(top) - f64::from(row[target as usize])) as f32
    };
    logits.chunks_exact(width).zip(targets).map(of).collect()
}

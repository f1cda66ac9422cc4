//! FLAP's running mean and fluctuation of every channel, sample by sample (An et al., arXiv 2312.11983, as its authors' program
//! computes them).

use super::{lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    fluctuation [Read, Write, Write] { samples: u32, length: u32, width: u32, stride: u32, before: u32 }
}

/// Records what `x [samples][length][stride]` adds to `mean [width]` and `fluctuation [width]`, `before` samples behind the start.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    x: &Buffer,
    (mean, fluctuation): (&Buffer, &Buffer),
    (samples, length, before): (usize, usize, usize),
    (width, stride): (usize, usize),
) -> Result<()> {
    let tier = rec.gpu().tier();
    let params = Params {
        samples: samples as u32,
        length: length as u32,
        width: width as u32,
        stride: stride as u32,
        before: before as u32,
    };
    let grid = [(width as u32).div_ceil(lanes(tier)), 1, 1];
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[x, mean, fluctuation], grid)
}

/// The naive CPU twin, from the start: `x [samples][length][width]`; returns mean and fluctuation.
pub fn twin(x: &[f32], length: usize, width: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut mean, mut fluctuation) = (vec![0.0f64; width], vec![0.0f64; width]);
    for (index, sample) in x.chunks_exact(length * width).enumerate() {
        let n = index as f64;
        for c in 0..width {
            let column: Vec<f64> = sample.iter().skip(c).step_by(width).map(|&x| f64::from(x)).collect();
            let old = mean[c];
            mean[c] = (n * old + column.iter().sum::<f64>() / length as f64) / (n + 1.0);
            if index > 0 {
                let products: f64 = column.iter().map(|x| (x - mean[c]) * (x - old)).sum();
                fluctuation[c] = fluctuation[c] * (n - 1.0) / n + products / (n + 1.0);
            }
        }
    }
    let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    (narrow(mean), narrow(fluctuation))
}

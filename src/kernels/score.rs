//! The PPsp score of every unit from the fused statistic and the constant factor of its weights.

use super::{lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    score [Read, Read, Write] { units: u32, unit: u32 }
}

/// Records `scores[u] = || f[c] * power[c] ||2` over the `unit` channels of each of `units` units.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    (f, power): (&Buffer, &Buffer),
    scores: &Buffer,
    (units, unit): (usize, usize),
) -> Result<()> {
    let tier = rec.gpu().tier();
    let params = Params { units: units as u32, unit: unit as u32 };
    let grid = [(units as u32).div_ceil(lanes(tier)), 1, 1];
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[f, power, scores], grid)
}

/// The naive CPU twin.
pub fn twin(f: &[f32], power: &[f32], unit: usize) -> Vec<f32> {
    let squares: Vec<f64> = f.iter().zip(power).map(|(f, p)| (f64::from(*f) * f64::from(*p)).powi(2)).collect();
    squares.chunks_exact(unit).map(|unit| unit.iter().sum::<f64>().sqrt() as f32).collect()
}

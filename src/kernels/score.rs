//! The score of every unit from the fused statistic and the constant factor of its weights.

use super::{lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    score [Read, Read, Write] { units: u32, unit: u32, group: u32, root: u32, reduce: u32 }
}

/// How the channels of a unit become one score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduce {
    /// Their L2 norm.
    Norm,
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
}

/// How units are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Whether the root of the statistic is taken.
    pub root: bool,
    /// How the channels of a unit become one score.
    pub reduce: Reduce,
    /// Neighbouring units that share a score, that of all their channels together; divides the units.
    pub group: usize,
}

/// Records the scores of `units` units of `unit` channels each, from the parts `f[c] * power[c]` (or `sqrt(f[c]) * power[c]`).
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    (f, power): (&Buffer, &Buffer),
    scores: &Buffer,
    (units, unit): (usize, usize),
    rule: Rule,
) -> Result<()> {
    let tier = rec.gpu().tier();
    let params = Params {
        units: units as u32,
        unit: unit as u32,
        group: rule.group as u32,
        root: rule.root.into(),
        reduce: match rule.reduce {
            Reduce::Norm => 0,
            Reduce::Sum => 1,
            Reduce::Mean => 2,
        },
    };
    let grid = [(units as u32).div_ceil(lanes(tier)), 1, 1];
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[f, power, scores], grid)
}

/// The naive CPU twin.
pub fn twin(f: &[f32], power: &[f32], unit: usize, rule: Rule) -> Vec<f32> {
    let part = |(f, p): (&f32, &f32)| (if rule.root { f64::from(*f).sqrt() } else { f64::from(*f) }) * f64::from(*p);
    let parts: Vec<f64> = f.iter().zip(power).map(part).collect();
    let score = |parts: &[f64]| match rule.reduce {
        Reduce::Norm => parts.iter().map(|part| part * part).sum::<f64>().sqrt(),
        Reduce::Sum => parts.iter().sum(),
        Reduce::Mean => parts.iter().sum::<f64>() / parts.len() as f64,
    };
    parts.chunks_exact(unit * rule.group).flat_map(|group| vec![score(group) as f32; rule.group]).collect()
}

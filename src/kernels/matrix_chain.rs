//! Chains of `sum = a b + sum` on matrix units: nothing but their arithmetic, by which the rate that kernels can hope for is measured.

use super::wide_grid;
use crate::error::{Error, Result};
use crate::gpu::{Buffer, MATRIX_SUBGROUPS, MatrixUnits, Recorder, Substitution};

super::kernel! {
    /// The op.
    matrix_chain [Write] { groups: u32, row: u32, rounds: u32, left: f32, right: f32 }
}

/// Steps that a round takes without a look at its counter.
pub const UNROLL: usize = 16;
/// Chains of a subgroup: enough to hide a step's latency, as many as a kernel of the engine has at side 16.
pub const CHAINS: usize = 4;

fn variant(units: MatrixUnits) -> Substitution {
    let mut variant = super::matrix::variant(units, crate::format::Layout::Rows, &[]);
    variant.numbers.extend([("UNROLL", UNROLL as u32), ("CHAINS", CHAINS as u32), ("AREA", units.side * units.side)]);
    variant
}

/// Every variant that can be compiled.
pub fn variants() -> Vec<Substitution> {
    super::matrix::KINDS.into_iter().map(variant).collect()
}

/// Values that a workgroup writes.
pub fn outputs(units: MatrixUnits) -> usize {
    (MATRIX_SUBGROUPS * units.side * units.side) as usize
}

/// Floating-point operations of so many workgroups and rounds; a multiplication and an addition are two.
pub fn flops(units: MatrixUnits, groups: usize, rounds: usize) -> f64 {
    (groups * rounds * MATRIX_SUBGROUPS as usize * CHAINS * UNROLL) as f64 * 2.0 * f64::from(units.side).powi(3)
}

/// Records `groups` workgroups of `rounds` rounds each into `out [groups]` of [`outputs`]; `left` and `right` are what the two
/// matrices are made of.
///
/// # Errors
/// [`Error::Internal`] on a device without matrix units, and those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    out: &Buffer,
    groups: usize,
    rounds: usize,
    (left, right): (f32, f32),
) -> Result<()> {
    let units = rec.gpu().matrix_units();
    let units = units.ok_or_else(|| Error::Internal("a chain on a device without matrix units".into()))?;
    let (grid, row) = wide_grid(groups);
    let params = Params { groups: groups as u32, row, rounds: rounds as u32, left, right };
    rec.dispatch(&KERNEL, &variant(units), &params, &[out], grid)
}

/// The naive CPU twin.
pub fn twin(units: MatrixUnits, groups: usize, rounds: usize, (left, right): (f32, f32)) -> Vec<f32> {
    let side = units.side as usize;
    let steps = (rounds * UNROLL * CHAINS * side) as f32;
    let part = |i: usize| (1 + i % 4) as f32;
    (0..groups * outputs(units)).map(|i| steps * (left * part(i / side % side)) * (right * part(i % side))).collect()
}

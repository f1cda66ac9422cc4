//! Chains of `a = a * factor + summand`: nothing but arithmetic, by which the rate that kernels can hope for is measured.

use super::{lanes, wide_grid};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder, Substitution, Tier};

super::kernel! {
    /// The op.
    fma_chain [Write] { count: u32, row: u32, rounds: u32, factor: f32, summand: f32 }
}

/// Steps that a round takes without a look at its counter.
pub const UNROLL: usize = 16;

/// Chains of four values that an invocation has: enough to hide a step's latency, few enough for registers (a software
/// adapter keeps a value of all its lanes in each of its sixteen).
pub fn chains(tier: Tier) -> usize {
    match tier {
        Tier::Software => 3,
        Tier::Gpu => 4,
    }
}

fn variant(tier: Tier) -> Substitution {
    Substitution::numbers(&[("LANES", lanes(tier)), ("CHAINS", chains(tier) as u32), ("UNROLL", UNROLL as u32)])
}

/// Every variant that can be compiled for `tier`.
pub fn variants(tier: Tier) -> Vec<Substitution> {
    vec![variant(tier)]
}

/// Floating-point operations of `count` invocations of so many rounds; a multiplication and an addition are two.
pub fn flops(tier: Tier, count: usize, rounds: usize) -> f64 {
    (count * rounds) as f64 * (UNROLL * chains(tier) * 4 * 2) as f64
}

/// Records `count` invocations of `rounds` rounds each into `out [count][4]`, by `step` = factor and summand. With a factor
/// between 0 and 1 every chain tends to `summand / (1 - factor)`, whatever their number.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(rec: &mut Recorder<'_>, out: &Buffer, count: usize, rounds: usize, step: (f32, f32)) -> Result<()> {
    let tier = rec.gpu().tier();
    let (grid, row) = wide_grid(count.div_ceil(lanes(tier) as usize));
    let params = Params { count: count as u32, row, rounds: rounds as u32, factor: step.0, summand: step.1 };
    rec.dispatch(&KERNEL, &variant(tier), &params, &[out], grid)
}

/// The naive CPU twin.
pub fn twin(tier: Tier, count: usize, rounds: usize, (factor, summand): (f32, f32)) -> Vec<f32> {
    let chain = |start: f32| (0..rounds * UNROLL).fold(start, |a, _| a.mul_add(factor, summand));
    let value = |i: usize, part: usize| -> f32 {
        (0..chains(tier)).map(|c| chain(part as f32 * 0.25 + (i % 64 + c) as f32)).sum()
    };
    (0..count).flat_map(|i| (0..4).map(move |part| value(i, part))).collect()
}

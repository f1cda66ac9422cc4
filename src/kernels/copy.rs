//! `y = x`: the plainest way through memory, by which the bandwidth that kernels can hope for is measured.

use super::{lanes, wide_grid};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder, Substitution, Tier};

super::kernel! {
    /// The op.
    copy [Read, Write] { count: u32, row: u32 }
}

/// Vectors that an invocation moves.
const STEPS: u32 = 8;

fn variant(tier: Tier) -> Substitution {
    Substitution::numbers(&[("LANES", lanes(tier)), ("STEPS", STEPS)])
}

/// Every variant that can be compiled for `tier`.
pub fn variants(tier: Tier) -> Vec<Substitution> {
    vec![variant(tier)]
}

/// Records the copy of the first `words` 32-bit values, a multiple of 4.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(rec: &mut Recorder<'_>, x: &Buffer, y: &Buffer, words: usize) -> Result<()> {
    debug_assert!(words.is_multiple_of(4));
    let tier = rec.gpu().tier();
    let count = words / 4;
    let (grid, row) = wide_grid(count.div_ceil((lanes(tier) * STEPS) as usize));
    rec.dispatch(&KERNEL, &variant(tier), &Params { count: count as u32, row }, &[x, y], grid)
}

/// The naive CPU twin.
pub fn twin(x: &[u32]) -> Vec<u32> {
    x.to_vec()
}

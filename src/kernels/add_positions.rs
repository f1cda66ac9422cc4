//! `x[t] += P[position(t) + offset]`: learned positions, whose table begins with rows that no position has.

use super::{lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    add_positions [Write, Read, Read] { width: u32, offset: u32 }
}

/// Records the addition to `tokens` rows of `x [tokens][width]`, each at its position in `places`; `table` is
/// `[offset + positions][width]`, `width` a multiple of 4.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    x: &Buffer,
    places: &Buffer,
    (table, offset): (&Buffer, usize),
    (tokens, width): (usize, usize),
) -> Result<()> {
    let tier = rec.gpu().tier();
    let params = Params { width: (width / 4) as u32, offset: offset as u32 };
    let grid = [params.width.div_ceil(lanes(tier)), tokens as u32, 1];
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[x, places, table], grid)
}

/// The naive CPU twin, in place: `x` has a row for each of the positions.
pub fn twin(x: &mut [f32], positions: &[u32], table: &[f32], offset: usize) {
    let width = x.len() / positions.len();
    for (row, &position) in x.chunks_exact_mut(width).zip(positions) {
        row.iter_mut().zip(&table[(position as usize + offset) * width..]).for_each(|(x, p)| *x += p);
    }
}

//! Rotary position embedding of queries, in place.

use super::{lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    rope [Write, Read, Read] { heads: u32, half: u32, adjacent: u32 }
}

/// How a model turns the elements of a head.
#[derive(Clone, Copy)]
pub struct Turns<'a> {
    /// `[position][head_dim / 2]` cosine and sine.
    pub table: &'a Buffer,
    /// Elements of a head.
    pub head_dim: usize,
    /// Whether elements `2i` and `2i + 1` pair, or `i` and `i + head_dim / 2`.
    pub adjacent: bool,
}

/// Cosine and sine of every angle `position * frequency`, positions first.
pub fn table(frequencies: &[f32], positions: usize) -> Vec<[f32; 2]> {
    let turn = |position: usize, frequency: f32| {
        let angle = position as f64 * f64::from(frequency);
        [angle.cos() as f32, angle.sin() as f32]
    };
    (0..positions).flat_map(|position| frequencies.iter().map(move |&f| turn(position, f))).collect()
}

/// Records the turning of `x [tokens][heads][head_dim]` by each token's position in `places`.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    x: &Buffer,
    places: &Buffer,
    turns: Turns<'_>,
    (tokens, heads): (usize, usize),
) -> Result<()> {
    let half = (turns.head_dim / 2) as u32;
    let params = Params { heads: heads as u32, half, adjacent: turns.adjacent.into() };
    let tier = rec.gpu().tier();
    let grid = [(heads as u32 * half).div_ceil(lanes(tier)), tokens as u32, 1];
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &[x, places, turns.table], grid)
}

/// The naive CPU twin, in place: `x [tokens][heads][head_dim]`, `turns` as [`table`] makes it.
pub fn twin(x: &mut [f32], positions: &[u32], turns: &[[f32; 2]], heads: usize, head_dim: usize, adjacent: bool) {
    let half = head_dim / 2;
    for (row, head) in x.chunks_exact_mut(head_dim).enumerate() {
        for i in 0..half {
            let (a, b) = if adjacent { (2 * i, 2 * i + 1) } else { (i, i + half) };
            let [cos, sin] = turns[positions[row / heads] as usize * half + i];
            (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
        }
    }
}

//! The indices of the `k` largest scores, ascending, and the others, ascending. Ties go to the lower index.

use crate::error::Result;
use crate::gpu::{Buffer, Recorder, Substitution, Tier};

super::kernel! {
    /// The op.
    top_k [Read, Write, Write, Write] { count: u32, keep: u32, first_stays: u32 }
}

fn variant(tier: Tier) -> Substitution {
    let lanes = match tier {
        Tier::Software => 8,
        Tier::Gpu => 256,
    };
    Substitution::numbers(&[("LANES", lanes)])
}

/// Every variant that can be compiled for `tier`.
pub fn variants(tier: Tier) -> Vec<Substitution> {
    vec![variant(tier)]
}

/// What marks the place of an index that was dropped.
pub const DROPPED: u32 = 1 << 31;

/// What a choice among units writes.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    /// `[keep]`, ascending.
    pub kept: &'a Buffer,
    /// `[count - keep]`, ascending.
    pub dropped: &'a Buffer,
    /// `[count]`: an index's place in `kept`, or [`DROPPED`] plus its place in `dropped`.
    pub place_of: &'a Buffer,
}

/// Records the choice of `keep` (1 to `count`) of `count` scores, none negative; NaN counts as zero. With `first_stays`
/// index 0 is among them whatever its score.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    scores: &Buffer,
    choice: Choice<'_>,
    (count, keep): (usize, usize),
    first_stays: bool,
) -> Result<()> {
    debug_assert!((1..=count).contains(&keep));
    let params = Params { count: count as u32, keep: keep as u32, first_stays: first_stays.into() };
    let variant = variant(rec.gpu().tier());
    rec.dispatch(&KERNEL, &variant, &params, &[scores, choice.kept, choice.dropped, choice.place_of], [1, 1, 1])
}

/// The naive CPU twin: `(kept, dropped)`.
pub fn twin(scores: &[f32], keep: usize, first_stays: bool) -> (Vec<u32>, Vec<u32>) {
    let key = |i: u32| {
        let score = scores[i as usize];
        if first_stays && i == 0 { (1, 0.0) } else { (0, if score > 0.0 { score } else { 0.0 }) }
    };
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    // Stable: equal scores stay in the order of their indices.
    order.sort_by(|&a, &b| key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal));
    let (mut kept, mut dropped) = (order[..keep].to_vec(), order[keep..].to_vec());
    kept.sort_unstable();
    dropped.sort_unstable();
    (kept, dropped)
}

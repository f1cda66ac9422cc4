//! The heads of q, k and v, stacked, that kept query heads need: for batches that keep no cache.

use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    qkv_list [Read, Write] { heads: u32, group: u32, model_heads: u32, entries: u32 }
}

/// What fills keys and values past the last head in use.
pub const NOBODY: u32 = 0x00ff_ffff;

/// Every variant that can be compiled.
pub fn variants() -> Vec<crate::gpu::Substitution> {
    vec![crate::gpu::Substitution::default()]
}

/// Entries of keys, and of values, for `heads` kept query heads of a model with `kv_heads`.
pub fn entries(heads: usize, kv_heads: usize) -> usize {
    heads.min(kv_heads)
}

/// Records the list for `heads` kept query heads of `model_heads`, `group` to a kv head: `[heads + 2 * entries]`.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    (kept, heads): (&Buffer, usize),
    (list, entries): (&Buffer, usize),
    (model_heads, group): (usize, usize),
) -> Result<()> {
    let params =
        Params { heads: heads as u32, group: group as u32, model_heads: model_heads as u32, entries: entries as u32 };
    rec.dispatch(&KERNEL, &crate::gpu::Substitution::default(), &params, &[kept, list], [1, 1, 1])
}

/// The naive CPU twin.
pub fn twin(kept: &[u32], entries: usize, (model_heads, group): (usize, usize)) -> Vec<u32> {
    let mut read: Vec<u32> = kept.iter().map(|head| head / group as u32).collect();
    read.dedup();
    let part = |first: usize| {
        let mut part: Vec<u32> = read.iter().map(|head| first as u32 + head).collect();
        part.resize(entries, NOBODY);
        part
    };
    [kept.to_vec(), part(model_heads), part(model_heads + model_heads / group)].concat()
}

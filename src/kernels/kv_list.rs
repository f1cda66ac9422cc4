//! The kv heads that some kept query head reads, for batches that keep no cache.

use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    kv_list [Read, Write] { heads: u32, group: u32, entries: u32 }
}

/// What fills the list past the last head in use.
pub const NOBODY: u32 = 0x00ff_ffff;

/// Every variant that can be compiled.
pub fn variants() -> Vec<crate::gpu::Substitution> {
    vec![crate::gpu::Substitution::default()]
}

/// Entries of the list for `heads` kept query heads of a model with `kv_heads`.
pub fn entries(heads: usize, kv_heads: usize) -> usize {
    heads.min(kv_heads)
}

/// Records the list of `entries` kv heads behind `heads` kept query heads, `group` to a kv head.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    (kept, heads): (&Buffer, usize),
    (list, entries): (&Buffer, usize),
    group: usize,
) -> Result<()> {
    let params = Params { heads: heads as u32, group: group as u32, entries: entries as u32 };
    rec.dispatch(&KERNEL, &crate::gpu::Substitution::default(), &params, &[kept, list], [1, 1, 1])
}

/// The naive CPU twin.
pub fn twin(kept: &[u32], group: usize, entries: usize) -> Vec<u32> {
    let mut list: Vec<u32> = kept.iter().map(|head| head / group as u32).collect();
    list.dedup();
    list.resize(entries, NOBODY);
    list
}

//! Keys (turned by rope) and values of new tokens into the cache `[sample][kv head][slot][head_dim]`.

use super::rope::Turns;
use super::{Cache, lanes, lanes_variant};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder};

super::kernel! {
    /// The op.
    kv_append [Read, Read, Read, Read, Read, Write, Write] {
        length: u32, heads: u32, half: u32, adjacent: u32, kv_heads: u32, capacity: u32, listed: u32,
    }
}

/// Records the appending of `samples * length` tokens, each at its slot in `places`. `list` names the heads that `k` and
/// `v` hold and counts them; without it they hold all.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    (k, v): (&Buffer, &Buffer),
    places: &Buffer,
    turns: Turns<'_>,
    list: Option<(&Buffer, usize)>,
    cache: Cache<'_>,
    (samples, length): (usize, usize),
) -> Result<()> {
    let heads = list.map_or(cache.kv_heads, |(_, count)| count);
    let params = Params {
        length: length as u32,
        heads: heads as u32,
        half: (turns.head_dim / 2) as u32,
        adjacent: turns.adjacent.into(),
        kv_heads: cache.kv_heads as u32,
        capacity: cache.capacity as u32,
        listed: list.is_some().into(),
    };
    let tier = rec.gpu().tier();
    let grid = [(params.heads * params.half).div_ceil(lanes(tier)), (samples * length) as u32, 1];
    let names = list.map_or(places, |(buffer, _)| buffer);
    let buffers = [k, v, places, turns.table, names, cache.k, cache.v];
    rec.dispatch(&KERNEL, &lanes_variant(tier), &params, &buffers, grid)
}

/// The naive CPU twin for one of k and v, already turned: `rows [tokens][heads.len()][head_dim]` into
/// `cache [sample][kv_heads][capacity][head_dim]`.
pub fn twin(
    rows: &[f32],
    cache: &mut [f32],
    slots: &[u32],
    heads: &[usize],
    (length, kv_heads, capacity, head_dim): (usize, usize, usize, usize),
) {
    for (index, row) in rows.chunks_exact(head_dim).enumerate() {
        let (token, head) = (index / heads.len(), heads[index % heads.len()]);
        if head < kv_heads {
            let at = ((token / length * kv_heads + head) * capacity + slots[token] as usize) * head_dim;
            cache[at..at + head_dim].copy_from_slice(row);
        }
    }
}

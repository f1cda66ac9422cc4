//! Causal attention of new queries over the cache, with grouped heads and any subset of query heads.

use super::{Cache, Rows};
use crate::error::Result;
use crate::gpu::{Buffer, Recorder, Substitution, Tier};

super::kernel! {
    /// The op.
    attention [Read, Fetch, Read, Read, Write, Store] {
        length: u32, heads: u32, q_heads: u32, kv_heads: u32, group: u32, apart: u32, mapped: u32, out_row: u32, scale: f32,
        window: u32, gathered: u32,
    }
}

super::sibling! {
    /// The op for a few queries on hardware: a workgroup for each query of each head.
    FEW = attention_few
}

/// Most queries of a sample that cannot fill a device by themselves.
const FEW_QUERIES: usize = 4;

/// Heads that an invocation takes together: on software adapters the loads of a key are worth sharing.
fn fold(tier: Tier, group: usize) -> usize {
    match tier {
        Tier::Software => group.min(4),
        Tier::Gpu => 1,
    }
}

fn variant(tier: Tier, head_dim: usize, group: usize, length: usize) -> (Substitution, usize) {
    let fold = fold(tier, group);
    let lanes = match tier {
        Tier::Software => 8,
        Tier::Gpu => (4096 / head_dim).clamp(8, 64),
    };
    // The slots of a few queries are spread over a workgroup, in whose 16 KiB of memory each invocation leaves a head and two
    // numbers.
    let (queries, slots) = if length <= FEW_QUERIES { (1, lanes.min(4096 / (head_dim + 2))) } else { (lanes, 1) };
    let numbers = vec![
        ("D4", head_dim as u32 / 4),
        ("FOLD", fold as u32),
        ("LQ", queries as u32),
        ("LS", slots as u32),
        ("LANES", (queries * slots) as u32),
        ("STATES", slots as u32),
        ("PARTIALS", if slots > 1 { (slots * head_dim / 4) as u32 } else { 1 }),
    ];
    (Substitution { weights: Vec::new(), numbers }, queries)
}

/// The variant of [`FEW`]: invocations enough to hide the way to memory, and slots enough that few stretches wait for one another.
fn few(head_dim: usize) -> Substitution {
    Substitution::numbers(&[("D4", head_dim as u32 / 4), ("LANES", 128), ("STRETCH", 512)])
}

/// Head sizes in use, with heads that share keys and values.
const SHAPES: [(usize, usize); 7] = [(8, 2), (64, 1), (64, 3), (64, 8), (96, 1), (128, 4), (256, 1)];

/// Variants for the head sizes in use.
pub fn variants(tier: Tier) -> Vec<Substitution> {
    let lengths: &[usize] = if tier == Tier::Gpu { &[64] } else { &[1, 64] };
    let of = |&(d, group): &(usize, usize)| lengths.iter().map(move |&length| variant(tier, d, group, length).0);
    SHAPES.iter().flat_map(of).flat_map(|variant| super::storing(tier, variant)).collect()
}

/// Those of [`FEW`].
pub fn few_variants() -> Vec<Substitution> {
    SHAPES.iter().map(|&(head_dim, _)| few(head_dim)).collect()
}

/// Which of the model's heads are there.
#[derive(Clone, Copy)]
pub enum Members<'a> {
    /// All of them.
    All,
    /// Those kept by the choice that wrote these places.
    Kept(&'a Buffer),
    /// Those dropped by it.
    Dropped(&'a Buffer),
}

/// Queries to attend with.
#[derive(Clone, Copy)]
pub struct Queries<'a> {
    /// `[samples][length][stride][head_dim]`: query heads first, turned by rope.
    pub q: &'a Buffer,
    /// Heads of a row of `q`.
    pub stride: usize,
    /// Position and slot of every token.
    pub places: &'a Buffer,
    /// Samples.
    pub samples: usize,
    /// Queries of a sample.
    pub length: usize,
    /// Query heads in `q`.
    pub heads: usize,
    /// Heads of the whole model.
    pub model_heads: usize,
    /// Which of the model's heads `q` holds.
    pub members: Members<'a>,
    /// Positions that a query sees, its own among them; `None` = all up to its own.
    pub window: Option<usize>,
    /// Whether the cache's slots hold the queries' own tokens, at the positions of those; otherwise a slot is a position.
    pub gathered: bool,
}

/// Records `softmax(q k^T / sqrt(head_dim)) v` into `out`, `[samples][length][heads][head_dim]`. A query sees the slots up
/// to its own, or those of them that its window reaches.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(rec: &mut Recorder<'_>, queries: Queries<'_>, cache: Cache<'_>, out: Rows<'_>) -> Result<()> {
    let group = queries.model_heads / cache.kv_heads;
    let tier = rec.gpu().tier();
    let (mapped, place_of) = match queries.members {
        Members::All => (0, queries.places),
        Members::Kept(place_of) => (1, place_of),
        Members::Dropped(place_of) => (2, place_of),
    };
    let (lent, apart) = cache.lent(rec, queries.samples)?;
    let params = Params {
        length: queries.length as u32,
        heads: queries.heads as u32,
        q_heads: queries.stride as u32,
        kv_heads: cache.kv_heads as u32,
        group: group as u32,
        apart,
        mapped,
        out_row: out.first,
        scale: 1.0 / (cache.head_dim as f32).sqrt(),
        window: queries.window.map_or(0, |window| window.min(u32::MAX as usize) as u32),
        gathered: queries.gathered.into(),
    };
    let buffers = [queries.q, lent.buffer(), queries.places, place_of, out.buffer, out.buffer];
    let (length, samples, heads) = (queries.length as u32, queries.samples as u32, (cache.kv_heads * group) as u32);
    if tier == Tier::Gpu && queries.length <= FEW_QUERIES {
        return rec.dispatch(&FEW, &few(cache.head_dim), &params, &buffers, [length, samples, heads]);
    }
    let (variant, at_once) = variant(tier, cache.head_dim, group, queries.length);
    let folds = group.div_ceil(fold(tier, group));
    let grid = [length.div_ceil(at_once as u32), samples, (cache.kv_heads * folds) as u32];
    rec.dispatch(&KERNEL, &variant.storing(out.buffer.is_mirrored()), &params, &buffers, grid)
}

/// The naive CPU twin: `q [samples][length][heads.len()][head_dim]`; `k` and `v` are the halves of a [`Cache`], head by head,
/// `[sample][kv_heads][capacity][head_dim]`; `heads` are the model's heads in `q`, `group` of them to a kv head; a query sees
/// the slots from `seen.0` to `seen.1`.
pub fn twin(
    q: &[f32],
    (k, v): (&[f32], &[f32]),
    seen: &[(usize, usize)],
    (heads, group): (&[usize], usize),
    (length, kv_heads, capacity, head_dim): (usize, usize, usize, usize),
) -> Vec<f32> {
    let mut out = Vec::with_capacity(q.len());
    for (index, q) in q.chunks_exact(head_dim).enumerate() {
        let (token, head) = (index / heads.len(), heads[index % heads.len()]);
        let base = (token / length * kv_heads + head / group) * capacity * head_dim;
        let (first, last) = seen[token];
        let dot = |slot: usize| -> f32 { q.iter().zip(&k[base + slot * head_dim..]).map(|(a, b)| a * b).sum() };
        let scores: Vec<f32> = (first..=last).map(|slot| dot(slot) / (head_dim as f32).sqrt()).collect();
        let top = scores.iter().copied().fold(f32::MIN, f32::max);
        let total: f32 = scores.iter().map(|score| (score - top).exp()).sum();
        let mix = |i: usize| -> f32 {
            let value = |s: usize| v[base + (first + s) * head_dim + i];
            scores.iter().enumerate().map(|(s, score)| (score - top).exp() * value(s)).sum()
        };
        out.extend((0..head_dim).map(|i| mix(i) / total));
    }
    out
}

//! Rotary position embedding of queries, in place, and keys (turned as well) and values into the cache. What a family does
//! to heads before that happens on the way: a bias of q, k and v, or an RMS norm of every head of q and k.

use super::{Cache, FEW, lanes};
use crate::error::Result;
use crate::gpu::{Buffer, Kernel, Recorder, ShaderSource, Substitution, Tier};

super::kernel! {
    /// The op.
    rope_append [Write, Read, Fetch, Read, Write, Read, Store] {
        queries: u32, keys: u32, half: u32, length: u32, kv_heads: u32, capacity: u32, model_heads: u32, no_rope: u32, eps: f32,
    }
}

/// The op where heads are normed, which takes a workgroup for each: the same parameters; the last binding has the norms'
/// scales.
pub static NORMED: Kernel = Kernel {
    source: ShaderSource { name: "rope_append_normed", text: include_str!("../../shaders/rope_append_normed.wgsl") },
    bindings: KERNEL.bindings,
    params: KERNEL.params,
};

/// How a model turns the elements of a head, and what a layer does to q, k and v before.
#[derive(Clone, Copy)]
pub struct Turns<'a> {
    /// `[position][head_dim / 2]` cosine and sine, to fetch from, four words to an element.
    pub table: &'a Buffer,
    /// Elements of a head, a multiple of 4.
    pub head_dim: usize,
    /// Whether elements `2i` and `2i + 1` pair, or `i` and `i + head_dim / 2`.
    pub adjacent: bool,
    /// What is added to q, k and v, of all heads of the model: `[(A + 2K) * head_dim]`. Not together with `norms`.
    pub bias: Option<&'a Buffer>,
    /// Scales of the RMS norm of a query head, then of a key head: `[2 * head_dim]`.
    pub norms: Option<&'a Buffer>,
    /// Added to the mean square inside that norm.
    pub eps: f32,
    /// Whether the layer is without rope: then q and k are not turned.
    pub no_rope: bool,
}

/// How invocations take a head.
#[derive(Clone, Copy)]
struct Shares {
    /// Elements of a load, 4 or 2.
    width: u32,
    /// As [`Turns::adjacent`].
    adjacent: bool,
    /// Whether loads go into the cache's mirror as well.
    stores: bool,
}

impl Shares {
    /// All that an adapter of a tier can be asked for.
    fn all(tier: Tier) -> impl Iterator<Item = Shares> {
        let widths = [(2, false), (4, false), (4, true)].into_iter();
        let can = widths.filter(move |&(_, stores)| !stores || tier == Tier::Software);
        can.flat_map(|(width, stores)| [false, true].map(|adjacent| Shares { width, adjacent, stores }))
    }

    fn variant(self, tier: Tier, own: &[(&'static str, u32)]) -> Substitution {
        let own =
            [own, &[("WIDTH", self.width), ("TWOS", self.width / 2), ("ADJACENT", self.adjacent.into())]].concat();
        Substitution::numbers(&[own, vec![("LANES", lanes(tier))]].concat()).storing(self.stores)
    }
}

/// Every variant that can be compiled.
pub fn variants(tier: Tier) -> Vec<Substitution> {
    let biased = |shares: Shares| [0, 1].map(|biased| shares.variant(tier, &[("BIASED", biased)]));
    Shares::all(tier).flat_map(biased).collect()
}

/// Those of [`NORMED`].
pub fn normed_variants(tier: Tier) -> Vec<Substitution> {
    Shares::all(tier).map(|shares| shares.variant(tier, &[])).collect()
}

/// Cosine and sine of every angle `position * frequency`, positions first.
pub fn table(frequencies: &[f32], positions: usize) -> Vec<[f32; 2]> {
    let turn = |position: usize, frequency: f32| {
        let angle = position as f64 * f64::from(frequency);
        [angle.cos() as f32, angle.sin() as f32]
    };
    (0..positions).flat_map(|position| frequencies.iter().map(move |&f| turn(position, f))).collect()
}

/// The heads in a row of x.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    /// Query heads.
    pub queries: usize,
    /// Kv heads: keys of all of them behind the queries, then values. 0 = none.
    pub keys: usize,
    /// Names of the row's heads, and the query heads of the whole model: see [`super::qkv_list`]. `None` = all heads in order.
    pub list: Option<(&'a Buffer, usize)>,
}

/// Records the turning and the appending of `samples * length` tokens of `x [tokens][queries + 2 * keys][head_dim]`, each at
/// its position and slot in `places`.
///
/// # Errors
/// Those of [`Recorder::dispatch`].
pub fn record(
    rec: &mut Recorder<'_>,
    x: &Buffer,
    heads: Heads<'_>,
    places: &Buffer,
    turns: Turns<'_>,
    cache: Cache<'_>,
    (samples, length): (usize, usize),
) -> Result<()> {
    let half = (turns.head_dim / 2) as u32;
    let params = Params {
        queries: heads.queries as u32,
        keys: heads.keys as u32,
        half,
        length: length as u32,
        kv_heads: cache.kv_heads as u32,
        capacity: cache.capacity as u32,
        model_heads: heads.list.map_or(0, |(_, model_heads)| model_heads as u32),
        no_rope: turns.no_rope.into(),
        eps: turns.eps,
    };
    let tier = rec.gpu().tier();
    let (members, tokens) = (params.queries + params.keys, (samples * length) as u32);
    let list = heads.list.map_or(places, |(list, _)| list);
    let buffers = |last| [x, places, turns.table, list, cache.buffer, last, cache.buffer];
    let width = if half.is_multiple_of(4) { 4 } else { 2 };
    // Few tokens' keys and values go into the mirror on the way: a copy would cost more than the op itself.
    let stores = heads.keys > 0 && length <= FEW && width == 4 && cache.buffer.is_mirrored();
    let shares = Shares { width, adjacent: turns.adjacent, stores };
    match (turns.norms, turns.bias) {
        (Some(_), Some(_)) => return Err(crate::Error::Internal("heads with biases and norms at once".into())),
        (Some(norms), None) => {
            rec.dispatch(&NORMED, &shares.variant(tier, &[]), &params, &buffers(norms), [members, tokens, 1])?;
        }
        (None, bias) => {
            let variant = shares.variant(tier, &[("BIASED", bias.is_some().into())]);
            let grid = [(members * half / width).div_ceil(lanes(tier)), tokens, 1];
            rec.dispatch(&KERNEL, &variant, &params, &buffers(bias.unwrap_or(list)), grid)?;
        }
    }
    if heads.keys > 0 && !stores {
        cache.mirror(rec, samples)?;
    }
    Ok(())
}

/// The naive CPU twin of the turning, in place: `x [tokens][heads][head_dim]`, `turns` as [`table`] makes it.
pub fn turn_twin(x: &mut [f32], positions: &[u32], turns: &[[f32; 2]], heads: usize, head_dim: usize, adjacent: bool) {
    let half = head_dim / 2;
    for (row, head) in x.chunks_exact_mut(head_dim).enumerate() {
        for i in 0..half {
            let (a, b) = if adjacent { (2 * i, 2 * i + 1) } else { (i, i + half) };
            let [cos, sin] = turns[positions[row / heads] as usize * half + i];
            (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
        }
    }
}

/// The naive CPU twin of the bias, in place: `x [tokens][heads.len()][head_dim]`; `heads` are heads of q, k and v stacked,
/// of which `bias` has as many as the model.
pub fn bias_twin(x: &mut [f32], bias: &[f32], heads: &[usize], head_dim: usize) {
    for (index, row) in x.chunks_exact_mut(head_dim).enumerate() {
        let bias = bias.chunks_exact(head_dim).nth(heads[index % heads.len()]);
        row.iter_mut().zip(bias.unwrap_or_default()).for_each(|(x, bias)| *x += bias);
    }
}

/// The naive CPU twin of the norm, in place: `x` has rows as long as `scale`.
pub fn norm_twin(x: &mut [f32], scale: &[f32], eps: f32) {
    for row in x.chunks_exact_mut(scale.len()) {
        let (normed, _) = super::rms_norm::twin(row, scale, eps);
        row.copy_from_slice(&normed);
    }
}

/// The naive CPU twin of the appending, for one of k and v, already turned: `rows [tokens][heads.len()][head_dim]` into
/// `[sample][kv_heads][capacity][head_dim]`, one half of what a [`Cache`] holds, head by head.
pub fn append_twin(
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

//! The ops of the engine: one file each with its parameters, its dispatch and its naive CPU twin, beside the shader of
//! the same name. [`registry`] lists them all, with every variant that can be compiled.

pub mod add_bias;
pub mod add_positions;
pub mod attention;
pub mod column_power;
pub mod copy;
pub mod cross_entropy;
pub mod dropped_mean;
pub mod embed;
pub mod fc1;
pub mod fluctuation;
pub mod fma_chain;
pub mod fusion;
pub mod gate_up;
pub mod gather_probe;
pub mod half_rows;
pub mod history_share;
pub mod history_update;
pub mod layer_norm;
pub mod matmul_columns;
pub mod matmul_rows;
pub mod matrix;
pub mod matrix_chain;
pub mod probe_statistic;
pub mod qkv_list;
pub mod random_weights;
pub mod rms_norm;
pub mod rope_append;
pub mod sample;
pub mod sample_importance;
pub mod score;
pub mod shapes;
pub mod token_importance;
pub mod top_k;

use crate::error::Result;
use crate::format::{Layout, Weight, WeightFormat};
use crate::gpu::{Buffer, Fetched, Grid, Kernel, Recorder, Stretches, Substitution, Tier};
use shapes::Shaped;
use std::sync::Arc;

/// Declares an op: its parameters (four bytes each, in the shader's order) and its storage bindings. The shader of the
/// same name documents them.
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident [$($access:ident),*] { $($field:ident: $type:ty),* $(,)? }) => {
        #[repr(C)]
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        struct Params { $($field: $type),* }

        $(#[$doc])*
        pub static KERNEL: crate::gpu::Kernel = crate::gpu::Kernel {
            source: crate::gpu::ShaderSource {
                name: stringify!($name),
                text: include_str!(concat!("../../shaders/", stringify!($name), ".wgsl")),
            },
            bindings: &[$(crate::gpu::Access::$access),*],
            params: &[$(stringify!($field)),*],
        };
    };
}
use kernel;

/// Declares another kernel of the same op: the same bindings and parameters, another shader.
macro_rules! sibling {
    ($(#[$doc:meta])* $constant:ident = $name:ident) => {
        $(#[$doc])*
        pub static $constant: crate::gpu::Kernel = crate::gpu::Kernel {
            source: crate::gpu::ShaderSource {
                name: stringify!($name),
                text: include_str!(concat!("../../shaders/", stringify!($name), ".wgsl")),
            },
            bindings: KERNEL.bindings,
            params: KERNEL.params,
        };
    };
}
use sibling;

/// Some rows of a matrix in a buffer.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// Where they lie.
    pub buffer: &'a Buffer,
    /// The first of them.
    pub first: u32,
}

impl Rows<'_> {
    /// Those behind the first `rows`.
    fn skip(self, rows: usize) -> Self {
        Rows { first: self.first + rows as u32, ..self }
    }
}

impl<'a> From<&'a Buffer> for Rows<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        Rows { buffer, first: 0 }
    }
}

/// Whether a matmul by rows keeps the mirror of `y` itself: where one dispatch makes whole rows of it, of a few tokens.
fn keeps_mirror(y: Rows<'_>, weight: &Weight, tokens: usize) -> bool {
    y.buffer.is_mirrored() && weight.shards.len() == 1 && tokens <= FEW
}

/// Has `tokens` rows of `stride` values copied to the mirror that their kernel did not keep, if there is one.
fn mirror_rows(rec: &mut Recorder<'_>, rows: Rows<'_>, stride: usize, tokens: usize) -> Result<()> {
    let quads = (stride / 4) as u32;
    rec.mirror(rows.buffer, Stretches::one(rows.first * quads, tokens as u32 * quads))
}

/// A buffer as kernels fetch from it: itself, or on software adapters a copy of what they need of it, where it has no mirror.
struct Lent<'a> {
    own: &'a Buffer,
    copy: Option<Arc<Buffer>>,
}

impl<'a> Lent<'a> {
    /// `tokens` rows of `stride` values, a multiple of four, and the first row's place in what is lent.
    fn rows(rec: &mut Recorder<'_>, rows: Rows<'a>, stride: usize, tokens: usize) -> Result<(Lent<'a>, u32)> {
        let quads = stride / 4;
        let part = Stretches::one(rows.first * quads as u32, (tokens * quads) as u32);
        let (lent, _) = Lent::new(rec, Fetched::Activations, rows.buffer, part)?;
        let first = if lent.copy.is_some() { 0 } else { rows.first };
        Ok((lent, first))
    }

    /// The first `words` of a list.
    fn list(rec: &mut Recorder<'_>, kind: Fetched, list: &'a Buffer, words: usize) -> Result<Lent<'a>> {
        Ok(Lent::new(rec, kind, list, Stretches::one(0, words.div_ceil(4) as u32))?.0)
    }

    /// Parts of a buffer, and how many texels apart they lie in what is lent.
    fn new(rec: &mut Recorder<'_>, kind: Fetched, own: &'a Buffer, parts: Stretches) -> Result<(Lent<'a>, u32)> {
        Ok(match rec.fetch(kind, own, parts)? {
            Some((copy, apart)) => (Lent { own, copy: Some(copy) }, apart),
            None => (Lent { own, copy: None }, parts.apart),
        })
    }

    /// What to bind.
    fn buffer(&self) -> &Buffer {
        self.copy.as_deref().unwrap_or(self.own)
    }
}

/// A list of kept units: ascending indices, of which the CPU knows only the count.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    /// `[count]` u32, ascending; padded to a multiple of 4.
    pub list: &'a Buffer,
    /// How many.
    pub count: usize,
    /// Rows that one entry stands for: 1 for channels, `head_dim` for heads.
    pub unit: usize,
}

/// Which positions share a row of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryRows {
    /// All of them.
    One,
    /// None: this many positions have a row each.
    Each(usize),
    /// Ranges that double: 0, 1, 2 to 3, 4 to 7 and so on; the last of this many has no end.
    Buckets(usize),
}

impl HistoryRows {
    /// Rows that `length` positions reach, of those there are.
    pub fn count(self, length: usize) -> usize {
        match self {
            HistoryRows::One => 1,
            HistoryRows::Each(_) => length,
            HistoryRows::Buckets(_) => length.checked_sub(1).map_or(0, |last| self.row(last) + 1),
        }
    }

    /// The row of a position.
    pub fn row(self, position: usize) -> usize {
        match self {
            HistoryRows::One => 0,
            HistoryRows::Each(_) => position,
            HistoryRows::Buckets(rows) => ((usize::BITS - position.leading_zeros()) as usize).min(rows - 1),
        }
    }

    /// All rows.
    pub fn total(self) -> usize {
        match self {
            HistoryRows::One => 1,
            HistoryRows::Each(rows) | HistoryRows::Buckets(rows) => rows,
        }
    }

    /// Kind and rows as the shaders have them.
    fn params(self) -> (u32, u32) {
        let kind = match self {
            HistoryRows::One => 0,
            HistoryRows::Each(_) => 1,
            HistoryRows::Buckets(_) => 2,
        };
        (kind, self.total() as u32)
    }
}

/// The shape of a matmul: what one invocation computes, and how invocations form a workgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Tokens and outputs of an invocation.
    pub tm: u32,
    /// Outputs of an invocation (of each weight).
    pub tn: u32,
    /// Invocations along tokens.
    pub lm: u32,
    /// Invocations along outputs.
    pub ln: u32,
}

impl Tile {
    fn lanes(&self) -> u32 {
        self.lm * self.ln
    }

    /// The variant of a shader with this tile and these weights.
    fn variant(&self, formats: &[WeightFormat]) -> Substitution {
        Substitution {
            weights: formats.iter().map(|format| format.decoder(Layout::Rows)).collect(),
            numbers: vec![("TM", self.tm), ("TN", self.tn), ("LM", self.lm), ("LN", self.ln), ("LANES", self.lanes())],
        }
    }

    fn grid(&self, tokens: usize, outputs: usize) -> Grid {
        [(outputs as u32).div_ceil(self.ln * self.tn), (tokens as u32).div_ceil(self.lm * self.tm), 1]
    }
}

/// Most tokens of the kernels that take a token in each invocation.
const FEW: usize = 2;
/// Tokens of the wide tile of software adapters.
const WIDE: usize = 64;
/// Most tokens that are faster in narrow tiles than in one wide one that they do not fill.
const NARROW: usize = 48;

/// How many of `tokens` rows wide tiles take, where what is beyond them is to go into narrow ones; `None` = all rows go together.
fn wide_rows(tier: Tier, tokens: usize) -> Option<usize> {
    let beyond = tokens % WIDE;
    let splits = tier == Tier::Software && tokens > WIDE && (1..=NARROW).contains(&beyond);
    splits.then(|| tokens - beyond)
}

/// The tile for `tokens` rows, more than [`FEW`], of a matmul that reads `weights` weights at once: measured on lavapipe (see
/// docs/performance.md), untuned on hardware.
fn tile(tier: Tier, tokens: usize, weights: u32) -> Tile {
    match (tier, tokens) {
        (Tier::Software, 0..=NARROW) => Tile { tm: 4, tn: 8, lm: 1, ln: 8 },
        (Tier::Software, _) => Tile { tm: 8, tn: if weights == 1 { 12 } else { 8 }, lm: 8, ln: 1 },
        (Tier::Gpu, _) => Tile { tm: 4, tn: 4 / weights, lm: 2, ln: 32 },
    }
}

/// Whether tiles through workgroup memory are worth it: hardware with enough tokens to fill them.
fn is_tiled(tier: Tier, tokens: usize) -> bool {
    tier == Tier::Gpu && tokens > 8
}

/// Tokens, and columns of a weight or of two together, of a tile in workgroup memory.
const TILED_SIDE: u32 = 64;

/// Every variant of a kernel that works in tiles, for `tier`.
fn tiled_variants(layout: Layout, weights: usize) -> Vec<Substitution> {
    WeightFormat::ALL.iter().map(|&format| tiled_variant(layout, &vec![format; weights])).collect()
}

fn tiled_variant(layout: Layout, formats: &[WeightFormat]) -> Substitution {
    let weights = formats.iter().map(|format| format.decoder(layout)).collect();
    Substitution { weights, numbers: Vec::new() }
}

/// Every variant of a matmul by rows of more than a few tokens that can be compiled for `tier`.
fn variants(tier: Tier, weights: u32) -> Vec<Substitution> {
    let tiles = [3, 64].map(|tokens| tile(tier, tokens, weights));
    let of = |format| tiles.map(|tile| tile.variant(&vec![format; weights as usize]));
    WeightFormat::ALL.into_iter().flat_map(of).collect()
}

/// Every variant of a matmul by rows of a few tokens that can be compiled for `tier`.
fn few_variants(tier: Tier, shaped: Shaped, weights: usize) -> Vec<Substitution> {
    let shapes = shaped.candidates(tier);
    let of = |format| shapes.iter().map(|shape| shape.of_rows(&vec![format; weights])).collect::<Vec<_>>();
    WeightFormat::ALL.into_iter().flat_map(of).collect()
}

/// Invocations of a workgroup of the ops that work on single elements or rows.
fn lanes(tier: Tier) -> u32 {
    match tier {
        Tier::Software => 8,
        Tier::Gpu => 64,
    }
}

/// A grid for ops whose workgroups are more than one dimension allows, and the workgroups of one of its rows.
fn wide_grid(groups: usize) -> (Grid, u32) {
    // What WebGPU guarantees of a dimension.
    let row = groups.min(65_535) as u32;
    ([row, groups.div_ceil(row.max(1) as usize) as u32, 1], row)
}

fn lanes_variant(tier: Tier) -> Substitution {
    Substitution::numbers(&[("LANES", lanes(tier))])
}

/// Both variants of the norms, where there are two.
fn norm_variants(tier: Tier) -> Vec<Substitution> {
    storing(tier, norm_variant(tier))
}

/// A variant, and where buffers have mirrors the one that keeps them.
fn storing(tier: Tier, variant: Substitution) -> Vec<Substitution> {
    match tier {
        Tier::Software => vec![variant.clone(), variant.storing(true)],
        Tier::Gpu => vec![variant],
    }
}

fn storing_all(tier: Tier, variants: Vec<Substitution>) -> Vec<Substitution> {
    variants.into_iter().flat_map(|variant| storing(tier, variant)).collect()
}

/// The variant of the norms, whose workgroups have a row each: of a decoded token there is one, and all that is left to add to it.
fn norm_variant(tier: Tier) -> Substitution {
    Substitution::numbers(&[("LANES", if tier == Tier::Gpu { 256 } else { lanes(tier) })])
}

/// Keys and values of past tokens of one layer.
#[derive(Clone, Copy)]
pub struct Cache<'a> {
    /// `[sample][capacity][2][kv_heads][head_dim]`: slot by slot the keys of all heads, then their values.
    pub buffer: &'a Buffer,
    /// Heads.
    pub kv_heads: usize,
    /// Slots of a sample.
    pub capacity: usize,
    /// The first slot that the pass writes.
    pub fresh: usize,
    /// Slots that the pass may look at: those behind are not filled yet.
    pub filled: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl<'a> Cache<'a> {
    /// Words of a slot.
    pub fn slot(kv_heads: usize, head_dim: usize) -> usize {
        2 * kv_heads * head_dim
    }

    /// The first slots of `samples`, in texels of four words.
    pub fn stretches(&self, samples: usize, slots: usize) -> Stretches {
        let quads = (Cache::slot(self.kv_heads, self.head_dim) / 4) as u32;
        let texels = slots.min(self.capacity) as u32 * quads;
        Stretches { first: 0, count: samples as u32, texels, apart: self.capacity as u32 * quads }
    }

    /// What attention fetches, and how far apart samples lie in it.
    fn lent(&self, rec: &mut Recorder<'_>, samples: usize) -> Result<(Lent<'a>, u32)> {
        Lent::new(rec, Fetched::Cache, self.buffer, self.stretches(samples, self.filled))
    }

    /// Has what the pass wrote copied to where it is fetched from.
    fn mirror(&self, rec: &mut Recorder<'_>, samples: usize) -> Result<()> {
        let quads = (Cache::slot(self.kv_heads, self.head_dim) / 4) as u32;
        let Stretches { count, texels, apart, .. } = self.stretches(samples, self.filled - self.fresh);
        rec.mirror(self.buffer, Stretches { first: self.fresh as u32 * quads, count, texels, apart })
    }
}

/// Every op with the variants that can be compiled for `tier`.
pub fn registry(tier: Tier) -> Vec<(&'static Kernel, Vec<Substitution>)> {
    let plain = || vec![lanes_variant(tier)];
    let mut kernels = vec![
        (&add_bias::KERNEL, plain()),
        (&add_positions::KERNEL, plain()),
        (&attention::KERNEL, attention::variants(tier)),
        (&column_power::KERNEL, column_power::variants(tier)),
        (&copy::KERNEL, copy::variants(tier)),
        (&cross_entropy::KERNEL, plain()),
        (&dropped_mean::KERNEL, plain()),
        (&embed::KERNEL, embed::variants(tier)),
        (&fc1::KERNEL, variants(tier, 1)),
        (&fc1::FEW, storing_all(tier, few_variants(tier, Shaped::Rows, 1))),
        (&fluctuation::KERNEL, plain()),
        (&fma_chain::KERNEL, fma_chain::variants(tier)),
        (&fusion::KERNEL, plain()),
        (&gate_up::KERNEL, variants(tier, 2)),
        (&gate_up::FEW, storing_all(tier, few_variants(tier, Shaped::GateUp, 2))),
        (&gather_probe::KERNEL, plain()),
        (&half_rows::KERNEL, plain()),
        (&history_share::KERNEL, plain()),
        (&history_update::KERNEL, vec![history_update::variant(tier)]),
        (&layer_norm::KERNEL, norm_variants(tier)),
        (&matmul_columns::KERNEL, matmul_columns::variants(tier)),
        (&matmul_columns::FEW, matmul_columns::few_variants(tier)),
        (&matmul_rows::KERNEL, variants(tier, 1)),
        (&matmul_rows::FEW, few_variants(tier, Shaped::Rows, 1)),
        (&probe_statistic::KERNEL, plain()),
        (&qkv_list::KERNEL, qkv_list::variants()),
        (&random_weights::KERNEL, plain()),
        (&rms_norm::KERNEL, norm_variants(tier)),
        (&rope_append::KERNEL, rope_append::variants(tier)),
        (&rope_append::NORMED, rope_append::normed_variants(tier)),
        (&sample::KERNEL, sample::variants()),
        (&sample_importance::KERNEL, plain()),
        (&score::KERNEL, plain()),
        (&token_importance::KERNEL, plain()),
        (&top_k::KERNEL, top_k::variants(tier)),
    ];
    if tier == Tier::Gpu {
        kernels.push((&attention::FEW, attention::few_variants()));
        kernels.push((&fc1::TILED, tiled_variants(Layout::Rows, 1)));
        kernels.push((&gate_up::TILED, tiled_variants(Layout::Rows, 2)));
        kernels.push((&matmul_columns::TILED, tiled_variants(Layout::Columns, 1)));
        kernels.push((&matmul_rows::TILED, tiled_variants(Layout::Rows, 1)));
        kernels.push((&fc1::MATRIX, matrix::variants(Layout::Rows, 1)));
        kernels.push((&gate_up::MATRIX, matrix::variants(Layout::Rows, 2)));
        kernels.push((&matmul_columns::MATRIX, matrix::variants(Layout::Columns, 1)));
        kernels.push((&matmul_rows::MATRIX, matrix::variants(Layout::Rows, 1)));
        kernels.push((&matrix_chain::KERNEL, matrix_chain::variants()));
    }
    kernels
}

#[cfg(test)]
mod tests {
    use super::HistoryRows::{Buckets, Each, One};

    #[test]
    fn positions_fall_into_rows() {
        let rows = |rows: super::HistoryRows| [0, 1, 2, 3, 4, 7, 8, 15, 16, 1000].map(|position| rows.row(position));
        assert_eq!(rows(One), [0; 10]);
        assert_eq!(rows(Each(2000)), [0, 1, 2, 3, 4, 7, 8, 15, 16, 1000]);
        assert_eq!(rows(Buckets(32)), [0, 1, 2, 2, 3, 3, 4, 4, 5, 10]);
        assert_eq!(rows(Buckets(4)), [0, 1, 2, 2, 3, 3, 3, 3, 3, 3], "the last has no end");
        assert_eq!(rows(Buckets(1)), [0; 10]);
    }

    #[test]
    fn rows_that_are_reached_are_counted() {
        let counts = |rows: super::HistoryRows| [0, 1, 2, 3, 5, 64, 65].map(|length| rows.count(length));
        assert_eq!(counts(Each(100)), [0, 1, 2, 3, 5, 64, 65]);
        assert_eq!(counts(Buckets(32)), [0, 1, 2, 3, 4, 7, 8]);
        assert_eq!(counts(Buckets(3)), [0, 1, 2, 3, 3, 3, 3]);
        assert_eq!([One, Each(7), Buckets(3)].map(super::HistoryRows::total), [1, 7, 3]);
    }
}

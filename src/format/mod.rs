//! Weight formats: how a tensor's bytes in a file become planes on the GPU, how shaders read those planes, and how values become such
//! bytes where a file is made.
//!
//! Invariant: on the way to the GPU values are preserved exactly; nothing is requantised. A format is one file here, two decoders in
//! `shaders/common/` (one a layout) and one line in [`WeightFormat`]. Two layouts exist, so that a prunable unit is always a row:
//! - [`Layout::Rows`] for q, k, v, gate, up, the embedding and the output head: `[out][in]`, `in` a multiple of 64;
//! - [`Layout::Columns`] for o and down: the transpose `[in][out]`, `out` a multiple of 32. Scales keep the file's grouping along
//!   `in`: `[in / 32][out]`. A unit is one run of a plane, or two where its integers have bits that no word is made of (five bits:
//!   nibbles, and a fifth bit apart); scales of a group are read once for its 32 units. On software adapters every 32 outputs lie so by
//!   themselves, one such block behind the other.
//!
//! A format's planes hold as many bytes as a file, but for Q3_K and Q6_K by rows (see there).

mod bf16;
mod empty;
mod f16;
mod f32;
mod iq4_nl;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod quants;
mod search;
mod super_blocks;
mod weight;

pub(crate) use iq4_nl::LEVELS as IQ4_NL_LEVELS;
pub(crate) use weight::lies_in_blocks;
pub use weight::{HostTensor, Shard, Weight, rows_per_shard};

/// Columns that a row decoder handles between two loads of scales; rows are a multiple of it.
pub const ROW_STEP: usize = 64;
/// Outputs that a column decoder handles at once.
pub const COLUMN_BLOCK: usize = 32;

/// The formats that kernels read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightFormat {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
    /// Blocks of 32: one f16 scale, 8-bit integers.
    Q8_0,
    /// Blocks of 32: one f16 scale, 4-bit integers around 8.
    Q4_0,
    /// Blocks of 32: an f16 scale and an f16 minimum, 4-bit integers.
    Q4_1,
    /// Blocks of 32: one f16 scale, 5-bit integers around 16.
    Q5_0,
    /// Blocks of 32: an f16 scale and an f16 minimum, 5-bit integers.
    Q5_1,
    /// Blocks of 32: one f16 scale, 4-bit indices of 16 levels.
    Iq4Nl,
    /// Blocks of 256: two f16 factors, 4-bit scales and minima of 16, 2-bit integers.
    Q2K,
    /// Blocks of 256: an f16 factor, 6-bit scales of 16, 3-bit integers around 4.
    Q3K,
    /// Blocks of 256: two f16 factors, 6-bit scales and minima of 32, 4-bit integers.
    Q4K,
    /// Blocks of 256: two f16 factors, 6-bit scales and minima of 32, 5-bit integers.
    Q5K,
    /// Blocks of 256: an f16 factor, 8-bit scales of 16, 6-bit integers around 32.
    Q6K,
}

/// Which way a weight lies on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[out][in]`: a unit is an output.
    Rows,
    /// `[in][out]`: a unit is an input.
    Columns,
}

/// The two GPU buffers of a weight: quants (or the floats themselves), and scales (empty for floats).
#[derive(Debug, Clone, PartialEq)]
pub struct Planes {
    /// Values or quants.
    pub quants: Vec<u32>,
    /// Scales and minima.
    pub scales: Vec<u32>,
}

/// What a format file provides. `bytes` is always whole rows of a tensor `[rows, cols]` in the file's layout.
pub(crate) trait Format: Sync {
    /// The name users know.
    fn name(&self) -> &'static str;
    /// Elements and bytes of a block.
    fn block(&self) -> (usize, usize);
    /// Values in file order, appended to `out`.
    fn dequantise(&self, bytes: &[u8], out: &mut Vec<f32>);
    /// Appends the bytes of whole blocks of finite values. A value too large for the format leaves a scale that is not finite.
    fn quantise(&self, values: &[f32], out: &mut Vec<u8>);
    /// Index and value of the first element (or block's scale) that is NaN or infinite.
    fn first_not_finite(&self, bytes: &[u8]) -> Option<(usize, f32)>;
    /// What no value's magnitude exceeds.
    fn largest(&self, bytes: &[u8]) -> f32;
    /// Planes of the layout [`Layout::Rows`].
    fn pack_rows(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes;
    /// Planes of the layout [`Layout::Columns`].
    fn pack_columns(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes;
    /// Words of the two planes of so many rows (outputs), by columns a multiple of 32.
    fn plane_words(&self, layout: Layout, rows: usize, cols: usize) -> [usize; 2];
    /// WGSL that decodes that layout.
    fn decoder(&self, layout: Layout) -> &'static str;
}

impl WeightFormat {
    /// Every format.
    pub const ALL: [WeightFormat; 14] = [
        WeightFormat::F32,
        WeightFormat::F16,
        WeightFormat::Bf16,
        WeightFormat::Q8_0,
        WeightFormat::Q4_0,
        WeightFormat::Q4_1,
        WeightFormat::Q5_0,
        WeightFormat::Q5_1,
        WeightFormat::Iq4Nl,
        WeightFormat::Q2K,
        WeightFormat::Q3K,
        WeightFormat::Q4K,
        WeightFormat::Q5K,
        WeightFormat::Q6K,
    ];

    fn format(self) -> &'static dyn Format {
        match self {
            WeightFormat::F32 => &f32::F32,
            WeightFormat::F16 => &f16::F16,
            WeightFormat::Bf16 => &bf16::Bf16,
            WeightFormat::Q8_0 => &q8_0::Q8_0,
            WeightFormat::Q4_0 => &q4_0::Q4_0,
            WeightFormat::Q4_1 => &q4_1::Q4_1,
            WeightFormat::Q5_0 => &q5_0::Q5_0,
            WeightFormat::Q5_1 => &q5_1::Q5_1,
            WeightFormat::Iq4Nl => &iq4_nl::IQ4_NL,
            WeightFormat::Q2K => &q2_k::Q2_K,
            WeightFormat::Q3K => &q3_k::Q3_K,
            WeightFormat::Q4K => &q4_k::Q4_K,
            WeightFormat::Q5K => &q5_k::Q5_K,
            WeightFormat::Q6K => &q6_k::Q6_K,
        }
    }

    /// The format of that name ("F32", "Q4_1", ...), if kernels read it.
    pub fn by_name(name: &str) -> Option<WeightFormat> {
        WeightFormat::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// The name users know.
    pub fn name(self) -> &'static str {
        self.format().name()
    }

    /// Elements and bytes of a block in a file.
    pub fn block(self) -> (usize, usize) {
        self.format().block()
    }

    /// The format that values have which are changed: floats keep theirs, blocks become F16, for in blocks a small change would be
    /// rounded away.
    pub fn unpacked(self) -> WeightFormat {
        if self.block().0 == 1 { self } else { WeightFormat::F16 }
    }

    /// Values of whole rows, in file order.
    pub fn dequantise(self, bytes: &[u8]) -> Vec<f32> {
        let (elements, size) = self.block();
        let mut out = Vec::with_capacity(bytes.len() / size * elements);
        self.format().dequantise(bytes, &mut out);
        out
    }

    /// The bytes of whole rows of finite values: Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 as GGML's reference encoders write them, the others
    /// with scales that were searched for. What is too large for the format is found by [`WeightFormat::first_not_finite`].
    pub fn quantise(self, values: &[f32]) -> Vec<u8> {
        let (elements, size) = self.block();
        let mut out = Vec::with_capacity(values.len() / elements * size);
        self.format().quantise(values, &mut out);
        out
    }

    /// Index and value of the first element that is NaN or infinite (of a block with such a scale: its first element).
    pub fn first_not_finite(self, bytes: &[u8]) -> Option<(usize, f32)> {
        self.format().first_not_finite(bytes)
    }

    /// What no value's magnitude exceeds: the largest of floats, a bound from the scales of blocks.
    pub fn largest(self, bytes: &[u8]) -> f32 {
        self.format().largest(bytes)
    }

    /// Planes for the GPU of `rows` whole rows of `cols` elements.
    pub fn pack(self, layout: Layout, bytes: &[u8], rows: usize, cols: usize) -> Planes {
        match layout {
            Layout::Rows => self.format().pack_rows(bytes, rows, cols),
            Layout::Columns => self.format().pack_columns(bytes, rows, cols),
        }
    }

    /// Bytes of the two planes of so many outputs on the GPU, by columns a multiple of [`COLUMN_BLOCK`].
    pub fn plane_bytes(self, layout: Layout, rows: usize, cols: usize) -> [u64; 2] {
        self.format().plane_words(layout, rows, cols).map(|words| 4 * words as u64)
    }

    /// Bytes of the larger plane that one output takes on the GPU.
    pub fn plane_bytes_per_row(self, layout: Layout, cols: usize) -> usize {
        let rows = if layout == Layout::Columns { COLUMN_BLOCK } else { 1 };
        let [quants, scales] = self.plane_bytes(layout, rows, cols);
        (quants.max(scales) as usize).div_ceil(rows)
    }

    /// WGSL that decodes that layout.
    pub fn decoder(self, layout: Layout) -> &'static str {
        self.format().decoder(layout)
    }
}

/// Words from little-endian bytes, padded with zeros.
fn words(bytes: &[u8]) -> Vec<u32> {
    let mut words = vec![0; bytes.len().div_ceil(4)];
    bytemuck::cast_slice_mut::<u32, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

/// The transpose `[cols][rows]` of 16-bit elements `[rows, cols]`, two to a word.
fn transpose_halves(bytes: &[u8], rows: usize, cols: usize) -> Vec<u32> {
    let mut out = vec![0; rows * cols / 2];
    let half = |row: usize, col: usize| {
        let at = 2 * (row * cols + col);
        u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
    };
    // Two rows make a word; squares keep what is read and what is written in the caches.
    const SIDE: usize = 64;
    for (row, col) in (0..rows).step_by(SIDE).flat_map(|row| (0..cols).step_by(SIDE).map(move |col| (row, col))) {
        for col in col..cols.min(col + SIDE) {
            for row in (row..rows.min(row + SIDE)).step_by(2) {
                out[(col * rows + row) / 2] = half(row, col) | half(row + 1, col) << 16;
            }
        }
    }
    out
}

/// The first of `values` that is NaN or infinite, `stride` elements apart.
fn first_bad(mut values: impl Iterator<Item = f32>, stride: usize) -> Option<(usize, f32)> {
    let mut last = 0.0;
    let index = values.position(|value| {
        last = value;
        !value.is_finite()
    })?;
    Some((index * stride, last))
}

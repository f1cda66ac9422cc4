//! What the formats with blocks of 32 integers share: laying integers and scales out in both layouts.

use super::{Format, Layout, Planes, first_bad};

/// Elements of a block.
pub(super) const BLOCK: usize = 32;

/// A block as every such format can give it: its integers (unsigned bit patterns) and one word of scales.
pub(super) struct Block {
    /// Integers in element order.
    pub quants: [u8; BLOCK],
    /// f16 scale in the low half; f16 minimum in the high half where the format has one.
    pub scale: u32,
}

/// A format with such blocks: a scale `d`, perhaps a minimum `m`, and integers.
pub(super) struct BlockFormat {
    /// The name users know.
    pub name: &'static str,
    /// Bytes of a block in a file: `d`, then `m`, then integers.
    pub bytes: usize,
    /// Bits of an integer that lie together: 4 or 8.
    pub bits: usize,
    /// Bits above them that lie apart, so that words of the others stay whole: 0 or 1.
    pub high: usize,
    /// 16 (a scale) or 32 (a scale and a minimum).
    pub scale_bits: usize,
    /// What no value's magnitude exceeds but for the minimum, in scales.
    pub most: f32,
    /// Reads a block.
    pub open: fn(&[u8]) -> Block,
    /// The value of an integer, by `d` and `m`.
    pub value: fn(u8, f32, f32) -> f32,
    /// Appends the block of 32 values.
    pub close: fn(&[f32], &mut Vec<u8>),
    /// WGSL that decodes rows, and columns.
    pub decoders: [&'static str; 2],
}

impl Format for BlockFormat {
    fn name(&self) -> &'static str {
        self.name
    }

    fn block(&self) -> (usize, usize) {
        (BLOCK, self.bytes)
    }

    fn dequantise(&self, bytes: &[u8], out: &mut Vec<f32>) {
        for block in bytes.chunks_exact(self.bytes) {
            let (d, m) = self.factors(block);
            out.extend((self.open)(block).quants.iter().map(|&q| (self.value)(q, d, m)));
        }
    }

    fn quantise(&self, values: &[f32], out: &mut Vec<u8>) {
        values.chunks_exact(BLOCK).for_each(|values| (self.close)(values, out));
    }

    fn first_not_finite(&self, bytes: &[u8]) -> Option<(usize, f32)> {
        let factors = bytes.chunks_exact(self.bytes).map(|block| self.factors(block));
        first_bad(factors.map(|(d, m)| d + m), BLOCK)
    }

    fn largest(&self, bytes: &[u8]) -> f32 {
        let factors = bytes.chunks_exact(self.bytes).map(|block| self.factors(block));
        factors.map(|(d, m)| d.abs() * self.most + m.abs()).fold(0.0, f32::max)
    }

    fn pack_rows(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes {
        self.rows(|index| (self.open)(&bytes[index * self.bytes..][..self.bytes]), rows, cols)
    }

    fn pack_columns(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes {
        self.columns(|index| (self.open)(&bytes[index * self.bytes..][..self.bytes]), rows, cols)
    }

    fn plane_words(&self, layout: Layout, rows: usize, cols: usize) -> [usize; 2] {
        let (count, blocks) = (rows * cols, rows * cols / BLOCK);
        let scales = (blocks * self.scale_bits).div_ceil(32);
        match layout {
            Layout::Rows => [count * self.bits / 32, scales + blocks * self.high],
            Layout::Columns => [count * (self.bits + self.high) / 32, scales],
        }
    }

    fn decoder(&self, layout: Layout) -> &'static str {
        self.decoders[layout as usize]
    }
}

impl BlockFormat {
    /// Scale and minimum of a block; a format without minima has zeros.
    fn factors(&self, block: &[u8]) -> (f32, f32) {
        (half_value(block, 0), if self.scale_bits == 32 { half_value(block, 2) } else { 0.0 })
    }

    /// `[row][col]`: integers in element order from the low bits up; scales of a row's blocks in order. High bits lie among the
    /// scales, where they leave quads of words aligned: after the scales of every two blocks, a word for each.
    fn rows(&self, block: impl Fn(usize) -> Block, rows: usize, cols: usize) -> Planes {
        let mut planes = self.empty(Layout::Rows, rows, cols);
        for (index, words) in planes.quants.chunks_exact_mut(self.bits).enumerate() {
            let Block { quants, scale } = block(index);
            pack(words, &quants, 0, self.bits);
            if self.high == 0 {
                put(&mut planes.scales, index, self.scale_bits, scale);
                continue;
            }
            let step = self.scale_bits / 16 + 2;
            let words = &mut planes.scales[index / 2 * step..][..step];
            put(words, index % 2, self.scale_bits, scale);
            pack(&mut words[step - 2 + index % 2..][..1], &quants, self.bits, self.high);
        }
        planes
    }

    /// `[col][row]`, of every 32 columns first the low bits, then the high ones; scales `[col / 32][row]`. Rows come in multiples
    /// of 32.
    fn columns(&self, block: impl Fn(usize) -> Block, rows: usize, cols: usize) -> Planes {
        let mut planes = self.empty(Layout::Columns, rows, cols);
        let groups = cols / BLOCK;
        for first in (0..rows).step_by(BLOCK) {
            for group in 0..groups {
                // A word holds one element of some rows: their blocks are read together.
                let blocks: [Block; BLOCK] = std::array::from_fn(|row| block((first + row) * groups + group));
                let base = group * rows * (self.bits + self.high);
                for element in 0..BLOCK {
                    let at = element * (rows / BLOCK) + first / BLOCK;
                    let quants: [u8; BLOCK] = std::array::from_fn(|row| blocks[row].quants[element]);
                    pack(&mut planes.quants[base + at * self.bits..][..self.bits], &quants, 0, self.bits);
                    let high = base + rows * self.bits + at * self.high;
                    pack(&mut planes.quants[high..][..self.high], &quants, self.bits, self.high);
                }
                for (row, block) in blocks.iter().enumerate() {
                    put(&mut planes.scales, group * rows + first + row, self.scale_bits, block.scale);
                }
            }
        }
        planes
    }

    fn empty(&self, layout: Layout, rows: usize, cols: usize) -> Planes {
        let [quants, scales] = self.plane_words(layout, rows, cols).map(|words| vec![0; words]);
        Planes { quants, scales }
    }
}

/// Sets the `index`-th field of `bits` bits.
pub(super) fn put(plane: &mut [u32], index: usize, bits: usize, value: u32) {
    let per_word = 32 / bits;
    plane[index / per_word] |= value << (bits * (index % per_word));
}

/// `bits` bits of every value, from bit `from` of it on, from the low bits of words up.
pub(super) fn pack(words: &mut [u32], values: &[u8], from: usize, bits: usize) {
    if bits == 0 {
        return;
    }
    let mask = (1 << bits) - 1;
    for (word, values) in words.iter_mut().zip(values.chunks_exact(32 / bits)) {
        let fields =
            values.iter().enumerate().map(|(place, &value)| (u32::from(value) >> from & mask) << (bits * place));
        *word = fields.fold(0, |word, field| word | field);
    }
}

/// The 32 four-bit integers of a GGUF block: low nibbles are elements 0 to 15, high ones 16 to 31.
pub(super) fn nibbles(bytes: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}

/// The 32 five-bit integers of a GGUF block: a word of fifth bits, then [`nibbles`].
pub(super) fn fives(bytes: &[u8]) -> [u8; BLOCK] {
    let low = nibbles(&bytes[4..]);
    std::array::from_fn(|i| low[i] | (bytes[i / 8] >> (i % 8) & 1) << 4)
}

/// A 16-bit field of a block, as it is.
pub(super) fn half_bits(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// A 16-bit float field of a block.
pub(super) fn half_value(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_bits(half_bits(bytes, at)).to_f32()
}

/// Two 16-bit fields of a block that lie one behind the other, in a word.
pub(super) fn half_pair(bytes: &[u8], at: usize) -> u32 {
    u32::from(half_bits(bytes, at)) | u32::from(half_bits(bytes, at + 2)) << 16
}

/// Appends an f16.
pub(super) fn put_half(out: &mut Vec<u8>, value: f32) {
    out.extend(half::f16::from_f32(value).to_le_bytes());
}

/// Appends [`nibbles`].
pub(super) fn put_nibbles(out: &mut Vec<u8>, quants: &[u8; BLOCK]) {
    out.extend((0..16).map(|i| quants[i] & 15 | quants[16 + i] << 4));
}

/// Appends [`fives`].
pub(super) fn put_fives(out: &mut Vec<u8>, quants: &[u8; BLOCK]) {
    out.extend(quants.chunks_exact(8).map(|part| (0..8).fold(0, |byte, i| byte | part[i] >> 4 << i)));
    put_nibbles(out, quants);
}

/// What a scale multiplies by when it divides; 0 for none.
pub(super) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// The value of the largest magnitude, the first of several.
pub(super) fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, &value| if value.abs() > most.abs() { value } else { most })
}

/// The scale by which the value of the largest magnitude is `-half`, and the nearest integers around `half`: GGML's reference of Q4_0
/// and Q5_0.
pub(super) fn around(values: &[f32], half: f32) -> (f32, [u8; BLOCK]) {
    let scale = largest(values) / -half;
    let by = inverse(scale);
    let most = (2.0 * half - 1.0) as u8;
    (scale, std::array::from_fn(|i| ((values[i] * by + (half + 0.5)) as u8).min(most)))
}

/// The scale by which values above the least are integers up to `levels`, the least, and the integers: GGML's reference of Q4_1 and
/// Q5_1.
pub(super) fn above(values: &[f32], levels: f32) -> (f32, f32, [u8; BLOCK]) {
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (most - least) / levels;
    let by = inverse(scale);
    (scale, least, std::array::from_fn(|i| (((values[i] - least) * by + 0.5) as u8).min(levels as u8)))
}

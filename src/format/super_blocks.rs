//! What the formats with blocks of 256 integers, K-quants, share: laying integers, sub-scales and scales out in both layouts.
//!
//! A sub-scale has four to eight bits and is multiplied by an f16 `d` of the whole block. Their product has more bits than an f16
//! holds, and as f32 it would add 1.4 to 3.4 bits to every weight: so integers and `d` stay apart, and shaders multiply. That product
//! and its product with an integer are exact in 32 bits (11 bits of `d`, at most 7 of a sub-scale's magnitude, at most 5 of an
//! integer's), so a value is rounded once at most, where a minimum is subtracted: the order of the arithmetic makes no difference.
//!
//! By columns, 32 outputs lie beside one another as 32 inputs do in a file; sub-scales stay `[in / 16 or 32][out]` and `d` stays
//! `[in / 256][out]`, every eight groups of the former before their `d`, so that shaders find both without knowing `in`.

use super::quants::{BLOCK, half_value, pack, put};
use super::{Format, Layout, Planes, first_bad};

/// Elements of a block.
pub(super) const SUPER: usize = 256;
/// Groups of 32 elements in a block.
pub(super) const GROUPS: usize = SUPER / BLOCK;

/// A block as every such format can give it.
pub(super) struct SuperBlock {
    /// Integers in element order, unsigned bit patterns.
    pub quants: [u8; SUPER],
    /// What belongs to each 32 elements: scale and minimum, or two scales of 16 elements each, or two of both.
    pub fields: [[u8; GROUPS]; 4],
    /// f16 `d` in the low half; f16 `dmin` in the high half where the format has one.
    pub d: u32,
}

/// A format with such blocks: `d * scale * (q - middle) - dmin * minimum`.
pub(super) struct SuperFormat {
    /// The name users know.
    pub name: &'static str,
    /// Bytes of a block in a file.
    pub bytes: usize,
    /// Where `d` lies in a block, and `dmin` behind it.
    pub d_at: usize,
    /// Bits of an integer that lie together, and bits above them that lie apart so that words of the others stay whole.
    pub bits: [usize; 2],
    /// How many of [`SuperBlock::fields`] there are.
    pub fields: usize,
    /// Bits of a field, of which those above four lie apart by columns unless they fill bytes.
    pub field_bits: [usize; 2],
    /// 16 (`d`) or 32 (`d` and `dmin`).
    pub d_bits: usize,
    /// What no value's magnitude exceeds, in `d` and in `dmin` together.
    pub most: [f32; 2],
    /// Elements that share a scale.
    pub sub: usize,
    /// What is subtracted from integers.
    pub middle: f32,
    /// Reads a block.
    pub open: fn(&[u8]) -> SuperBlock,
    /// Scale and minimum of so many elements, by their number in the block.
    pub scales: fn(&SuperBlock, usize) -> [f32; 2],
    /// Appends the block of 256 values.
    pub close: fn(&[f32; SUPER], &mut Vec<u8>),
    /// Appends what is not integers of a row's blocks, by rows.
    pub row_scales: fn(&[SuperBlock], &mut Vec<u32>),
    /// How many words that are for so many blocks.
    pub row_scale_words: fn(usize) -> usize,
    /// WGSL that decodes rows, and columns.
    pub decoders: [&'static str; 2],
}

impl Format for SuperFormat {
    fn name(&self) -> &'static str {
        self.name
    }

    fn block(&self) -> (usize, usize) {
        (SUPER, self.bytes)
    }

    fn dequantise(&self, bytes: &[u8], out: &mut Vec<f32>) {
        for bytes in bytes.chunks_exact(self.bytes) {
            let (block, [d, dmin]) = ((self.open)(bytes), self.factors(bytes));
            for (index, quants) in block.quants.chunks_exact(self.sub).enumerate() {
                let [scale, minimum] = (self.scales)(&block, index);
                let (scale, minimum) = (d * scale, dmin * minimum);
                out.extend(quants.iter().map(|&q| scale * (f32::from(q) - self.middle) - minimum));
            }
        }
    }

    fn quantise(&self, values: &[f32], out: &mut Vec<u8>) {
        values.as_chunks::<SUPER>().0.iter().for_each(|values| (self.close)(values, out));
    }

    fn first_not_finite(&self, bytes: &[u8]) -> Option<(usize, f32)> {
        let factors = bytes.chunks_exact(self.bytes).map(|block| self.factors(block));
        first_bad(factors.map(|[d, dmin]| d + dmin), SUPER)
    }

    fn largest(&self, bytes: &[u8]) -> f32 {
        let factors = bytes.chunks_exact(self.bytes).map(|block| self.factors(block));
        factors.map(|[d, dmin]| d.abs() * self.most[0] + dmin.abs() * self.most[1]).fold(0.0, f32::max)
    }

    fn pack_rows(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes {
        self.rows(bytes, rows, cols)
    }

    fn pack_columns(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes {
        self.columns(bytes, rows, cols)
    }

    fn plane_words(&self, layout: Layout, rows: usize, cols: usize) -> [usize; 2] {
        let quants = rows * cols * (self.bits[0] + self.bits[1]) / 32;
        let field_words = self.fields * (self.field_bits[0] + self.field_bits[1]);
        match layout {
            Layout::Rows => [quants, rows * (self.row_scale_words)(cols / SUPER)],
            Layout::Columns => [quants, rows / BLOCK * (cols / SUPER) * (GROUPS * field_words + self.d_bits)],
        }
    }

    fn decoder(&self, layout: Layout) -> &'static str {
        self.decoders[layout as usize]
    }
}

impl SuperFormat {
    /// `d` and `dmin` of a block; a format without minima has zeros.
    fn factors(&self, block: &[u8]) -> [f32; 2] {
        [half_value(block, self.d_at), if self.d_bits == 32 { half_value(block, self.d_at + 2) } else { 0.0 }]
    }

    /// `[row][col / 256]`, of every block first the low bits in element order, then the high ones.
    fn rows(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes {
        let [quants, scales] = self.plane_words(Layout::Rows, rows, cols);
        let mut planes = Planes { quants: vec![0; quants], scales: Vec::with_capacity(scales) };
        let [low, high] = self.bits;
        let mut words = planes.quants.chunks_exact_mut(GROUPS * (low + high));
        for row in bytes.chunks_exact(cols / SUPER * self.bytes) {
            let row: Vec<SuperBlock> = row.chunks_exact(self.bytes).map(self.open).collect();
            for (block, words) in row.iter().zip(&mut words) {
                let (lows, highs) = words.split_at_mut(GROUPS * low);
                pack(lows, &block.quants, 0, low);
                pack(highs, &block.quants, low, high);
            }
            (self.row_scales)(&row, &mut planes.scales);
        }
        planes
    }

    /// `[col][row]`, of every 32 columns first the low bits, then the high ones. Of every 256 columns first the fields
    /// `[col / 32][row / 32]`, low bits of 32 rows for each field, then the bits above them, then `d` as `[row]`. Rows come in
    /// multiples of 32.
    fn columns(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes {
        let [quants, scales] = self.plane_words(Layout::Columns, rows, cols);
        let mut planes = Planes { quants: vec![0; quants], scales: vec![0; scales] };
        let ([low, high], [field_low, field_high]) = (self.bits, self.field_bits);
        let (supers, blocks) = (cols / SUPER, rows / BLOCK);
        let field_words = self.fields * (field_low + field_high);
        for (block, part) in bytes.chunks_exact(BLOCK * supers * self.bytes).enumerate() {
            for index in 0..supers {
                let column: Vec<SuperBlock> = (0..BLOCK)
                    .map(|row| (self.open)(&part[(row * supers + index) * self.bytes..][..self.bytes]))
                    .collect();
                for group in 0..GROUPS {
                    let base = (index * GROUPS + group) * rows * (low + high);
                    for element in 0..BLOCK {
                        let at = element * blocks + block;
                        let values: [u8; BLOCK] =
                            std::array::from_fn(|row| column[row].quants[group * BLOCK + element]);
                        pack(&mut planes.quants[base + at * low..][..low], &values, 0, low);
                        pack(&mut planes.quants[base + rows * low + at * high..][..high], &values, low, high);
                    }
                }
                let words = blocks * (GROUPS * field_words + self.d_bits);
                let scales = &mut planes.scales[index * words..][..words];
                for group in 0..GROUPS {
                    let words = &mut scales[(group * blocks + block) * field_words..][..field_words];
                    let (lows, highs) = words.split_at_mut(self.fields * field_low);
                    for field in 0..self.fields {
                        let values: [u8; BLOCK] = std::array::from_fn(|row| column[row].fields[field][group]);
                        pack(&mut lows[field * field_low..][..field_low], &values, 0, field_low);
                        pack(&mut highs[field * field_high..][..field_high], &values, field_low, field_high);
                    }
                }
                let d = &mut scales[blocks * GROUPS * field_words + block * self.d_bits..][..self.d_bits];
                column.iter().enumerate().for_each(|(row, block)| put(d, row, self.d_bits, block.d));
            }
        }
        planes
    }
}

/// The scales of a row whose blocks have two fields of six bits: a word of low nibbles of each field, a word of the bits above them
/// (one half for each field), and a word with `d`.
pub(super) fn sixes(row: &[SuperBlock], words: &mut Vec<u32>) {
    for SuperBlock { fields, d, .. } in row {
        let mut header = [0; 4];
        for field in 0..2 {
            pack(&mut header[field..][..1], &fields[field], 0, 4);
            for (group, &value) in fields[field].iter().enumerate() {
                put(&mut header[2..3], GROUPS * field + group, 2, (value >> 4).into());
            }
        }
        header[3] = *d;
        words.extend(header);
    }
}

/// Scales and minima of Q4_K and Q5_K, of six bits each, from 12 bytes.
pub(super) fn scales_and_minima(bytes: &[u8]) -> [[u8; GROUPS]; 2] {
    let lower = |at: usize| std::array::from_fn(|i| if i < 4 { bytes[at + i] & 63 } else { 0 });
    let [mut scales, mut minima]: [[u8; GROUPS]; 2] = [lower(0), lower(4)];
    for i in 0..4 {
        scales[4 + i] = bytes[8 + i] & 15 | bytes[i] >> 6 << 4;
        minima[4 + i] = bytes[8 + i] >> 4 | bytes[4 + i] >> 6 << 4;
    }
    [scales, minima]
}

/// The 12 bytes that [`scales_and_minima`] reads.
pub(super) fn put_scales_and_minima(out: &mut Vec<u8>, fields: [&[f32; GROUPS]; 2]) {
    let [scales, minima] = fields.map(|field| field.map(|value| value as u8));
    for field in [&scales, &minima] {
        out.extend((0..4).map(|i| field[i] | field[4 + i] >> 4 << 6));
    }
    out.extend((0..4).map(|i| scales[4 + i] & 15 | minima[4 + i] << 4));
}

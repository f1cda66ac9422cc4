//! What the formats with blocks of 32 integers share: laying integers and scales out in both layouts.

use super::Planes;

/// Elements of a block.
pub(super) const BLOCK: usize = 32;

/// A block as every such format can give it: its integers (unsigned bit patterns) and one word of scales.
pub(super) struct Block {
    /// Integers in element order.
    pub quants: [u8; BLOCK],
    /// f16 scale in the low half; f16 minimum in the high half where the format has one.
    pub scale: u32,
}

/// Lays blocks out. `bits` per integer is 4 or 8; `scale_bits` is 16 (a scale) or 32 (a scale and a minimum).
pub(super) struct Packer {
    pub bits: usize,
    pub scale_bits: usize,
}

impl Packer {
    /// `[row][col]`: integers in element order from the low bits up; scales of a row's blocks in order.
    pub(super) fn rows(&self, blocks: impl Iterator<Item = Block>, rows: usize, cols: usize) -> Planes {
        let mut planes = self.empty(rows, cols);
        for (index, block) in blocks.enumerate() {
            for (element, &quant) in block.quants.iter().enumerate() {
                put(&mut planes.quants, index * BLOCK + element, self.bits, quant.into());
            }
            put(&mut planes.scales, index, self.scale_bits, block.scale);
        }
        planes
    }

    /// `[col][row]`; scales `[col / 32][row]`.
    pub(super) fn columns(&self, blocks: impl Iterator<Item = Block>, rows: usize, cols: usize) -> Planes {
        let mut planes = self.empty(rows, cols);
        let groups = cols / BLOCK;
        for (index, block) in blocks.enumerate() {
            let (row, group) = (index / groups, index % groups);
            for (element, &quant) in block.quants.iter().enumerate() {
                put(&mut planes.quants, (group * BLOCK + element) * rows + row, self.bits, quant.into());
            }
            put(&mut planes.scales, group * rows + row, self.scale_bits, block.scale);
        }
        planes
    }

    fn empty(&self, rows: usize, cols: usize) -> Planes {
        let count = rows * cols;
        Planes {
            quants: vec![0; (count * self.bits).div_ceil(32)],
            scales: vec![0; (count / BLOCK * self.scale_bits).div_ceil(32)],
        }
    }
}

/// Sets the `index`-th field of `bits` bits.
fn put(plane: &mut [u32], index: usize, bits: usize, value: u32) {
    let per_word = 32 / bits;
    plane[index / per_word] |= value << (bits * (index % per_word));
}

/// The 32 four-bit integers of a GGUF block: low nibbles are elements 0 to 15, high ones 16 to 31.
pub(super) fn nibbles(bytes: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}

/// A 16-bit field of a block, as it is.
pub(super) fn half_bits(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// A 16-bit float field of a block.
pub(super) fn half_value(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_bits(half_bits(bytes, at)).to_f32()
}

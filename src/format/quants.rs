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
    pub(super) fn rows(&self, block: impl Fn(usize) -> Block, rows: usize, cols: usize) -> Planes {
        let mut planes = self.empty(rows, cols);
        let per_word = 32 / self.bits;
        for (index, words) in planes.quants.chunks_exact_mut(BLOCK / per_word).enumerate() {
            let Block { quants, scale } = block(index);
            for (word, quants) in words.iter_mut().zip(quants.chunks_exact(per_word)) {
                *word = self.word(quants.iter().copied());
            }
            put(&mut planes.scales, index, self.scale_bits, scale);
        }
        planes
    }

    /// `[col][row]`; scales `[col / 32][row]`. Rows come in multiples of 32.
    pub(super) fn columns(&self, block: impl Fn(usize) -> Block, rows: usize, cols: usize) -> Planes {
        let mut planes = self.empty(rows, cols);
        let (groups, per_word) = (cols / BLOCK, 32 / self.bits);
        // A word holds one element of some rows: their blocks are read together.
        for first in (0..rows).step_by(per_word) {
            for group in 0..groups {
                let mut blocks = [const { Block { quants: [0; BLOCK], scale: 0 } }; 8];
                let blocks = &mut blocks[..per_word];
                blocks.iter_mut().enumerate().for_each(|(row, slot)| *slot = block((first + row) * groups + group));
                for element in 0..BLOCK {
                    let quants = blocks.iter().map(|block| block.quants[element]);
                    planes.quants[((group * BLOCK + element) * rows + first) / per_word] = self.word(quants);
                }
                for (row, block) in blocks.iter().enumerate() {
                    put(&mut planes.scales, group * rows + first + row, self.scale_bits, block.scale);
                }
            }
        }
        planes
    }

    /// Integers from the low bits up.
    fn word(&self, quants: impl Iterator<Item = u8>) -> u32 {
        quants.enumerate().fold(0, |word, (place, quant)| word | u32::from(quant) << (self.bits * place))
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

//! BF16: the upper half of 32-bit floats, two to a word.

use super::{Format, Layout, Planes, first_bad, transpose_halves, words};

pub(super) struct Bf16;

impl Format for Bf16 {
    fn name(&self) -> &'static str {
        "BF16"
    }

    fn block(&self) -> (usize, usize) {
        (1, 2)
    }

    fn dequantise(&self, bytes: &[u8], out: &mut Vec<f32>) {
        out.extend(bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()));
    }

    fn quantise(&self, values: &[f32], out: &mut Vec<u8>) {
        out.extend(values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()));
    }

    fn first_not_finite(&self, bytes: &[u8]) -> Option<(usize, f32)> {
        first_bad(bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()), 1)
    }

    fn largest(&self, bytes: &[u8]) -> f32 {
        let sizes = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]) & 0x7fff);
        half::bf16::from_bits(sizes.max().unwrap_or(0)).to_f32()
    }

    fn pack_rows(&self, bytes: &[u8], _rows: usize, _cols: usize) -> Planes {
        Planes { quants: words(bytes), scales: Vec::new() }
    }

    fn pack_columns(&self, bytes: &[u8], rows: usize, cols: usize) -> Planes {
        Planes { quants: transpose_halves(bytes, rows, cols), scales: Vec::new() }
    }

    fn plane_words(&self, _layout: Layout, rows: usize, cols: usize) -> [usize; 2] {
        [(rows * cols).div_ceil(2), 0]
    }

    fn decoder(&self, layout: Layout) -> &'static str {
        match layout {
            Layout::Rows => include_str!("../../shaders/common/rows_bf16.wgsl"),
            Layout::Columns => include_str!("../../shaders/common/columns_bf16.wgsl"),
        }
    }
}
